"""The seed of the gradients at class scores (docs/method.md, Selection and Readouts)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.scaling import TINY

NO_OTHER, RUNNER_UP = -1, -2
"""In place of the index of another class: none, and the class with the highest score of the others."""
LEAST = float(np.finfo(np.float32).min)


def is_index(op: Ops[V], index: V, length: int, shape: Sequence[int]) -> V:
    """Which place along an axis is meant.

    Parameters
    ----------
    op : Ops
    index : value, int64 [K]
        Places, one per question.
    length : int
        Length of the axis.
    shape : sequence of int
        Shape of the answer but for its first axis: -1 for the axis, 1 for all others.

    Returns
    -------
    value, bool [K, *shape]
    """
    asked = op.Reshape(index, op.constant([-1, *(1 for _ in shape)]))
    return op.Equal(asked, op.constant(np.arange(length).reshape(1, *shape)))


def class_is(op: Ops[V], scores: V, asked: V, classes: int) -> V:
    """Which score belongs to the class that is asked for.

    Parameters
    ----------
    op : Ops
    scores : value [1, classes] or [K, classes]
    asked : value, int64 [K]
        Indices of classes; a negative one asks for the top class.
    classes : int

    Returns
    -------
    value, bool [K, classes]
    """
    top = op.ArgMax(scores, axis=1, keepdims=0)
    chosen = op.Where(op.Less(asked, op.constant(0)), top, asked)
    return is_index(op, chosen, classes, [-1])


def class_seed(op: Ops[V], scores: V, asked: V, other: V, contrast: V | float, classes: int) -> V:
    """e_c - contrast · q, with q the softmax over the other classes; or e_c - e_d, rather than class d.

    With contrast 1 the first is ∂p_c/∂z of a softmax head but for the factor p_c (1 - p_c), which would underflow; with
    contrast 0 it is the gradient of the score z_c. The second is the gradient of z_c - z_d, whatever the contrast is.

    Parameters
    ----------
    op : Ops
    scores : value [1, classes] or [n, classes]
        Class scores z.
    asked : value, int64 [K]
        Indices of classes; a negative one asks for the top class.
    other : value, int64 [K]
        Indices of the classes d; `NO_OTHER` and `RUNNER_UP` stand for what their names say.
    contrast : value, scalar
    classes : int

    Returns
    -------
    value [K, classes]
    """
    is_class = class_is(op, scores, asked, classes)
    e_c = op.Cast(is_class, to=op.dtype)
    rest = op.Where(is_class, LEAST, scores)
    others = op.Softmax(rest, axis=1)
    second = op.ArgMax(rest, axis=1, keepdims=0)
    chosen = op.Where(op.Less(other, op.constant(NO_OTHER)), second, other)
    e_d = op.Cast(is_index(op, chosen, classes, [-1]), to=op.dtype)
    alone = op.Unsqueeze(op.Equal(other, op.constant(NO_OTHER)), op.constant([1]))
    return op.Sub(e_c, op.Where(alone, op.Mul(others, contrast), e_d))


def margin(op: Ops[V], scores: V, is_class: V, axis: int, softmax: bool) -> tuple[V, V]:
    """The number d with confidence σ(d), and its gradient at the scores.

    Of a sigmoid head d = z_c, and its gradient is e_c. Of a softmax head d = z_c - log Σ exp z over the other classes, and
    its gradient is e_c - q, with q the softmax over the other classes. Neither loses anything where the class is certain.

    Parameters
    ----------
    op : Ops
    scores : value
        Scores with the classes along `axis`.
    is_class : value, bool
        Which class is asked for; broadcasts with the scores.
    axis : int
    softmax : bool
        The head's kind, else sigmoid.

    Returns
    -------
    d : value
        As the two broadcast, with length 1 along `axis`.
    gradient : value
        As the two broadcast.
    """
    own = op.ReduceSum(op.Where(is_class, scores, 0.0), [axis], keepdims=1)
    e_c = op.Cast(is_class, to=op.dtype)
    if not softmax:
        return own, e_c
    rest = op.Where(is_class, LEAST, scores)
    most = op.ReduceMax(rest, [axis], keepdims=1)
    powers = op.Exp(op.Sub(rest, most))
    total = op.ReduceSum(powers, [axis], keepdims=1)
    return op.Sub(own, op.Add(most, op.Log(total))), op.Sub(e_c, op.Div(powers, total))


def log_sigmoid(op: Ops[V], d: V) -> V:
    """log σ(d), to full precision on both sides: -exp(-d) where σ(d) is 1, so that one certain class is surer than another."""
    e = op.Exp(op.Neg(op.Abs(d)))
    total = op.Add(e, 1.0)
    more = op.Sub(total, 1.0)  # what is left of e in the sum; with it log(1 + e) loses nothing (Kahan)
    exact = op.Div(op.Mul(op.Log(total), e), op.Max(more, TINY))
    return op.Sub(op.Min(d, 0.0), op.Where(op.Greater(more, 0.0), exact, e))
