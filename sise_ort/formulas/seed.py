"""The seed of the gradients at the class scores (docs/method.md, Selection)."""

from __future__ import annotations

import numpy as np

from sise_ort.formulas.ops import Ops, V


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
    chosen = op.Unsqueeze(op.Where(op.Less(asked, op.constant(0)), top, asked), op.constant([1]))
    return op.Equal(chosen, op.constant(np.arange(classes)[None]))


def class_seed(op: Ops[V], scores: V, asked: V, contrast: V, classes: int) -> V:
    """e_c - contrast · q, with q the softmax over the other classes.

    With contrast 1 it is ∂p_c/∂z of a softmax head but for the factor p_c (1 - p_c), which would underflow; with contrast 0
    it is the gradient of the score z_c.

    Parameters
    ----------
    op : Ops
    scores : value [1, classes]
        Class scores z.
    asked : value, int64 [K]
        Indices of classes; a negative one asks for the top class.
    contrast : value, scalar
    classes : int

    Returns
    -------
    value [K, classes]
    """
    is_class = class_is(op, scores, asked, classes)
    e_c = op.Cast(is_class, to=op.dtype)
    others = op.Softmax(op.Where(is_class, float(np.finfo(np.float32).min), scores), axis=1)
    return op.Sub(e_c, op.Mul(contrast, others))
