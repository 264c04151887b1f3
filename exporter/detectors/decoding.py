"""Boxes as networks give them, written as corners in pixels: places of a grid, priors, centres and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.exporter.axes import lengths_of
from sise_ort.exporter.detectors.columns import Origin
from sise_ort.exporter.ops import Ops

Boxes = NDArray[np.float64]
"""Boxes [N, 4] as centre x, centre y, width, height, in pixels."""

CENTRES = "centre x, centre y, width and height in pixels, decoded in the file"


@dataclass(frozen=True)
class Level:
    """A feature map that gives candidates.

    Attributes
    ----------
    height, width : int
        Places.
    channels : int
        Channels of the tensor at each place.
    """

    height: int
    width: int
    channels: int


def levels_of(origins: Sequence[Origin]) -> list[Level] | None:
    """The feature maps [n, c, h, w] that columns come from, one after another; None where one is something else."""
    found = []
    for origin in origins:
        lengths = lengths_of(origin.tensor)
        if lengths is None or len(lengths) != 4:
            return None
        found.append(Level(lengths[2], lengths[3], lengths[1]))
    return found


def strides_of(levels: Sequence[Level], height: int, width: int) -> list[int] | None:
    """Pixels from place to place for each level; None where they are no whole numbers, the same in both directions."""
    found = []
    for level in levels:
        stride, rest = divmod(width, level.width)
        if rest or level.height * stride != height:
            return None
        found.append(stride)
    return found


def grid(levels: Sequence[Level], per_place: Sequence[int]) -> tuple[Boxes, NDArray[np.int64]]:
    """Column and row of every candidate [N, 2], and its level [N].

    Places run row by row; the candidates of one place follow one another.
    """
    places, numbers = [], []
    for number, (level, times) in enumerate(zip(levels, per_place, strict=True)):
        rows, columns = np.mgrid[: level.height, : level.width]
        place = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
        places.append(np.repeat(place, times, axis=0))
        numbers.append(np.full(len(places[-1]), number))
    return np.concatenate(places), np.concatenate(numbers)


def columns(op: Ops, boxes: ir.Value, start: int, stop: int) -> ir.Value:
    """Some columns of boxes [n, N, 4]."""
    return op.Slice(boxes, [start], [stop], [2])


def corners(op: Ops, centres: ir.Value, sizes: ir.Value) -> ir.Value:
    """Corners [n, N, 4] from centres and sizes, each [n, N, 2]."""
    half = op.Mul(sizes, 0.5)
    return op.Concat(op.Sub(centres, half), op.Add(centres, half), axis=2)


def corners_of_centred(op: Ops, boxes: ir.Value) -> ir.Value:
    """Corners from boxes [n, N, 4] as centre x, centre y, width, height."""
    return corners(op, columns(op, boxes, 0, 2), columns(op, boxes, 2, 4))


def corners_on_grid(op: Ops, boxes: ir.Value, places: Boxes, strides: NDArray[np.float64]) -> ir.Value:
    """Corners from (x, y, log w, log h): centre (xy + place) · stride, size exp(wh) · stride; strides are [N, 1]."""
    step = op.constant(strides[None])
    centres = op.Mul(op.Add(columns(op, boxes, 0, 2), op.constant(places[None])), step)
    return corners(op, centres, op.Mul(op.Exp(columns(op, boxes, 2, 4)), step))


def corners_by_priors(
    op: Ops, boxes: ir.Value, priors: Boxes, variances: tuple[float, float], largest: float | None = None
) -> ir.Value:
    """Corners from differences to priors: centre + v_1 · xy · size, size · exp(v_2 · wh), with wh · v_2 cut at `largest`."""
    size = op.constant(priors[None, :, 2:])
    moved = op.Mul(op.Mul(columns(op, boxes, 0, 2), variances[0]), size)
    grown = op.Mul(columns(op, boxes, 2, 4), variances[1])
    if largest is not None:
        grown = op.Min(grown, largest)
    return corners(op, op.Add(moved, op.constant(priors[None, :, :2])), op.Mul(op.Exp(grown), size))


def corners_by_sides(op: Ops, boxes: ir.Value, points: Boxes, units: NDArray[np.float64]) -> ir.Value:
    """Corners from distances (left, top, right, bottom) of a point, in units; points and units are [N, 2] and [N, 1] in pixels."""
    centre, unit = op.constant(points[None]), op.constant(units[None])
    low = op.Sub(centre, op.Mul(columns(op, boxes, 0, 2), unit))
    return op.Concat(low, op.Add(centre, op.Mul(columns(op, boxes, 2, 4), unit)), axis=2)


def scaled_corners(op: Ops, boxes: ir.Value, width: float, height: float) -> ir.Value:
    """Corners in pixels from corners as shares of the picture's width and height."""
    return op.Mul(boxes, op.constant(np.array([width, height, width, height], np.float64)))
