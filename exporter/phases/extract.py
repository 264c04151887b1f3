"""extract.onnx: from frame and questions to the network's answer, feature maps, their gradients and pooled gradients."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sise_ort.bundle import Head, InputSpec, Preprocessing
from sise_ort.exporter.blocks import Candidate
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.layout import CHANNELS_FIRST
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import (
    FLOAT,
    finish,
    frame_input,
    network_input,
    network_outputs,
    question_inputs,
    read_outputs,
    tensor_input,
)
from sise_ort.formulas.selection import pooled_gradients, spans
from sise_ort.tasks import Task


def build_extract(
    network: ir.Model,
    blocks: Sequence[Candidate],
    spec: InputSpec,
    preprocessing: Preprocessing,
    task: Task,
    head: Head,
) -> ir.Model:
    """Build extract.onnx, one forward pass and the gradients of K questions (docs/method.md, Selection).

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to the task's outputs; it is not changed.
    blocks : sequence of Candidate
        Block outputs, shallow to deep.
    spec : InputSpec
        Frame that the graph takes.
    preprocessing : Preprocessing
        From pixel to network input.
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
        An operator between a block and the scores has no gradient.

    Notes
    -----
    Inputs: image [1, H, W, C], of the frame's type; the tensors of K questions (`Task.given`), of class scores class [K] and other
    [K], int64 (see `sise_ort.formulas.seed.class_seed`); contrast, a scalar.

    Outputs: of class scores, scores [1, classes], of other tasks psi [K, 1] and score [K, 1]; for every block b = 1 … B features_b [1, N, h, w], gradients_b [K, N, h, w], pooled gradients
    alpha_b [K, N], and span_b [1, N] = (maximum - minimum) / max |map|.
    """
    graph = network.clone().graph
    image = frame_input(spec)
    given, contrast = question_inputs(task, head, "K"), tensor_input("contrast", FLOAT, [])
    source, found = graph.inputs[0], network_outputs(graph, task, head)
    scores = found["scores"]
    values = {v.name: v for node in graph for v in node.outputs}
    features = [values[block.tensor] for block in blocks]

    op = Ops(graph)
    seed = task.seed(op, head, scores, given, contrast)
    gradients = differentiate(op, scores, seed, features)
    source.replace_all_uses_with(network_input(op, image, preprocessing))
    graph.inputs[:] = [image, *given.values(), contrast]

    outputs, shapes = read_outputs(op, task, head, found, given, ("K", 1))
    for b, (block, maps, gradient) in enumerate(zip(blocks, features, gradients, strict=True), 1):
        size = [block.channels, block.height, block.width]
        if block.axes != CHANNELS_FIRST:
            maps, gradient = (op.Transpose(v, perm=[0, *block.axes]) for v in (maps, gradient))
        span = spans(op, maps)
        outputs |= {
            f"features_{b}": maps,
            f"gradients_{b}": gradient,
            f"alpha_{b}": pooled_gradients(op, gradient),
            f"span_{b}": span,
        }
        shapes |= {
            f"features_{b}": [1, *size],
            f"gradients_{b}": ["K", *size],
            f"alpha_{b}": ["K", block.channels],
            f"span_{b}": [1, block.channels],
        }
    return finish(graph, outputs, shapes)
