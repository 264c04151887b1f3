"""sketch.onnx: feature maps -> their masks at a glance, for predicting what a mask would score (docs/budget.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.bundle import InputSpec, Layer
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, INT64, finish, new_graph, tensor_input
from sise_ort.runtime.baselines.maps import hat_matrix

CELLS = 14
"""Cells along a side of a square picture; other pictures have about as many, and cells about as square."""


def build_sketch(layers: Sequence[Layer], spec: InputSpec) -> ir.Model:
    """Inputs: features_b [1, N, h, w] and index_b [n] int64 of every block; alpha [K, N], pooled gradients of the last.

    Outputs, per block: cells_b [n, R, C], each chosen map's mask averaged over a grid of cells, in [0, 1]; range_b [n],
    the map's maximum - minimum; texture_b [n, 2], of the mask at feature resolution the mean absolute difference of
    neighbours (below and beside, added) and the mean square. And evidence [K, R, C], Grad-CAM's map of the last block:
    the positive part of Σ α_k A_k, averaged over the cells.

    A mask is (A - minimum) / range here with both taken at feature resolution, while mask.onnx takes them after
    upsampling: enough to compare masks, and no mask is ever made at full size.
    """
    features = [
        tensor_input(f"features_{b}", FLOAT, [1, layer.channels, layer.height, layer.width])
        for b, layer in enumerate(layers, 1)
    ]
    chosen = [tensor_input(f"index_{b}", INT64, [f"n_{b}"]) for b in range(1, len(layers) + 1)]
    alpha = tensor_input("alpha", FLOAT, ["K", layers[-1].channels])
    graph = new_graph("sketch", [*features, *chosen, alpha])
    op = Ops(graph)
    rows, columns = grid(spec.height, spec.width)

    def in_cells(maps: ir.Value, layer: Layer) -> ir.Value:
        """[n, h, w] -> [n, R, C]."""
        down = cell_means(rows, spec.height) @ hat_matrix(spec.height, layer.height)
        across = cell_means(columns, spec.width) @ hat_matrix(spec.width, layer.width)
        found: ir.Value = op.MatMul(op.MatMul(down, maps), across.T)
        return found

    outputs: dict[str, ir.Value] = {}
    shapes: dict[str, Sequence[int | str]] = {}
    for b, (layer, maps, index) in enumerate(zip(layers, features, chosen, strict=True), 1):
        own = op.Gather(op.Squeeze(maps, op.constant([0])), index, axis=0)
        least = op.ReduceMin(own, [1, 2], keepdims=1)
        extent = op.Sub(op.ReduceMax(own, [1, 2], keepdims=1), least)
        masks = op.Div(op.Sub(own, least), op.Max(extent, float(np.finfo(np.float32).tiny)))
        texture = [
            op.Add(_roughness(op, masks, 1, layer.height), _roughness(op, masks, 2, layer.width)),
            op.ReduceMean(op.Mul(masks, masks), [1, 2], keepdims=0),
        ]
        outputs |= {
            f"cells_{b}": in_cells(masks, layer),
            f"range_{b}": op.Reshape(extent, op.constant([-1])),
            f"texture_{b}": op.Concat(*(op.Unsqueeze(t, op.constant([1])) for t in texture), axis=1),
        }
        shapes |= {
            f"cells_{b}": [f"n_{b}", rows, columns],
            f"range_{b}": [f"n_{b}"],
            f"texture_{b}": [f"n_{b}", 2],
        }
    last = layers[-1]
    flat = op.Reshape(features[-1], op.constant([last.channels, last.height * last.width]))
    summed = op.Relu(op.Reshape(op.MatMul(alpha, flat), op.constant([-1, last.height, last.width])))
    outputs["evidence"], shapes["evidence"] = in_cells(summed, last), ["K", rows, columns]
    return finish(graph, outputs, shapes)


def grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells for a picture."""
    shape = (height / width) ** 0.5
    return min(height, max(1, round(CELLS * shape))), min(width, max(1, round(CELLS / shape)))


def cell_means(cells: int, length: int) -> NDArray[np.float64]:
    """Averages over `cells` equal stretches of `length` places, as a matrix [cells, length]."""
    edges = np.arange(cells + 1)[:, None] * length / cells
    covered = np.clip(edges - np.arange(length), 0, 1)  # of each place, the share that lies before each edge
    found: NDArray[np.float64] = np.diff(covered, axis=0) * cells / length
    return found


def _roughness(op: Ops, masks: ir.Value, axis: int, length: int) -> ir.Value:
    """Mean absolute difference of neighbours along an axis, [N]; 0 where there are none."""
    if length == 1:
        return op.Mul(op.ReduceMean(masks, [1, 2], keepdims=0), 0.0)
    later = op.Slice(masks, op.constant([1]), op.constant([length]), op.constant([axis]))
    earlier = op.Slice(masks, op.constant([0]), op.constant([length - 1]), op.constant([axis]))
    found: ir.Value = op.ReduceMean(op.Abs(op.Sub(later, earlier)), [1, 2], keepdims=0)
    return found
