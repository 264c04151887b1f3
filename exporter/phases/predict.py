"""predict.onnx, from network inputs to the network's answers; and readout.onnx, from these to what questions read."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import (
    FLOAT,
    finish,
    network_outputs,
    new_graph,
    question_inputs,
    read_outputs,
    tensor_input,
)
from sise_ort.heads import Head
from sise_ort.tasks import Task


def build_predict(network: ir.Model, spec: InputSpec, task: Task, head: Head) -> ir.Model:
    """Build predict.onnx: the plain network, so that any engine can take its place.

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to the task's outputs; it is not changed.
    spec : InputSpec
        Frame that the bundle takes; its `batch` fixes n.
    task : Task
        What the network's outputs are.
    head : Head
        From scores to confidences.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Input: input [n, C, H, W], of the network. Outputs: those of the task (`Task.outputs`); of class scores, scores and
    confidence, [n, classes] each, which are the same numbers for raw scores.
    """
    graph = network.clone().graph
    graph.inputs[0].name = "input"
    return finish_as_predict(graph, Ops(graph), spec, task, head)


def finish_as_predict(graph: ir.Graph, op: Ops, spec: InputSpec, task: Task, head: Head) -> ir.Model:
    """Close a graph whose outputs are the network's: they get the task's names, and class scores their confidences."""
    outputs, n = network_outputs(graph, task, head), spec.batch or "n"
    shapes = {name: [n, *own] for name, own in task.outputs(head).items()}
    if "confidence" in shapes:
        outputs["confidence"] = head.confidence(op, outputs["scores"])
    return finish(graph, outputs, shapes)


def build_readout(spec: InputSpec, task: Task, head: Head) -> ir.Model:
    """Build readout.onnx, which reads K questions off predict's outputs for n network inputs (docs/method.md, Readouts).

    Parameters
    ----------
    spec : InputSpec
        Frame that the bundle takes; its `batch` fixes n.
    task : Task
        What the network's outputs are.
    head : Head
        From scores to confidences.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Inputs: the outputs of predict.onnx, and the tensors of K questions (`Task.given`). Outputs: psi [K, n] and score [K, n].
    """
    n = spec.batch or "n"
    answers = {name: tensor_input(name, FLOAT, [n, *own]) for name, own in task.outputs(head).items()}
    given = question_inputs(task, head, "K")
    graph = new_graph("readout", [*answers.values(), *given.values()])
    outputs, shapes = read_outputs(Ops(graph), task, head, answers, given, ("K", n))
    return finish(graph, outputs, shapes)
