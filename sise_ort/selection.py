"""Which feature maps become attribution masks: the threshold μ, and Otsu's threshold for Ada-SISE."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sise_ort.errors import ParameterError

FLAT = 1e-5
"""A map is flat where (max - min) / max|map| is at most this; flat maps are never masks."""

OTSU_BINS = 256


def check_mu(mu: float | str) -> float | str:
    """Return `mu` where it is a number in [0, 1) or "adaptive".

    Raises
    ------
    ParameterError : it is neither.
    """
    if mu == "adaptive":
        return mu
    try:
        number = float(mu)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(mu, bool) or not 0.0 <= number < 1.0:
        raise ParameterError(f'mu is {mu!r}; it must be a number in [0, 1) or "adaptive"')
    return number


def select_maps(pooled_gradients: ArrayLike, spans: ArrayLike, mu: float | str = 0.0) -> NDArray[np.bool_]:
    """The feature maps of one block that become masks.

    Keeps map k where α_k > μ·β with β = max α, α_k > 0, and the map is not flat (METHOD §2). "adaptive" puts
    Otsu's threshold of α/β over the positive ones in place of μ (Ada-SISE, arXiv 2102.07799).

    Parameters
    ----------
    pooled_gradients : α, float [N].
    spans : (max - min) / max|map| of each map, float [N].
    mu : in [0, 1), or "adaptive".

    Returns
    -------
    bool [N].
    """
    alpha = np.asarray(pooled_gradients, dtype=np.float64)
    candidates = alpha > 0
    beta = alpha.max(initial=0.0)
    if beta <= 0:
        return candidates
    threshold: float
    if mu == "adaptive":
        positive = alpha[candidates] / beta
        threshold = otsu_threshold(positive) if np.ptp(positive) > 0 else 0.0
    else:
        threshold = float(mu)
    kept: NDArray[np.bool_] = candidates & (alpha > threshold * beta) & (np.asarray(spans) > FLAT)
    return kept


def otsu_threshold(values: NDArray[Any]) -> float:
    """Otsu's threshold of values in [0, 1]; what is above it belongs to the upper class. See `otsu_thresholds`."""
    return float(otsu_thresholds(np.asarray(values).reshape(1, -1))[0])


def otsu_thresholds(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Otsu's threshold of each row of values in [0, 1], [R, n] -> [R].

    The centre of the first of 256 bins, ``min(255, floor(256 v))``, that maximises the between-class variance
    (Otsu 1979). Computed on whole numbers, so equal maxima are equal.
    """
    bins = np.minimum(np.floor(rows * OTSU_BINS), OTSU_BINS - 1).astype(np.int64)
    bins += OTSU_BINS * np.arange(len(rows))[:, None]
    histogram = np.bincount(bins.ravel(), minlength=OTSU_BINS * len(rows)).reshape(-1, OTSU_BINS)
    below = np.cumsum(histogram, axis=1).astype(np.float64)
    below_sum = np.cumsum(histogram * np.arange(OTSU_BINS), axis=1).astype(np.float64)
    count, total = below[:, -1:], below_sum[:, -1:]
    both = below * (count - below)
    variance = np.full(both.shape, -1.0)
    np.divide((below_sum * count - total * below) ** 2, both, out=variance, where=both > 0)
    found: NDArray[np.float64] = (np.argmax(variance, axis=1) + 0.5) / OTSU_BINS
    return found
