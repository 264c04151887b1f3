"""image_gradient.onnx: network inputs and classes -> scores and the gradients of the classes' scores."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import INT64, finish, tensor_input
from sise_ort.formulas.seed import class_is


def build_image_gradient(network: ir.Model, spec: InputSpec, classes: int) -> ir.Model:
    """Inputs: input [n, C, H, W], class [n] int64 (negative: the top class); n may be fixed to 1.

    Outputs: scores [n, classes], gradient [n, C, H, W] of each input's own class score.
    """
    graph = network.clone().graph
    source, scores = graph.inputs[0], graph.outputs[0]
    source.name = "input"
    n = spec.batch or "n"
    asked = tensor_input("class", INT64, [n])
    op = Ops(graph)
    seed = op.Cast(class_is(op, scores, asked, classes), to=op.dtype)
    (gradient,) = differentiate(op, scores, seed, [source])
    graph.inputs[:] = [source, asked]
    return finish(
        graph,
        {"scores": scores, "gradient": gradient},
        {"scores": [n, classes], "gradient": [n, spec.channels, spec.height, spec.width]},
    )
