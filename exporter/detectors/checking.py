"""Checks that scores before their activation, once activated, are what the file gives: run once, on noise."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import SourceError
from sise_ort.exporter.detectors.layout import Candidates, Taken
from sise_ort.exporter.ops import Ops, static_shape
from sise_ort.formulas.confidence import sigmoid, softmax
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.runtime.providers import open_foreign

LARGEST = 1e-3
"""How far a probability may be off."""


def run_once(graph: ir.Graph, values: list[ir.Value], seed: int | None = None) -> list[NDArray[np.float64]]:
    """What tensors hold for one network input: noise, or zeros where `seed` is None."""
    image, kept = graph.inputs[0], list(graph.outputs)
    batch, channels, height, width = static_shape(image)
    shape = (batch or 1, channels or 3, height or 1, width or 1)
    x = np.zeros(shape) if seed is None else np.random.default_rng(seed).normal(0, 1, shape)
    for value in values:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = values
    graph.sort()
    try:
        session = open_foreign(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())
    finally:
        graph.outputs[:] = kept
    fetched, _ = session.run({str(image.name): x.astype(np.float32)}, fetch=[str(v.name) for v in values])
    return [fetched[str(v.name)].astype(np.float64) for v in values]


def require_same(graph: ir.Graph, found: Candidates) -> None:
    """Compare scores and objectness with the file's own columns.

    Parameters
    ----------
    graph : ir.Graph
        Nodes are added; its outputs stay.
    found : Candidates

    Raises
    ------
    SourceError
        A probability differs by more than 0.001.
    """
    op = Ops(graph, prefix="checked")
    parts = [part for part in (found.scores, found.objectness) if part is not None and part.activation]
    values = [value for part in parts for value in (part(op), part.given(op))]
    if not parts:
        return
    arrays = iter(run_once(graph, [op.Identity(v) for v in values], seed=0))
    for part in parts:
        _require_close(part, _activated(next(arrays), part.activation), next(arrays))


def _activated(scores: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    rows = scores.reshape(-1, scores.shape[-1])
    return (softmax if activation == "softmax" else sigmoid)(NumpyOps(), rows).reshape(scores.shape)


def _require_close(part: Taken, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    if part.activation == "softmax" and theirs.min() < 0:  # a LogSoftmax
        theirs = np.exp(theirs)
    worst = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
    if not worst <= LARGEST:
        raise SourceError(
            f"the scores of '{part.tables[0].value.name}' before their {part.activation} do not give what the file gives: "
            f"{worst:.1e} apart. Please report this model"
        )
