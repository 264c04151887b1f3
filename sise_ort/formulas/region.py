"""A class over a region of a segmentation (docs/method.md, Readouts)."""

from __future__ import annotations

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.seed import LEAST, is_index, log_sigmoid, margin


def region_seed(op: Ops[V], scores: V, asked: V, region: V, contrast: V, kind: str, classes: int) -> V:
    """Gradient, but for a positive factor, of the class's mean confidence over a region at the scores.

    At a place of the region it is σ'(z_c) e_c for a sigmoid head and p_c (1 - p_c) (e_c - q) for a softmax head, q the softmax
    over the other classes. The factors are kept as logarithms and divided by their maximum over the region, since in float32
    they are 0 where the class is certain. With contrast 0, and for raw scores, it is the very gradient of the mean score.

    Parameters
    ----------
    op : Ops
    scores : value [1, classes, h, w] or [n, classes, h, w]
    asked : value, int64 [K]
        Indices of classes.
    region : value [K, h, w]
        Weights of the places, none negative, 0 outside the region.
    contrast : value, scalar
        Over 0 for the confidence's gradient, else the score's.
    kind : str
        The head, "softmax", "sigmoid" or "none".
    classes : int

    Returns
    -------
    value [K, classes, h, w]
    """
    is_class = is_index(op, asked, classes, [-1, 1, 1])
    weights = op.Unsqueeze(region, op.constant([1]))
    plain = op.Mul(weights, op.Cast(is_class, to=op.dtype))
    if kind == "none":
        return plain
    d, direction = margin(op, scores, is_class, 1, kind == "softmax")
    slope = op.Add(log_sigmoid(op, d), log_sigmoid(op, op.Neg(d)))
    weights = op.Div(weights, op.ReduceMax(weights, [1, 2, 3], keepdims=1))
    inside = op.Greater(weights, 0.0)
    steepest = op.ReduceMax(op.Where(inside, slope, LEAST), [1, 2, 3], keepdims=1)
    factor = op.Mul(weights, op.Exp(op.Where(inside, op.Sub(slope, steepest), 0.0)))
    return op.Where(op.Greater(contrast, 0.0), op.Mul(factor, direction), plain)


def region_values(op: Ops[V], scores: V, asked: V, region: V, kind: str) -> tuple[V, V]:
    """Mean confidence and mean score of classes over their regions.

    Parameters
    ----------
    op : Ops
    scores : value [n, classes, h, w]
    asked : value, int64 [K]
    region : value [K, h, w]
        Weights of the places that add up to 1.
    kind : str
        The head.

    Returns
    -------
    psi, score : values [K, n]
    """
    own = op.Gather(scores, asked, axis=1)
    confidence = own
    if kind == "softmax":
        confidence = op.Gather(op.Softmax(scores, axis=1), asked, axis=1)
    elif kind == "sigmoid":
        confidence = op.Sigmoid(own)

    def mean(values: V) -> V:
        found = op.ReduceSum(op.Mul(values, region), [2, 3], keepdims=0)
        return op.Transpose(found, perm=[1, 0])

    return mean(confidence), mean(own)
