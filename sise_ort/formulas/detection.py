"""A detection: the best of some candidates for a class (docs/method.md, Readouts)."""

from __future__ import annotations

import numpy as np

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.seed import LEAST, is_index, log_sigmoid, margin


def detection_seed(
    op: Ops[V], scores: V, asked: V, candidates: V, contrast: V, shape: tuple[int, int, bool], softmax: bool
) -> V:
    """Gradient, but for a positive factor, of the best candidate's confidence at the scores.

    At the candidate with the highest confidence it is (1 - σ(d)) ∂d/∂z, with σ(d) the class's confidence (`margin`), and
    (1 - σ(z_o)) at its objectness z_o where the head has one. With contrast 0 it is the gradient of z_c + z_o at the candidate
    where that is highest.

    Parameters
    ----------
    op : Ops
    scores : value [1, N, classes (+ 1)] or [n, N, classes (+ 1)]
        Class scores of N candidates, and behind them the objectness.
    asked : value, int64 [K]
        Indices of classes.
    candidates : value [K, N]
        1 for those that count, else 0.
    contrast : value, scalar
        Over 0 for the confidence's gradient, else the score's.
    shape : (N, classes, objectness)
        Candidates, classes, and whether there is an objectness.
    softmax : bool
        The head's kind, else sigmoid.

    Returns
    -------
    value [K, N, classes (+ 1)]
    """
    number, classes, objectness = shape
    is_class = is_index(op, asked, classes, [1, -1])
    own, there = _parts(op, scores, classes, objectness)
    d, direction = margin(op, own, is_class, 2, softmax)
    trust, score = log_sigmoid(op, d), op.ReduceSum(op.Where(is_class, own, 0.0), [2], keepdims=1)
    if there is not None:
        trust, score = op.Add(trust, log_sigmoid(op, there)), op.Add(score, there)
    of_confidence = op.Greater(contrast, 0.0)
    counted = op.Greater(op.Unsqueeze(candidates, op.constant([2])), 0.0)
    ranked = op.Where(counted, op.Where(of_confidence, trust, score), LEAST)
    best = op.ArgMax(ranked, axis=1, keepdims=0)
    at = op.Cast(is_index(op, op.Reshape(best, op.constant([-1])), number, [-1, 1]), to=op.dtype)
    plain = op.Mul(at, op.Cast(is_class, to=op.dtype))
    if there is None:  # one candidate and one factor: only the direction counts
        return op.Where(of_confidence, op.Mul(at, direction), plain)
    # of the two factors only their ratio counts; as logarithms they do not underflow where both are certain
    slope, slope_there = log_sigmoid(op, op.Neg(d)), log_sigmoid(op, op.Neg(there))
    steepest = op.Max(slope, slope_there)
    full = op.Mul(op.Mul(at, op.Exp(op.Sub(slope, steepest))), direction)
    rest = op.Where(of_confidence, op.Mul(at, op.Exp(op.Sub(slope_there, steepest))), at)
    return op.Concat(op.Where(of_confidence, full, plain), rest, axis=2)


def detection_values(
    op: Ops[V], scores: V, asked: V, candidates: V, shape: tuple[int, int, bool], softmax: bool
) -> tuple[V, V]:
    """The best candidate's confidence and score, for each question and network input.

    Parameters
    ----------
    op : Ops
    scores : value [n, N, classes (+ 1)]
    asked : value, int64 [K]
    candidates : value [K, N]
    shape, softmax
        As for `detection_seed`.

    Returns
    -------
    psi : value [K, n]
        max σ(d) σ(z_o) over the candidates.
    score : value [K, n]
        max (z_c + z_o) over the candidates.
    """
    _, classes, objectness = shape
    own, there = _parts(op, scores, classes, objectness)
    confidence = op.Gather(op.Softmax(own, axis=2) if softmax else op.Sigmoid(own), asked, axis=2)
    score = op.Gather(own, asked, axis=2)
    if there is not None:
        confidence, score = op.Mul(confidence, op.Sigmoid(there)), op.Add(score, there)
    counted = op.Greater(op.Transpose(candidates, perm=[1, 0]), 0.0)

    def best(values: V, least: float) -> V:
        found = op.ReduceMax(op.Where(counted, values, least), [1], keepdims=0)
        return op.Transpose(found, perm=[1, 0])

    return best(confidence, 0.0), best(score, LEAST)


def _parts(op: Ops[V], scores: V, classes: int, objectness: bool) -> tuple[V, V | None]:
    """Class scores [n, N, classes], and the objectness [n, N, 1]."""
    if not objectness:
        return scores, None
    axis = op.constant([2])
    own = op.Slice(scores, op.constant([0]), op.constant([classes]), axis)
    return own, op.Slice(scores, op.constant([classes]), op.constant([np.iinfo(np.int64).max]), axis)
