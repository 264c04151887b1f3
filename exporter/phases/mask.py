"""mask.onnx: from feature maps and indices to attribution masks."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, INT64, finish, new_graph, tensor_input
from sise_ort.formulas.masks import attribution_masks


def build_mask(spec: InputSpec) -> ir.Model:
    """Build mask.onnx (docs/method.md, Masks).

    Parameters
    ----------
    spec : InputSpec
        Frame that the bundle takes.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Inputs: maps [1, N, h, w], of any block; index [n], int64, the maps that become masks.

    Outputs: masks [n, 1, H, W] in [0, 1]; range [n], maximum - minimum of the upsampled map; total [n], sum of the mask.
    """
    maps = tensor_input("maps", FLOAT, [1, "N", "h", "w"])
    index = tensor_input("index", INT64, ["n"])
    graph = new_graph("mask", [maps, index])
    op = Ops(graph)
    chosen = op.Gather(op.Squeeze(maps, op.constant([0])), index, axis=0)
    masks, extent, total = attribution_masks(
        op, op.Unsqueeze(chosen, op.constant([1])), spec.height, spec.width
    )
    return finish(
        graph,
        {"masks": masks, "range": extent, "total": total},
        {"masks": ["n", 1, spec.height, spec.width], "range": ["n"], "total": ["n"]},
    )
