"""predict.onnx: network inputs -> class scores and confidences."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import finish
from sise_ort.heads import Head


def build_predict(network: ir.Model, spec: InputSpec, head: Head) -> ir.Model:
    """Input: masked [n, C, H, W]. Outputs: scores [n, classes] and confidence [n, classes], Ψ; n may be fixed to 1.

    The CNN as it is, so that any engine can take its place. Raw-score heads repeat the scores as confidence.
    """
    graph = network.clone().graph
    graph.inputs[0].name = "masked"
    return finish_with_confidence(graph, Ops(graph), spec, head)


def finish_with_confidence(graph: ir.Graph, op: Ops, spec: InputSpec, head: Head) -> ir.Model:
    """Make `scores`, the graph's only output, and `confidence` the outputs."""
    scores = graph.outputs[0]
    confidence = head.confidence(op, scores)
    shape: list[int | str] = [spec.batch or "n", head.classes]
    return finish(graph, {"scores": scores, "confidence": confidence}, {"scores": shape, "confidence": shape})
