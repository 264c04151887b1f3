"""image_gradient.onnx: from network inputs and a question to the network's answers and their gradients."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import Head, InputSpec
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import finish, network_outputs, question_inputs, read_outputs
from sise_ort.tasks import Task


def build_image_gradient(network: ir.Model, spec: InputSpec, task: Task, head: Head) -> ir.Model:
    """Build image_gradient.onnx, the gradient of a score by the network's input.

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

    Raises
    ------
    GradientError
        An operator of the network has no gradient.

    Notes
    -----
    Inputs: input [n, C, H, W]; the tensors of one question (`Task.given`).

    Outputs: of class scores, scores [n, classes], of other tasks psi [1, n] and score [1, n]; gradient [n, C, H, W] of each
    input's own score.
    """
    graph = network.clone().graph
    source, found = graph.inputs[0], network_outputs(graph, task, head)
    source.name = "input"
    n = spec.batch or "n"
    given = question_inputs(task, head, 1)
    op, scores = Ops(graph), found["scores"]
    seed = task.seed(op, head, scores, given, op.constant(0.0))
    (gradient,) = differentiate(op, scores, op.Expand(seed, op.Shape(scores)), [source])
    graph.inputs[:] = [source, *given.values()]
    outputs, shapes = read_outputs(op, task, head, found, given, (1, n))
    size = [n, spec.channels, spec.height, spec.width]
    return finish(graph, {**outputs, "gradient": gradient}, {**shapes, "gradient": size})
