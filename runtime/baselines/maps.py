"""From a method's numbers to a heat map of network size, with NumPy alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

NO_EVIDENCE = "there is no evidence for the class: the heat map is zero"


def to_heatmap(
    values: NDArray[np.floating], size: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The positive part of a map [h, w], upsampled to `size`, with its maximum at 1; and a note where there is none."""
    wide = upsample(np.maximum(values, 0.0).astype(np.float64), size)
    peak = float(wide.max())
    if peak <= 0:
        return np.zeros(size, np.float32), (NO_EVIDENCE,)
    return (wide / peak).astype(np.float32), ()


def upsample(values: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.floating]:
    """[..., h, w] -> [..., H, W], bilinear, half-pixel centres, edges repeated (as OpenCV and mask.onnx do)."""
    rows, columns = (hat_matrix(n, m) for n, m in zip(size, values.shape[-2:], strict=True))
    found: NDArray[np.floating] = rows @ values @ columns.T
    return found


def hat_matrix(wide: int, narrow: int, first: int = 0, rows: int | None = None) -> NDArray[np.float64]:
    """Linear interpolation from `narrow` to `wide` places as a matrix: rows first … first + rows of [wide, narrow]."""
    centres = (np.arange(first, first + (wide if rows is None else rows)) + 0.5) * narrow / wide - 0.5
    centres = np.clip(centres, 0, narrow - 1)
    return np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(narrow)))


def gaussian_matrix(length: int, sigma: float) -> NDArray[np.float64]:
    """Gaussian smoothing along one axis as a matrix [length, length]: the kernel is cut at ⌈4σ⌉ and sums to 1; what
    lies outside the picture is 0."""
    if sigma <= 0:
        return np.eye(length)
    width = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-width, width + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    distance = np.arange(length)[:, None] - np.arange(length) + width
    inside = (distance >= 0) & (distance <= 2 * width)
    return np.where(inside, kernel[np.clip(distance, 0, 2 * width)], 0.0)
