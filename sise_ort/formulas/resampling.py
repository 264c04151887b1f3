"""From feature resolution to the network's input size and to coarse grids (docs/method.md, Masks)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.ops import Ops, V


def upsample(op: Ops[V], maps: V, height: int, width: int) -> V:
    """Maps [n, c, h, w] at the size [n, c, H, W]: bilinear, half-pixel centres, edges repeated, no antialiasing."""
    return op.Resize(
        maps,
        None,
        None,
        op.constant([height, width]),
        axes=[2, 3],
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def hat_matrix(wide: int, narrow: int, first: int = 0, rows: int | None = None) -> NDArray[np.float64]:
    """Linear interpolation from `narrow` to `wide` places along one axis, as a matrix.

    Parameters
    ----------
    wide, narrow : int
        Places after and before.
    first, rows : int, optional
        Give only the rows first … first + rows - 1 of the matrix.

    Returns
    -------
    numpy.ndarray, float64 [rows, narrow]
    """
    centres = (np.arange(first, first + (wide if rows is None else rows)) + 0.5) * narrow / wide - 0.5
    centres = np.clip(centres, 0, narrow - 1)
    return np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(narrow)))


def cell_means(cells: int, length: int) -> NDArray[np.float64]:
    """Means over `cells` equal stretches of `length` places along one axis, as a matrix [cells, length]."""
    edges = np.arange(cells + 1)[:, None] * length / cells
    covered = np.clip(edges - np.arange(length), 0, 1)  # of each place, the share that lies before each edge
    found: NDArray[np.float64] = np.diff(covered, axis=0) * cells / length
    return found
