"""sketch.onnx: from feature maps to masks on a coarse grid, by which a budget predicts scores (docs/budget.md)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sise_ort.bundle import InputSpec, Layer
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, INT64, finish, new_graph, tensor_input
from sise_ort.formulas.sketch import evidence, grid, small_masks, texture, to_cells


def build_sketch(layers: Sequence[Layer], spec: InputSpec) -> ir.Model:
    """Build sketch.onnx.

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
    Inputs: of every block features_b [1, N, h, w] and index_b [n], int64, the maps that may become masks; alpha [K, N], pooled
    gradients of the last block.

    Outputs: of every block cells_b [n, R, C] in [0, 1], each mask averaged over a grid of cells; range_b [n], the map's maximum -
    minimum; texture_b [n, 2], roughness and mean square of the mask (`sise_ort.formulas.sketch.texture`). And evidence
    [K, R, C], Grad-CAM's map of the last block averaged over the cells.

    Masks are scaled at feature resolution here, while mask.onnx scales them after upsampling: enough to compare masks, and no
    mask is made at full size.
    """
    features = [
        tensor_input(f"features_{b}", FLOAT, [1, layer.channels, layer.height, layer.width])
        for b, layer in enumerate(layers, 1)
    ]
    chosen = [tensor_input(f"index_{b}", INT64, [f"n_{b}"]) for b in range(1, len(layers) + 1)]
    alpha = tensor_input("alpha", FLOAT, ["K", layers[-1].channels])
    graph = new_graph("sketch", [*features, *chosen, alpha])
    op = Ops(graph)
    size = (spec.height, spec.width)
    rows, columns = grid(*size)

    outputs: dict[str, ir.Value] = {}
    shapes: dict[str, Sequence[int | str]] = {}
    for b, (layer, maps, index) in enumerate(zip(layers, features, chosen, strict=True), 1):
        own = op.Gather(op.Squeeze(maps, op.constant([0])), index, axis=0)
        masks, extent = small_masks(op, own)
        outputs |= {
            f"cells_{b}": to_cells(op, masks, (layer.height, layer.width), size),
            f"range_{b}": op.Reshape(extent, op.constant([-1])),
            f"texture_{b}": texture(op, masks, (layer.height, layer.width)),
        }
        shapes |= {
            f"cells_{b}": [f"n_{b}", rows, columns],
            f"range_{b}": [f"n_{b}"],
            f"texture_{b}": [f"n_{b}", 2],
        }
    last = layers[-1]
    summed = evidence(op, features[-1], alpha, (last.channels, last.height, last.width))
    outputs["evidence"] = to_cells(op, summed, (last.height, last.width), size)
    shapes["evidence"] = ["K", rows, columns]
    return finish(graph, outputs, shapes)
