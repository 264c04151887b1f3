"""apply.onnx: frame and masks -> masked network inputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.bundle import InputSpec, Preprocessing
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, finish, frame_input, network_input, new_graph, tensor_input
from sise_ort.formulas.masks import see_through


def build_apply(spec: InputSpec, preprocessing: Preprocessing) -> ir.Model:
    """Build apply.onnx, which shows the picture through masks (docs/method.md, Masks).

    Parameters
    ----------
    spec : InputSpec
        Frame that the graph takes.
    preprocessing : Preprocessing
        From pixel to network input; `hidden` says what a hidden pixel becomes.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Inputs: image [1, H, W, C], of the frame's type; masks [n, 1, H, W] in [0, 1].

    Output: masked [n, C, H, W], network inputs.
    """
    image = frame_input(spec)
    masks = tensor_input("masks", FLOAT, ["n", 1, spec.height, spec.width])
    graph = new_graph("apply", [image, masks])
    op = Ops(graph)
    x = network_input(op, image, preprocessing)
    masked = see_through(op, x, masks, hidden_value(op, preprocessing))
    return finish(graph, {"masked": masked}, {"masked": ["n", spec.channels, spec.height, spec.width]})


def hidden_value(op: Ops, preprocessing: Preprocessing) -> ir.Value | None:
    """What a pixel of the network's input becomes where a mask hides it, [1, C, 1, 1]; None for 0."""
    black = -np.array(preprocessing.mean) / np.array(preprocessing.std)
    if preprocessing.hidden != "black" or not black.any():
        return None
    return op.constant(black.reshape(1, -1, 1, 1))
