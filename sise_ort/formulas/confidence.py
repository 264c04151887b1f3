"""Confidence Ψ from class scores (docs/method.md, Heads)."""

from __future__ import annotations

from sise_ort.formulas.ops import Ops, V


def softmax(op: Ops[V], scores: V) -> V:
    """exp(z_c) / Σ exp(z_d) over the classes, for scores [n, classes]."""
    return op.Softmax(scores, axis=1)


def sigmoid(op: Ops[V], scores: V) -> V:
    """1 / (1 + exp(-z)) of every score."""
    return op.Sigmoid(scores)


def absence(op: Ops[V], scores: V) -> V:
    """1 - sigmoid(z), as sigmoid(-z): exact also where the class is certain."""
    return op.Sigmoid(op.Neg(scores))
