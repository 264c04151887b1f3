"""Weights of the feature maps in a block's visualization map (docs/method.md, Weights)."""

from __future__ import annotations

from sise_ort.formulas.ops import Ops, V


def mask_weights(op: Ops[V], values: V, mass: V) -> V:
    """w_k = s_k / (range_k · total_k), in each row divided by the largest |w|.

    A positive factor of a block's weights cancels in its visualization map; undivided, tiny ones would underflow in float32.

    Parameters
    ----------
    op : Ops
    values : value [K, n]
        Ψ through each mask of the block, 0 where a mask does not take part.
    mass : value [n]
        range_k · total_k of each mask.

    Returns
    -------
    value [K, n] in [-1, 1]
    """
    weights = op.Div(values, mass)
    largest = op.ReduceMax(op.Abs(weights), [1], keepdims=1)
    return op.Div(weights, op.Where(op.Greater(largest, 0.0), largest, 1.0))
