"""Scaling of maps to [0, 1], and which maps are flat (docs/method.md, Flat maps)."""

from __future__ import annotations

import numpy as np

from sise_ort.formulas.ops import Ops, V

FLAT = 1e-5
"""A map is flat where its maximum - minimum is at most this share of what it could reach."""

TINY = float(np.finfo(np.float32).tiny)
"""Smallest divisor, the least normal float32."""


def scale(op: Ops[V], maps: V, axes: list[int]) -> tuple[V, V]:
    """Each map scaled linearly to [0, 1] over `axes`, and its maximum - minimum before.

    A constant map becomes 0. Rounding noise is not told from a map here: see `scale_unless_flat`.
    """
    least = op.ReduceMin(maps, axes, keepdims=1)
    width = op.Sub(op.ReduceMax(maps, axes, keepdims=1), least)
    return op.Div(op.Sub(maps, least), op.Max(width, TINY)), width


def is_uneven(op: Ops[V], width: V, reach: V | float) -> V:
    """Whether maps are not flat: maximum - minimum > 1e-5 · reach.

    Parameters
    ----------
    op : Ops
    width : value
        Maximum - minimum of each map.
    reach : value
        Largest size that the map's numbers could have: of a feature map its largest absolute value; of a sum of maps what
        the summands could have added up to.

    Returns
    -------
    value, bool
    """
    return op.Greater(width, op.Mul(reach, FLAT))


def scale_unless_flat(op: Ops[V], maps: V, axes: list[int], reach: V | None = None) -> tuple[V, V]:
    """Each map scaled linearly to [0, 1] over `axes`, 0 where it is flat; and whether it is not flat, as 0 or 1.

    `reach` is what `is_uneven` compares with; left out, it is the map's maximum (for maps without negative numbers).
    """
    least, most = op.ReduceMin(maps, axes, keepdims=1), op.ReduceMax(maps, axes, keepdims=1)
    width = op.Sub(most, least)
    uneven = is_uneven(op, width, most if reach is None else reach)
    kept = op.Cast(uneven, to=op.dtype)
    factor = op.Div(kept, op.Where(uneven, width, 1.0))
    return op.Mul(op.Sub(maps, least), factor), kept


def scale_by_peak(op: Ops[V], maps: V) -> V:
    """Maps [K, 1, H, W] without negative numbers, each divided by its maximum; a zero map stays zero."""
    peak = op.ReduceMax(maps, [1, 2, 3], keepdims=1)
    return op.Div(maps, op.Where(op.Greater(peak, 0.0), peak, 1.0))
