"""Metrics of heat maps: do they point at the known evidence, and does the network's answer rest on them?

They are defined in docs/method.md, Metrics. Localisation: `energy_pointing_game` (EBPG), `intersection_over_union` (mIoU) and
`bbox_share` (Bbox) compare a heat map with the truth. Faithfulness: `hard_mask` and `pixel_order` say what to show the
network, `drop`, `increase` and `area_under_curve` what its answers mean. `correlation` says how alike two heat maps are.

Heat maps have many equal pixels. Localisation takes the expectation over their order, masks break ties by one fixed
permutation, and `tied_share` says how many pixels are tied.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]


def energy_pointing_game(heatmap: Map, truth: Map) -> float:
    """EBPG, the share of a heat map's energy that lies on the truth: Σ(S·G) / ΣS.

    Parameters
    ----------
    heatmap : numpy.ndarray, [H, W]
        S, not negative.
    truth : numpy.ndarray, bool (or 0 and 1) [H, W]
        G, the pixels of the object or defect.

    Returns
    -------
    float
        In [0, 1]; NaN where the map or the truth is empty (leave the picture out, and count it).

    Raises
    ------
    ValueError
        The shapes differ, or the map is empty or not finite.

    References
    ----------
    Wang et al., Score-CAM, CVPR-W 2020 (arXiv 1910.01279).
    """
    truth = _checked(heatmap, truth)
    energy = float(heatmap.sum(dtype=np.float64))
    if energy <= 0 or not truth.any():
        return math.nan
    return float((heatmap * truth).sum(dtype=np.float64)) / energy


def intersection_over_union(heatmap: Map, truth: Map, share: float = 0.2) -> float:
    """IoU of a heat map's highest pixels with the truth; its mean over pictures is the mIoU.

    Parameters
    ----------
    heatmap : numpy.ndarray, [H, W]
    truth : numpy.ndarray, bool (or 0 and 1) [H, W]
    share : float in (0, 1]
        Pixels of the heat map that are taken, as a share of all.

    Returns
    -------
    float
        In [0, 1], with the expected number of hits over all orders of equal pixels; NaN where the truth is empty. An empty map
        has all pixels equal and scores as chance does.

    Raises
    ------
    ValueError
        The shapes differ, the map is empty or not finite, or `share` is out of range.

    References
    ----------
    SISE, AAAI-21 (arXiv 2010.00672), section "Evaluation".
    """
    truth = _checked(heatmap, truth)
    if not truth.any():
        return math.nan
    count = _count(heatmap, share)
    hits = _expected_hits(heatmap, truth, count)
    return hits / (count + int(truth.sum()) - hits)


def bbox_share(heatmap: Map, truth: Map) -> float:
    """Bbox, the share of a heat map's N highest pixels that lie on the truth of N pixels.

    Parameters
    ----------
    heatmap : numpy.ndarray, [H, W]
    truth : numpy.ndarray, bool (or 0 and 1) [H, W]

    Returns
    -------
    float
        As in `intersection_over_union`.

    Raises
    ------
    ValueError
        The shapes differ, or the map is empty or not finite.

    References
    ----------
    Schulz et al., Restricting the Flow, ICLR 2020 (arXiv 2001.00396).
    """
    truth = _checked(heatmap, truth)
    if not truth.any():
        return math.nan
    count = int(truth.sum())
    return _expected_hits(heatmap, truth, count) / count


def hard_mask(heatmap: Map, share: float = 0.15, seed: int = 0) -> NDArray[np.bool_]:
    """Mark a heat map's highest pixels, exactly round(share · H · W) of them.

    Parameters
    ----------
    heatmap : numpy.ndarray, [H, W]
    share : float in (0, 1]
    seed : int
        Seed of the permutation that breaks ties (`pixel_order`).

    Returns
    -------
    numpy.ndarray, bool [H, W]
    """
    mask = np.zeros(heatmap.size, bool)
    mask[pixel_order(heatmap, seed)[: _count(heatmap, share)]] = True
    return mask.reshape(heatmap.shape)


def pixel_order(heatmap: Map, seed: int = 0) -> NDArray[np.int64]:
    """Sort the places of a flattened heat map, highest pixel first.

    Equal pixels stand in the order of one permutation, which depends on `seed` and the size alone: it is the same for
    every method.

    Parameters
    ----------
    heatmap : numpy.ndarray, [H, W]
    seed : int

    Returns
    -------
    numpy.ndarray, int64 [H · W]
    """
    _check_map(heatmap)
    shuffled = np.random.default_rng(seed).permutation(heatmap.size)
    return shuffled[np.argsort(-heatmap.ravel()[shuffled], kind="stable")].astype(np.int64)


def tied_share(heatmap: Map, share: float = 0.15) -> float:
    """Share of all pixels that are tied at the edge of a hard mask.

    They are as high as the last pixel inside the mask. 0 where all of them fit in.

    Parameters
    ----------
    heatmap : numpy.ndarray, [H, W]
    share : float in (0, 1]
        Size of the mask (`hard_mask`).

    Returns
    -------
    float in [0, 1]
    """
    _check_map(heatmap)
    count = _count(heatmap, share)
    level = np.partition(heatmap.ravel(), -count)[-count]
    tied = int((heatmap == level).sum())
    return tied / heatmap.size if int((heatmap >= level).sum()) > count else 0.0


def drop(confidence: float, masked: float) -> float:
    """Share of a confidence that is lost when only the mask is shown: max(0, Ψ(I) - Ψ(I ⊙ T)) / Ψ(I).

    Its mean over pictures times 100 is Drop %.

    Parameters
    ----------
    confidence, masked : float in [0, 1]
        Ψ of the whole picture, and of the picture seen through the mask.

    Returns
    -------
    float
        In [0, 1]; 0 where `confidence` is 0.

    Raises
    ------
    ValueError
        A confidence is no probability.

    References
    ----------
    Chattopadhay et al., Grad-CAM++, WACV 2018 (arXiv 1710.11063).
    """
    _check_probability(confidence, masked)
    return max(0.0, confidence - masked) / confidence if confidence > 0 else 0.0


def increase(confidence: float, masked: float) -> bool:
    """Whether the mask alone is more convincing than the whole picture: Ψ(I ⊙ T) > Ψ(I).

    Its share of pictures times 100 is Increase % (Grad-CAM++; parameters and errors as in `drop`).
    """
    _check_probability(confidence, masked)
    return masked > confidence


def area_under_curve(confidences: NDArray[Any]) -> float:
    """Area under the curve of confidences while pixels are put in or taken away, by the trapezoidal rule.

    It is the insertion AUC (higher is better) where pixels are put in, in the order of `pixel_order`, and the deletion AUC
    (lower is better) where they are taken away.

    Parameters
    ----------
    confidences : numpy.ndarray, [steps + 1]
        At equal steps from none to all of the pixels.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        There are fewer than two confidences, or one is not finite.

    References
    ----------
    Petsiuk et al., RISE, BMVC 2018 (arXiv 1806.07421).
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
