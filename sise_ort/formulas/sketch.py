"""Masks on a coarse grid, for predicting what a mask would score (docs/budget.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.resampling import cell_means, hat_matrix
from sise_ort.formulas.scaling import scale

CELLS = 14
"""Cells along a side of a square picture; other pictures have about as many, and cells about as square."""


def grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells for a picture."""
    shape = (height / width) ** 0.5
    return min(height, max(1, round(CELLS * shape))), min(width, max(1, round(CELLS / shape)))


def to_cells(op: Ops[V], maps: V, shape: tuple[int, int], size: tuple[int, int]) -> V:
    """Maps [n, h, w] upsampled linearly and averaged over the cells, [n, R, C].

    Parameters
    ----------
    op : Ops
    maps : value [n, h, w]
    shape : (h, w)
    size : (H, W)
        Size of the picture that the cells divide.
    """
    down, across = (
        _to_cells_along(cells, *lengths)
        for cells, lengths in zip(grid(*size), zip(size, shape, strict=True), strict=True)
    )
    return op.MatMul(op.MatMul(op.constant(down), maps), op.constant(across.T))


def _to_cells_along(cells: int, wide: int, narrow: int) -> NDArray[np.float64]:
    return cell_means(cells, wide) @ hat_matrix(wide, narrow)


def small_masks(op: Ops[V], maps: V) -> tuple[V, V]:
    """Maps [n, h, w] scaled to [0, 1] at feature resolution, and their maximum - minimum [n, 1, 1].

    Attribution masks are scaled after upsampling (`attribution_masks`); these are close enough to compare masks.
    """
    return scale(op, maps, [1, 2])


def texture(op: Ops[V], masks: V, shape: tuple[int, int]) -> V:
    """Roughness and mean square of masks [n, h, w], as [n, 2].

    Roughness is the mean absolute difference of neighbours, below and beside added.
    """
    rough = op.Add(_roughness(op, masks, 1, shape[0]), _roughness(op, masks, 2, shape[1]))
    square = op.ReduceMean(op.Mul(masks, masks), [1, 2], keepdims=0)
    one = op.constant([1])
    return op.Concat(op.Unsqueeze(rough, one), op.Unsqueeze(square, one), axis=1)


def _roughness(op: Ops[V], masks: V, axis: int, length: int) -> V:
    """Mean absolute difference of neighbours along an axis, [n]; 0 where there are none."""
    if length == 1:
        return op.Mul(op.ReduceMean(masks, [1, 2], keepdims=0), 0.0)
    later = op.Slice(masks, op.constant([1]), op.constant([length]), op.constant([axis]))
    earlier = op.Slice(masks, op.constant([0]), op.constant([length - 1]), op.constant([axis]))
    return op.ReduceMean(op.Abs(op.Sub(later, earlier)), [1, 2], keepdims=0)


def evidence(op: Ops[V], features: V, alpha: V, shape: tuple[int, int, int]) -> V:
    """The positive part of Σ α_k A_k, [K, h, w]: Grad-CAM's map, for features [1, N, h, w] and α [K, N]."""
    channels, height, width = shape
    flat = op.Reshape(features, op.constant([channels, height * width]))
    return op.Relu(op.Reshape(op.MatMul(alpha, flat), op.constant([-1, height, width])))
