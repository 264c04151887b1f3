"""How well a heat map points at what is known to be the evidence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def energy_pointing_game(heatmap: NDArray[Any], truth: NDArray[Any]) -> float:
    """EBPG: the share of a heat map's energy that lies on the truth, Σ(S·G) / ΣS (METHOD §5).

    Parameters
    ----------
    heatmap : S, not negative, [H, W].
    truth : G, bool (or 0 and 1) [H, W].

    Returns
    -------
    In [0, 1]; NaN where the map or the truth is empty (leave the picture out, and count it).

    Raises
    ------
    ValueError : the shapes differ.

    Source: Wang et al., Score-CAM, CVPR-W 2020 (arXiv 1910.01279).
    """
    if heatmap.shape != truth.shape:
        raise ValueError(f"heatmap has shape {heatmap.shape}, truth {truth.shape}")
    energy = float(heatmap.sum(dtype=np.float64))
    if energy <= 0 or not truth.any():
        return math.nan
    return float((heatmap * truth.astype(bool)).sum(dtype=np.float64)) / energy
