"""Likeness of an embedding to a reference (docs/method.md, Readouts)."""

from __future__ import annotations

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.scaling import TINY


def likeness_seed(op: Ops[V], vectors: V, reference: V) -> V:
    """(r/‖r‖ - cos · z/‖z‖) / ‖z‖: the gradient of cos(z, r) at z.

    Parameters
    ----------
    op : Ops
    vectors : value [1, D] or [n, D]
        Embeddings z.
    reference : value [K, D]
        References r.

    Returns
    -------
    value [K, D]
        Zero where z is r.
    """
    unit, wanted = _unit(op, vectors), _unit(op, reference)
    cosine = op.ReduceSum(op.Mul(unit, wanted), [1], keepdims=1)
    return op.Div(op.Sub(wanted, op.Mul(unit, cosine)), _length(op, vectors))


def likeness_values(op: Ops[V], vectors: V, reference: V) -> tuple[V, V]:
    """(1 + cos(z, r)) / 2, and cos(z, r), for references [K, D] and embeddings [n, D]: [K, n] each."""
    cosine = op.MatMul(_unit(op, reference), op.Transpose(_unit(op, vectors), perm=[1, 0]))
    likeness = op.Mul(op.Add(cosine, 1.0), 0.5)
    return op.Min(op.Max(likeness, 0.0), 1.0), cosine


def _unit(op: Ops[V], vectors: V) -> V:
    """Vectors [n, D] of length 1; a zero vector stays zero."""
    return op.Div(vectors, _length(op, vectors))


def _length(op: Ops[V], vectors: V) -> V:
    """Lengths of vectors [n, D] as [n, 1], none of them 0."""
    return op.Max(op.Sqrt(op.ReduceSum(op.Mul(vectors, vectors), [1], keepdims=1)), TINY)
