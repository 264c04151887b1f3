"""A frame of any size brought to the network's by two matrices, one for rows and one for columns (docs/method.md, Frames of any size).

They are what `sise_ort.fitting.fit_frame` does by OpenCV: shrinking averages areas, enlarging interpolates linearly.
"""

from __future__ import annotations

import numpy as np

from sise_ort.formulas.ops import Ops, V


def scaled_sizes(
    op: Ops[V], sizes: tuple[V, V], target: tuple[int, int], mode: str, cover: tuple[int, int]
) -> tuple[V, V]:
    """Height and width to which the whole frame is scaled.

    Parameters
    ----------
    op : Ops
        In float64.
    sizes : (value [1], value [1])
        Height and width of the frame.
    target : (int, int)
        Height and width of the network's input.
    mode : str
        "stretch"; "crop", which covers `cover`; or "letterbox", which stays inside `target`.
    cover : (int, int)

    Returns
    -------
    (value [1], value [1])
        The network's own size where the frame has it.
    """
    known = [op.constant([float(length)]) for length in target]
    if mode == "stretch":
        return known[0], known[1]
    wanted = [op.constant([float(length)]) for length in (cover if mode == "crop" else target)]
    ratios = [op.Div(length, own) for length, own in zip(wanted, sizes, strict=True)]
    ratio = op.Max(*ratios) if mode == "crop" else op.Min(*ratios)
    same = op.And(op.Equal(sizes[0], known[0]), op.Equal(sizes[1], known[1]))
    found = []
    for own, length in zip(sizes, known, strict=True):
        scaled = op.Round(op.Mul(own, ratio))
        scaled = op.Max(scaled, length) if mode == "crop" else op.Min(op.Max(scaled, 1.0), length)
        found.append(op.Where(same, length, scaled))
    return found[0], found[1]


def fit_matrices(
    op: Ops[V], sizes: tuple[V, V], target: tuple[int, int], mode: str, cover: tuple[int, int]
) -> tuple[tuple[V, V], tuple[V, V]]:
    """Matrices that bring a frame to the network's size: fitted = rows · frame · columnsᵀ.

    Parameters
    ----------
    op, sizes, target, mode, cover
        See `scaled_sizes`.

    Returns
    -------
    matrices : (value [H, H0], value [W, W0])
        0 where the network's picture lies outside of the frame.
    inside : (value [H, 1], value [W, 1])
        1 where it lies inside, else 0.

    Notes
    -----
    An axis of n places is scaled to s, r = n / s. Where the picture shrinks on both axes, place i is the mean of [i r, (i + 1)
    r). Where its area does not shrink, it is interpolated at (i + ½) r - ½. Where the area shrinks and one axis grows, it is
    interpolated at j + f with j = floor(i r) and f the part of i + 1 - (j + 1) / r behind the point, 0 where that is negative
    (OpenCV's INTER_AREA).
    """
    scaled = scaled_sizes(op, sizes, target, mode, cover)
    kind = _kind(op, sizes, scaled)
    matrices, inside = [], []
    for own, length, places in zip(sizes, scaled, target, strict=True):
        first = _margin(op, length, places, mode)
        index = op.Add(op.constant(np.arange(places, dtype=np.float64)[:, None]), first)
        there = op.And(op.Less(index, length), op.Greater(index, -0.5))
        matrices.append(op.Where(there, _resampling(op, index, _places(op, own), (own, length), kind), 0.0))
        inside.append(op.Cast(there, to=op.dtype))
    return (matrices[0], matrices[1]), (inside[0], inside[1])


def back_matrices(
    op: Ops[V], sizes: tuple[V, V], target: tuple[int, int], mode: str, cover: tuple[int, int]
) -> tuple[V, V]:
    """Matrices that bring a heat map back to the frame's size: rows · heat map · columnsᵀ.

    Parameters
    ----------
    op, sizes, target, mode, cover
        See `scaled_sizes`.

    Returns
    -------
    (value [H0, H], value [W0, W])
        0 where the network did not look.
    """
    scaled = scaled_sizes(op, sizes, target, mode, cover)
    known = [op.constant([float(places)]) for places in target]
    shown = scaled if mode == "letterbox" else (known[0], known[1])
    starts, lengths = [], []
    for own, length, all_places in zip(sizes, scaled, known, strict=True):
        start, end = op.Mul(own, 0.0), own
        if mode == "crop":
            first = op.Floor(op.Div(op.Sub(length, all_places), 2.0))
            start, end = (
                op.Round(op.Mul(v, op.Div(own, length))) for v in (first, op.Add(first, all_places))
            )
            end = op.Max(end, op.Add(start, 1.0))
        starts.append(start)
        lengths.append(op.Sub(end, start))
    kind = _kind(op, shown, (lengths[0], lengths[1]))
    found = []
    for axis, places in enumerate(target):
        index = op.Sub(op.Unsqueeze(_places(op, sizes[axis]), op.constant([1])), starts[axis])
        there = op.And(op.Less(index, lengths[axis]), op.Greater(index, -0.5))
        place = op.constant(np.arange(places, dtype=np.float64))
        if mode == "letterbox":
            place = op.Add(place, _margin(op, scaled[axis], places, mode))
        found.append(op.Where(there, _resampling(op, index, place, (shown[axis], lengths[axis]), kind), 0.0))
    return found[0], found[1]


def _margin(op: Ops[V], length: V, places: int, mode: str) -> V:
    """Place of the network's first row in the scaled frame; negative where a border stands in front of it."""
    if mode == "letterbox":  # the smaller half stands in front
        return op.Neg(op.Floor(op.Div(op.Sub(float(places), length), 2.0)))
    return op.Floor(op.Div(op.Sub(length, float(places)), 2.0))


def _places(op: Ops[V], length: V) -> V:
    """0 … length - 1, as [length]."""
    return op.Range(
        op.Cast(0.0, to=op.dtype), op.Squeeze(length, op.constant([0])), op.Cast(1.0, to=op.dtype)
    )


def _kind(op: Ops[V], sizes: tuple[V, V], scaled: tuple[V, V]) -> tuple[V, V]:
    """Whether a picture's area shrinks, and whether it does so on both axes, bool [1] each."""
    shrinks = op.Less(op.Mul(*scaled), op.Mul(*sizes))
    longest = op.Max(op.Sub(scaled[0], sizes[0]), op.Sub(scaled[1], sizes[1]))
    return shrinks, op.And(shrinks, op.Less(longest, 0.5))


def _resampling(op: Ops[V], index: V, place: V, lengths: tuple[V, V], kind: tuple[V, V]) -> V:
    """How much places [n] of an axis count at places `index` [m, 1] of the axis scaled from one length to another, [m, n]."""
    own, scaled = lengths
    ratio = op.Div(own, scaled)
    shrinks, averages = kind
    begin, end = op.Mul(index, ratio), op.Mul(op.Add(index, 1.0), ratio)
    covered = op.Sub(op.Min(end, op.Add(place, 1.0)), op.Max(begin, place))
    before = op.Floor(begin)
    behind = op.Relu(op.Sub(op.Add(index, 1.0), op.Div(op.Add(before, 1.0), ratio)))
    behind = op.Sub(behind, op.Floor(behind))
    centre = op.Sub(op.Mul(op.Add(index, 0.5), ratio), 0.5)
    point = op.Where(shrinks, op.Add(before, behind), centre)
    point = op.Max(op.Min(point, op.Sub(own, 1.0)), 0.0)
    between = op.Relu(op.Sub(1.0, op.Abs(op.Sub(point, place))))
    return op.Where(averages, op.Div(op.Relu(covered), ratio), between)
