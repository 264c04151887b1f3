"""Boxes of a detector: how much two overlap, and which detections remain (docs/method.md, Detections)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.scaling import TINY


def overlaps(op: Ops[V], boxes: V, others: V) -> V:
    """Intersection over union of boxes with others, each x0, y0, x1, y1.

    Parameters
    ----------
    op : Ops
    boxes : value, [N, 4]
    others : value, [N, 4] or [1, 4]

    Returns
    -------
    value, [N, 1]
        In [0, 1]; 0 where a box has no area.
    """
    first, second = (_sides(op, b) for b in (boxes, others))
    low = op.Max(_part(op, boxes, 0, 2), _part(op, others, 0, 2))
    high = op.Min(_part(op, boxes, 2, 4), _part(op, others, 2, 4))
    common = _area(op, op.Relu(op.Sub(high, low)))
    union = op.Sub(op.Add(_area(op, first), _area(op, second)), common)
    return op.Div(common, op.Max(union, TINY))


def _part(op: Ops[V], boxes: V, start: int, stop: int) -> V:
    return op.Slice(boxes, op.constant([start]), op.constant([stop]), op.constant([1]))


def _sides(op: Ops[V], boxes: V) -> V:
    """Widths and heights [N, 2], 0 where corners are the wrong way round."""
    return op.Relu(op.Sub(_part(op, boxes, 2, 4), _part(op, boxes, 0, 2)))


def _area(op: Ops[V], sides: V) -> V:
    return op.Mul(_part(op, sides, 0, 1), _part(op, sides, 1, 2))


def iou(boxes: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of boxes [N, 4] with one box [4], as [N] in float64; 0 where a number is not finite."""
    corners, one = (np.asarray(b, np.float64).reshape(-1, 4) for b in (boxes, box))
    finite = np.isfinite(corners).all(axis=1, keepdims=True) & bool(np.isfinite(one).all())
    found = overlaps(NumpyOps(), np.where(finite, corners, 0), np.where(np.isfinite(one), one, 0))
    return np.where(finite, found, 0.0).ravel()


def suppress(
    boxes: NDArray[np.floating],
    confidences: NDArray[np.floating],
    classes: NDArray[np.integer],
    *,
    overlap: float = 0.5,
    least: float = 0.25,
    most: int = 100,
) -> NDArray[np.int64]:
    """Choose detections among candidates: greedy non-maximum suppression, class by class.

    Parameters
    ----------
    boxes : array, [N, 4]
        Corners x0, y0, x1, y1.
    confidences : array, [N]
    classes : array, [N]
        Only candidates of one class suppress one another.
    overlap : float
        A candidate is dropped where its intersection over union with a better one is above this.
    least : float
        Candidates under this confidence are no detections.
    most : int
        Detections at most.

    Returns
    -------
    array of int64
        Indices of the candidates that remain, the most confident first; equal ones in the order of candidates.

    Notes
    -----
    It loops over what remains, so it is no formula that a graph could hold; areas and overlaps are `overlaps`.
    """
    sure = np.asarray(confidences, np.float64)
    waiting = np.argsort(-sure, kind="stable")
    waiting = waiting[sure[waiting] >= least]
    found: list[int] = []
    while len(waiting) and len(found) < most:
        best, waiting = waiting[0], waiting[1:]
        found.append(int(best))
        rivals = np.flatnonzero(classes[waiting] == classes[best])
        too_close = rivals[iou(boxes[waiting[rivals]], boxes[best]) > overlap]
        waiting = np.delete(waiting, too_close)
    return np.array(found, np.int64)
