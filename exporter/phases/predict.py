"""predict.onnx: from network inputs to class scores and confidences."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import finish
from sise_ort.heads import Head


def build_predict(network: ir.Model, spec: InputSpec, head: Head) -> ir.Model:
    """Build predict.onnx: the plain network, so that any engine can take its place.

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to class scores [n, classes]; it is not changed.
    spec : InputSpec
        Frame that the bundle takes; its `batch` fixes n.
    head : Head
        From class scores to confidences.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Input: input [n, C, H, W], of the network. Outputs: scores and confidence, [n, classes] each; the same numbers for raw scores.
    """
    graph = network.clone().graph
    graph.inputs[0].name = "input"
    return finish_with_confidence(graph, Ops(graph), spec, head)


def finish_with_confidence(graph: ir.Graph, op: Ops, spec: InputSpec, head: Head) -> ir.Model:
    """Close a graph whose only output are class scores: its outputs become `scores` and `confidence`."""
    scores = graph.outputs[0]
    confidence = head.confidence(op, scores)
    shape: list[int | str] = [spec.batch or "n", head.classes]
    return finish(graph, {"scores": scores, "confidence": confidence}, {"scores": shape, "confidence": shape})
