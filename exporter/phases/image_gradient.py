"""image_gradient.onnx: from network inputs and classes to class scores and their gradients."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import INT64, finish, tensor_input
from sise_ort.formulas.seed import class_is


def build_image_gradient(network: ir.Model, spec: InputSpec, classes: int) -> ir.Model:
    """Build image_gradient.onnx, the gradient of a class score by the network's input.

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to class scores [n, classes]; it is not changed.
    spec : InputSpec
        Frame that the bundle takes; its `batch` fixes n.
    classes : int
        Number of class scores.

    Returns
    -------
    onnx_ir.Model

    Raises
    ------
    GradientError
        An operator of the network has no gradient.

    Notes
    -----
    Inputs: input [n, C, H, W]; class [n], int64, one per input, a negative one for the top class.

    Outputs: scores [n, classes]; gradient [n, C, H, W], of each input's own class score.
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
