"""Visualization maps of the blocks and their fusion into one heat map (docs/method.md, Fusion)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.otsu import otsu
from sise_ort.formulas.resampling import upsample
from sise_ort.formulas.scaling import scale_by_peak, scale_unless_flat


def visualization_map(
    op: Ops[V], features: V, weights: V, shape: tuple[int, int, int], size: tuple[int, int]
) -> tuple[V, V]:
    """V = upsample(Σ w_k (A_k - mean A_k)) of one block, scaled to [0, 1]; 0 where it is flat.

    Parameters
    ----------
    op : Ops
    features : value [1, N, h, w]
        Feature maps A of the block.
    weights : value [K, N]
        Weights w (`mask_weights`), 0 for maps that are no masks.
    shape : (N, h, w)
    size : (H, W)
        Size of the network's input.

    Returns
    -------
    visualization : value [K, 1, H, W] in [0, 1]
    evidence : value [K, 1, 1, 1]
        1 where the map is not flat, that is, where the block takes part in the fusion; else 0.
    """
    channels, height, width = shape
    centred = op.Sub(features, op.ReduceMean(features, [2, 3], keepdims=1))
    rows = op.Reshape(centred, op.constant([channels, height * width]))
    summed = op.Reshape(op.MatMul(weights, rows), op.constant([-1, 1, height, width]))
    wide = upsample(op, summed, *size)
    reach = op.Reshape(reach_of_sum(op, weights, rows), op.constant([-1, 1, 1, 1]))
    return scale_unless_flat(op, wide, [1, 2, 3], reach)


def reach_of_sum(op: Ops[V], weights: V, rows: V) -> V:
    """What weighted maps could add up to at a place, Σ |w_k| · max |row_k|: [K, N] and [N, places] -> [K, 1]."""
    largest = op.Max(op.ReduceMax(rows, [1], keepdims=1), op.Neg(op.ReduceMin(rows, [1], keepdims=1)))
    return op.MatMul(op.Abs(weights), largest)


def above_otsu(op: Ops[V], visualization: V) -> V:
    """The step of the fusion, [V > Otsu(V)] as 0 or 1, for maps [K, 1, H, W]."""
    return op.Cast(op.Greater(visualization, otsu(op, visualization)), to=op.dtype)


def accumulate(op: Ops[V], maps: Sequence[tuple[V, V]], step: Callable[[int, V], V]) -> V:
    """F ← (F + V_b) ⊙ step(V_b) from shallow to deep.

    The first block with evidence is taken as it is; a block without evidence changes nothing.

    Parameters
    ----------
    op : Ops
    maps : sequence of (visualization [K, 1, H, W], evidence [K, 1, 1, 1])
        Of every block, shallow to deep, as `visualization_map` gives them.
    step : function of (block, visualization)
        The gate in [0, 1] of the block with this place in `maps`, [K, 1, H, W].

    Returns
    -------
    value [K, 1, H, W], not scaled
    """
    fused, started = maps[0]
    for block, (visualization, evidence) in enumerate(maps[1:], 1):
        gate = op.Max(step(block, visualization), op.Sub(1.0, started))
        # products with 0 and 1 in place of Where, which is slow on CPUs
        joined = op.Mul(op.Add(fused, visualization), op.Mul(gate, evidence))
        fused = op.Add(joined, op.Mul(fused, op.Sub(1.0, evidence)))
        started = op.Max(started, evidence)
    return fused


def fuse(op: Ops[V], maps: Sequence[tuple[V, V]]) -> V:
    """The heat map [K, 1, H, W] in [0, 1] from all blocks' visualization maps and whether each has evidence."""
    return scale_by_peak(op, accumulate(op, maps, lambda _, visualization: above_otsu(op, visualization)))
