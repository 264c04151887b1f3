"""mask.onnx: feature maps and indices -> attribution masks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, INT64, finish, new_graph, tensor_input, upsample


def build_mask(spec: InputSpec) -> ir.Model:
    """Inputs: maps [1, N, h, w], index [n] int64.

    Outputs: masks [n, 1, H, W], each map upsampled, then scaled to [0, 1] by its own minimum and maximum;
    range [n], maximum - minimum before scaling; total [n], the sum of each mask.
    """
    maps = tensor_input("maps", FLOAT, [1, "N", "h", "w"])
    index = tensor_input("index", INT64, ["n"])
    graph = new_graph("mask", [maps, index])
    op = Ops(graph)
    chosen = op.Gather(op.Squeeze(maps, op.constant([0])), index, axis=0)
    wide = upsample(op, op.Unsqueeze(chosen, op.constant([1])), spec.height, spec.width)
    least = op.ReduceMin(wide, [2, 3], keepdims=1)
    extent = op.Sub(op.ReduceMax(wide, [2, 3], keepdims=1), least)
    masks = op.Div(op.Sub(wide, least), op.Max(extent, float(np.finfo(np.float32).tiny)))
    return finish(
        graph,
        {
            "masks": masks,
            "range": op.Reshape(extent, op.constant([-1])),
            "total": op.ReduceSum(masks, [1, 2, 3], keepdims=0),
        },
        {"masks": ["n", 1, spec.height, spec.width], "range": ["n"], "total": ["n"]},
    )
