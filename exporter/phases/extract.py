"""extract.onnx: from frame and classes to scores, feature maps, their gradients and pooled gradients."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sise_ort.bundle import InputSpec, Preprocessing
from sise_ort.exporter.blocks import Candidate
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.layout import CHANNELS_FIRST
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, INT64, finish, frame_input, network_input, tensor_input
from sise_ort.formulas.seed import class_seed
from sise_ort.formulas.selection import pooled_gradients, spans


def build_extract(
    network: ir.Model,
    blocks: Sequence[Candidate],
    spec: InputSpec,
    preprocessing: Preprocessing,
    classes: int,
) -> ir.Model:
    """Build extract.onnx, one forward pass and the gradients of K classes (docs/method.md, Selection).

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to class scores [n, classes]; it is not changed.
    blocks : sequence of Candidate
        Block outputs, shallow to deep.
    spec : InputSpec
        Frame that the graph takes.
    preprocessing : Preprocessing
        From pixel to network input.
    classes : int
        Number of class scores.

    Returns
    -------
    onnx_ir.Model

    Raises
    ------
    GradientError
        An operator between a block and the scores has no gradient.

    Notes
    -----
    Inputs: image [1, H, W, C], of the frame's type; class [K], int64, a negative one for the top class; contrast, a scalar (see
    `sise_ort.formulas.seed.class_seed`).

    Outputs: scores [1, classes]; for every block b = 1 … B features_b [1, N, h, w], gradients_b [K, N, h, w], pooled gradients
    alpha_b [K, N], and span_b [1, N] = (maximum - minimum) / max |map|.
    """
    graph = network.clone().graph
    image = frame_input(spec)
    classes_asked = tensor_input("class", INT64, ["K"])
    contrast = tensor_input("contrast", FLOAT, [])
    source, scores = graph.inputs[0], graph.outputs[0]
    values = {v.name: v for node in graph for v in node.outputs}
    features = [values[block.tensor] for block in blocks]

    op = Ops(graph)
    seed = class_seed(op, scores, classes_asked, contrast, classes)
    gradients = differentiate(op, scores, seed, features)
    source.replace_all_uses_with(network_input(op, image, preprocessing))
    graph.inputs[:] = [image, classes_asked, contrast]

    outputs: dict[str, ir.Value] = {"scores": scores}
    shapes: dict[str, Sequence[int | str]] = {"scores": [1, classes]}
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
