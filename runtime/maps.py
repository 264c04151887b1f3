"""From a method's numbers to a heat map of network size, with NumPy alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.formulas import resampling
from sise_ort.formulas.numpy_ops import NumpyOps

NO_EVIDENCE = "there is no evidence for what is asked: the heat map is zero"


def to_heatmap(
    values: NDArray[np.floating], size: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The positive part of a map [h, w], upsampled to `size`, with its maximum at 1; and a note where there is none.

    Raises
    ------
    FrameError
        A value is not finite.
    """
    if not np.isfinite(values).all():
        raise FrameError(
            "the network's feature maps or gradients for this frame give a map with NaN or infinity"
        )
    wide = upsample(np.maximum(values, 0.0).astype(np.float64), size)
    peak = float(wide.max())
    if peak <= 0:
        return np.zeros(size, np.float32), (NO_EVIDENCE,)
    return (wide / peak).astype(np.float32), ()


def upsample(values: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float64]:
    """Maps [..., h, w] at the size [..., H, W], in float64; see `sise_ort.formulas.resampling.upsample`."""
    maps = values.astype(np.float64).reshape(1, -1, *values.shape[-2:])
    return resampling.upsample(NumpyOps(), maps, *size).reshape(*values.shape[:-2], *size)


def gaussian_matrix(length: int, sigma: float) -> NDArray[np.float64]:
    """Gaussian smoothing along one axis as a matrix [length, length].

    The kernel is cut at ⌈4σ⌉ and sums to 1; places outside the picture count as 0.
    """
    if sigma <= 0:
        return np.eye(length)
    width = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-width, width + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    distance = np.arange(length)[:, None] - np.arange(length) + width
    inside = (distance >= 0) & (distance <= 2 * width)
    return np.where(inside, kernel[np.clip(distance, 0, 2 * width)], 0.0)
