"""fuse.onnx: feature maps and weights -> visualization maps and the explanation map."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sise_ort.bundle import InputSpec, Layer
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, finish, new_graph, tensor_input
from sise_ort.formulas.fusion import fuse, visualization_map


def build_fuse(layers: Sequence[Layer], spec: InputSpec) -> ir.Model:
    """Inputs: features_b [1, N, h, w] and weights_b [K, N] of every block (w_k = s_k / (range_k · total_k)).

    Outputs: visualization_maps [K, B, H, W], each scaled to [0, 1] (0 where a block is empty or flat), and
    heatmap [K, H, W] (docs/method.md, Weights and Fusion). A block whose weights are all 0 is skipped.
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
