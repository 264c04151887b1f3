"""fuse.onnx: feature maps and weights -> visualization maps and the explanation map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sise_ort.bundle import InputSpec, Layer
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, finish, new_graph, tensor_input, upsample
from sise_ort.selection import FLAT, OTSU_BINS


def build_fuse(layers: Sequence[Layer], spec: InputSpec) -> ir.Model:
    """Inputs: features_b [1, N, h, w] and weights_b [K, N] of every block (w_k = s_k / (range_k · total_k)).

    Outputs: visualization_maps [K, B, H, W], each scaled to [0, 1] (0 where a block is empty or flat), and
    heatmap [K, H, W] (METHOD, masks and fusion). A block whose weights are all 0 is skipped.
    """
    features, weights = [], []
    for b, layer in enumerate(layers, 1):
        features.append(tensor_input(f"features_{b}", FLOAT, [1, layer.channels, layer.height, layer.width]))
        weights.append(tensor_input(f"weights_{b}", FLOAT, ["K", layer.channels]))
    graph = new_graph("fuse", [*features, *weights])
    op = Ops(graph)
    maps = [
        _visualization_map(op, layer, feature, weight, spec)
        for layer, feature, weight in zip(layers, features, weights, strict=True)
    ]
    values = [visualization for visualization, _ in maps]
    size = [spec.height, spec.width]
    return finish(
        graph,
        {
            "visualization_maps": op.Concat(*values, axis=1) if len(values) > 1 else op.Identity(values[0]),
            "heatmap": _fused(op, maps),
        },
        {"visualization_maps": ["K", len(layers), *size], "heatmap": ["K", *size]},
    )


def _fused(op: Ops, maps: Sequence[tuple[ir.Value, ir.Value]]) -> ir.Value:
    """The heat map [K, H, W] in [0, 1] from visualization maps [K, 1, H, W] and whether they have evidence."""
    fused, started = maps[0]
    for visualization, has_evidence in maps[1:]:
        above = op.Cast(op.Greater(visualization, _otsu(op, visualization)), to=FLOAT)
        first = op.Sub(1.0, started)  # the first block with evidence stays unmasked
        gate = op.Max(above, first)
        # a block without evidence leaves the sum as it is (products with 0 and 1: Where is slow on CPUs)
        joined = op.Mul(op.Add(fused, visualization), op.Mul(gate, has_evidence))
        fused = op.Add(joined, op.Mul(fused, op.Sub(1.0, has_evidence)))
        started = op.Max(started, has_evidence)
    peak = op.ReduceMax(fused, [1, 2, 3], keepdims=1)
    heatmap = op.Div(fused, op.Where(op.Greater(peak, 0.0), peak, 1.0))
    squeezed: ir.Value = op.Squeeze(heatmap, op.constant([1]))
    return squeezed


def _visualization_map(
    op: Ops, layer: Layer, features: ir.Value, weights: ir.Value, spec: InputSpec
) -> tuple[ir.Value, ir.Value]:
    """V [K, 1, H, W] in [0, 1] and whether it has evidence, [K, 1, 1, 1] as 0 or 1.

    upsample(Σ w_k (A_k - mean A_k)), then scaled by its own minimum and maximum. Flat means: its range is at
    most 1e-5 of what the summands could have added up to.
    """
    centred = op.Sub(features, op.ReduceMean(features, [2, 3], keepdims=1))
    rows = op.Reshape(centred, op.constant([layer.channels, layer.height * layer.width]))
    summed = op.Reshape(op.MatMul(weights, rows), op.constant([-1, 1, layer.height, layer.width]))
    wide = upsample(op, summed, spec.height, spec.width)
    largest = op.Max(op.ReduceMax(rows, [1], keepdims=1), op.Neg(op.ReduceMin(rows, [1], keepdims=1)))
    possible = op.MatMul(op.Abs(weights), largest)
    limit = op.Mul(op.Reshape(possible, op.constant([-1, 1, 1, 1])), FLAT)
    least = op.ReduceMin(wide, [1, 2, 3], keepdims=1)
    extent = op.Sub(op.ReduceMax(wide, [1, 2, 3], keepdims=1), least)
    has_evidence = op.Greater(extent, limit)
    found = op.Cast(has_evidence, to=FLOAT)
    factor = op.Div(found, op.Where(has_evidence, extent, 1.0))
    return op.Mul(op.Sub(wide, least), factor), found


def _otsu(op: Ops, maps: ir.Value) -> ir.Value:
    """Otsu's threshold of each map [K, 1, H, W] in [0, 1], as [K, 1, 1, 1]; see selection.otsu_threshold.

    Counts are whole numbers, exact in double, so that the first of equal maxima is really found.
    """
    double = ir.DataType.DOUBLE
    levels = op.Min(op.Floor(op.Mul(maps, float(OTSU_BINS))), float(OTSU_BINS - 1))
    bins = op.Cast(op.Reshape(levels, op.constant([0, -1])), to=ir.DataType.INT32)
    empty = op.Expand(0.0, op.Concat(op.Shape(maps, end=1), op.constant([OTSU_BINS]), axis=0))
    ones = op.Expand(1.0, op.Shape(bins))
    histogram = op.Cast(op.ScatterElements(empty, bins, ones, axis=1, reduction="add"), to=double)
    value = op.Cast(op.constant(np.arange(OTSU_BINS)), to=double)
    below, below_sum = (op.CumSum(h, op.constant(1)) for h in (histogram, op.Mul(histogram, value)))
    count, total = (op.ReduceMax(c, [1], keepdims=1) for c in (below, below_sum))
    apart = op.Sub(op.Mul(below_sum, count), op.Mul(total, below))
    both = op.Mul(below, op.Sub(count, below))
    zero, one = op.Cast(0.0, to=double), op.Cast(1.0, to=double)
    some = op.Greater(both, zero)
    variance = op.Where(some, op.Div(op.Mul(apart, apart), op.Where(some, both, one)), op.Neg(one))
    best = op.Cast(op.ArgMax(variance, axis=1, keepdims=1), to=FLOAT)
    return op.Reshape(op.Div(op.Add(best, 0.5), float(OTSU_BINS)), op.constant([-1, 1, 1, 1]))
