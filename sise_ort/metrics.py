"""How well a heat map points at what is known to be the evidence, and how much the network's answer rests on it (docs/method.md, Metrics).

Localisation: `energy_pointing_game` (EBPG), `intersection_over_union` (mIoU), `bbox_share` (Bbox) compare a heat map
with the truth. Faithfulness: `hard_mask` and `pixel_order` say what to show the network, `drop`, `increase` and
`area_under_curve` what its answers mean. `correlation` says how alike two heat maps are. Heat maps have many equal pixels: localisation takes the expectation over
their order, masks break it by one fixed permutation, and `tied_share` says how many there are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]


def energy_pointing_game(heatmap: Map, truth: Map) -> float:
    """EBPG: the share of a heat map's energy that lies on the truth, Σ(S·G) / ΣS.

    Parameters
    ----------
    heatmap : S, not negative, [H, W].
    truth : G, bool (or 0 and 1) [H, W].

    Returns
    -------
    In [0, 1]; NaN where the map or the truth is empty (leave the picture out, and count it).

    Raises
    ------
    ValueError : the shapes differ, or the map is not finite.

    Source: Wang et al., Score-CAM, CVPR-W 2020 (arXiv 1910.01279).
    """
    truth = _checked(heatmap, truth)
    energy = float(heatmap.sum(dtype=np.float64))
    if energy <= 0 or not truth.any():
        return math.nan
    return float((heatmap * truth).sum(dtype=np.float64)) / energy


def intersection_over_union(heatmap: Map, truth: Map, share: float = 0.2) -> float:
    """IoU of the map's highest pixels, a `share` of all, with the truth; its mean over pictures is the mIoU.

    Parameters and errors as in `energy_pointing_game`; share in (0, 1].

    Returns
    -------
    In [0, 1], with the expected number of hits over the order of equal pixels; NaN where the truth is empty. An
    empty map has all pixels equal: it scores as chance does.

    Source: SISE, AAAI-21 (arXiv 2010.00672), section "Evaluation".
    """
    truth = _checked(heatmap, truth)
    if not truth.any():
        return math.nan
    count = _count(heatmap, share)
    hits = _expected_hits(heatmap, truth, count)
    return hits / (count + int(truth.sum()) - hits)


def bbox_share(heatmap: Map, truth: Map) -> float:
    """Bbox: with N = |G|, the share of the map's N highest pixels that fall in G.

    Parameters, returns and errors as in `intersection_over_union`.

    Source: Schulz et al., Restricting the Flow, ICLR 2020 (arXiv 2001.00396).
    """
    truth = _checked(heatmap, truth)
    if not truth.any():
        return math.nan
    count = int(truth.sum())
    return _expected_hits(heatmap, truth, count) / count


def hard_mask(heatmap: Map, share: float = 0.15, seed: int = 0) -> NDArray[np.bool_]:
    """The map's highest pixels, exactly round(share · H · W) of them, bool [H, W]; share in (0, 1]."""
    mask = np.zeros(heatmap.size, bool)
    mask[pixel_order(heatmap, seed)[: _count(heatmap, share)]] = True
    return mask.reshape(heatmap.shape)


def pixel_order(heatmap: Map, seed: int = 0) -> NDArray[np.int64]:
    """Places of the flattened map [H, W], highest pixel first, int64 [H · W].

    Equal pixels stand in the order of one permutation, which depends on `seed` and the size alone: it is the same for
    every method.
    """
    _check_map(heatmap)
    shuffled = np.random.default_rng(seed).permutation(heatmap.size)
    return shuffled[np.argsort(-heatmap.ravel()[shuffled], kind="stable")].astype(np.int64)


def tied_share(heatmap: Map, share: float = 0.15) -> float:
    """The share of all pixels that are as high as the last one inside the mask, where not all of them fit in; else 0."""
    _check_map(heatmap)
    count = _count(heatmap, share)
    level = np.partition(heatmap.ravel(), -count)[-count]
    tied = int((heatmap == level).sum())
    return tied / heatmap.size if int((heatmap >= level).sum()) > count else 0.0


def drop(confidence: float, masked: float) -> float:
    """How much of a confidence is lost when only the mask is shown: max(0, Ψ(I) - Ψ(I ⊙ T)) / Ψ(I).

    In [0, 1]; its mean over pictures times 100 is Drop %. Confidences are probabilities in [0, 1]; 0 loses nothing.

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018 (arXiv 1710.11063).
    """
    _check_probability(confidence, masked)
    return max(0.0, confidence - masked) / confidence if confidence > 0 else 0.0


def increase(confidence: float, masked: float) -> bool:
    """Whether the mask alone is more convincing than the whole picture, Ψ(I ⊙ T) > Ψ(I); the share over pictures,
    times 100, is Increase % (Grad-CAM++, as in `drop`)."""
    _check_probability(confidence, masked)
    return masked > confidence


def area_under_curve(confidences: NDArray[Any]) -> float:
    """Area under confidences [steps + 1] at equal steps from none to all of the pixels, by the trapezoidal rule.

    Insertion AUC (higher is better) where pixels are put in, deletion AUC (lower is better) where they are taken
    away, in the order of `pixel_order`.

    Source: Petsiuk et al., RISE, BMVC 2018 (arXiv 1806.07421).
    """
    values = np.asarray(confidences, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"confidences must be at least two finite numbers, not an array of shape {values.shape}"
        )
    return float((values.sum() - (values[0] + values[-1]) / 2) / (len(values) - 1))


def correlation(a: Map, b: Map) -> float:
    """Pearson's correlation of two maps; 1 where they are equal, 0 where only one of them is flat."""
    x, y = (v.ravel().astype(np.float64) - float(v.mean()) for v in (a, b))
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    if size > 0:
        return float(x @ y) / size
    return 1.0 if np.array_equal(a, b) else 0.0


def _expected_hits(heatmap: Map, truth: NDArray[np.bool_], count: int) -> float:
    """Pixels of the truth among the `count` highest: those above the level, and of the equal ones their even share."""
    level = np.partition(heatmap.ravel(), -count)[-count]
    above, tied = heatmap > level, heatmap == level
    left = count - int(above.sum())
    return float((above & truth).sum()) + left / int(tied.sum()) * float((tied & truth).sum())


def _count(heatmap: Map, share: float) -> int:
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1")
    return max(1, math.floor(share * heatmap.size + 0.5))


def _checked(heatmap: Map, truth: Map) -> NDArray[np.bool_]:
    if heatmap.shape != truth.shape:
        raise ValueError(f"heatmap has shape {heatmap.shape}, truth {truth.shape}")
    _check_map(heatmap)
    return truth.astype(bool)


def _check_map(heatmap: Map) -> None:
    if heatmap.size == 0 or not np.isfinite(heatmap).all():
        raise ValueError(f"heatmap of shape {heatmap.shape} is empty or not finite")


def _check_probability(*values: float) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(
                f"confidence {value} is no probability; raw-score heads have no Drop or Increase"
            )
