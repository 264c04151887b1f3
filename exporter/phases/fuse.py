"""fuse.onnx: from feature maps and weights to visualization maps and the heat map."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sise_ort.bundle import InputSpec, Layer
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, finish, new_graph, tensor_input
from sise_ort.formulas.fusion import fuse, visualization_map


def build_fuse(layers: Sequence[Layer], spec: InputSpec) -> ir.Model:
    """Build fuse.onnx (docs/method.md, Weights and Fusion).

    Parameters
    ----------
    layers : sequence of Layer
        Blocks, shallow to deep.
    spec : InputSpec
        Frame that the bundle takes.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Inputs: of every block features_b [1, N, h, w] and weights_b [K, N], all 0 where the block has no masks.

    Outputs: visualization_maps [K, B, H, W] in [0, 1], 0 where a block has no masks or is flat; heatmap [K, H, W] in [0, 1].
    """
    features, weights = [], []
    for b, layer in enumerate(layers, 1):
        features.append(tensor_input(f"features_{b}", FLOAT, [1, layer.channels, layer.height, layer.width]))
        weights.append(tensor_input(f"weights_{b}", FLOAT, ["K", layer.channels]))
    graph = new_graph("fuse", [*features, *weights])
    op = Ops(graph)
    size = (spec.height, spec.width)
    maps = [
        visualization_map(op, feature, weight, (layer.channels, layer.height, layer.width), size)
        for layer, feature, weight in zip(layers, features, weights, strict=True)
    ]
    values = [visualization for visualization, _ in maps]
    return finish(
        graph,
        {
            "visualization_maps": op.Concat(*values, axis=1) if len(values) > 1 else op.Identity(values[0]),
            "heatmap": op.Squeeze(fuse(op, maps), op.constant([1])),
        },
        {"visualization_maps": ["K", len(layers), *size], "heatmap": ["K", *size]},
    )
