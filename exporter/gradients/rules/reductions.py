"""Gradients of reductions and global poolings."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.engine import Gradient, batched_shape, register
from sise_ort.exporter.gradients.rules.arithmetic import signed
from sise_ort.exporter.ops import FIXED_SIZE, Ops, attribute, constant_input, input_of, static_shape


@register("GlobalAveragePool")
def global_average_pool(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g / (places), to every place."""
    return _repeat_mean(op, g, input_of(node), _places(node))


@register("GlobalMaxPool")
def global_max_pool(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g at the first place of the largest value."""
    x = input_of(node)
    size = static_shape(x)[2:]
    if None in size:
        raise ValueError(f"its spatial size is unknown; {FIXED_SIZE}")
    count = int(np.prod([s or 0 for s in size]))
    rows = op.constant([0, 0, -1])
    winner = op.ArgMax(op.Reshape(x, rows), axis=2, keepdims=1)
    hit = op.Equal(winner, op.constant(np.arange(count)))
    return op.Reshape(op.Where(hit, op.Reshape(g, rows), 0.0), batched_shape(op, x))


@register("GlobalLpPool")
def global_lp_pool(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g · sign(x) · (|x| / y)^(p-1), 0 where y is 0."""
    x, y = input_of(node), node.outputs[0]
    return signed(op, x, op.Mul(g, _share(op, x, y, attribute(node, "p", 2))))


def _share(op: Ops, x: ir.Value, y: ir.Value, p: int) -> ir.Value:
    found = op.Greater(y, 0.0)
    share = op.Div(op.Abs(x), op.Where(found, y, 1.0))
    return op.Where(found, op.Pow(share, float(p - 1)), 0.0)


def _places(node: ir.Node) -> list[int]:
    return list(range(2, len(static_shape(input_of(node)))))


def _opened(op: Ops, node: ir.Node, g: ir.Value) -> tuple[ir.Value, ir.Value, list[int]]:
    """g and y with the reduced axes kept as 1, and those axes."""
    axes = _reduced_axes(node)
    y = node.outputs[0]
    if axes and not attribute(node, "keepdims", 1):
        where = op.constant(axes)
        return op.Unsqueeze(g, where), op.Unsqueeze(y, where), axes
    return g, y, axes


def _reduced_axes(node: ir.Node) -> list[int]:
    rank = len(static_shape(input_of(node)))
    given = constant_input(node, 1, "its axes are")
    if given is None:
        given = attribute(node, "axes", None)
    if given is None or len(given) == 0:
        if attribute(node, "noop_with_empty_axes", 0):
            return []
        given = np.arange(rank)
    axes = sorted(int(a) % rank for a in given)
    if 0 in axes:
        raise ValueError("it reduces over the batch")
    return axes


@register("ReduceMean")
def reduce_mean(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g / (number of averaged cells), to each of them."""
    g, _, axes = _opened(op, node, g)
    return _repeat_mean(op, g, input_of(node), axes)


def _repeat_mean(op: Ops, g: ir.Value, x: ir.Value, axes: list[int]) -> ir.Value:
    """g [K, …, 1, 1] / (number of averaged cells), repeated to the size of x."""
    if not axes:
        return g
    dims = [static_shape(x)[a] for a in axes]
    if any(d is None for d in dims):
        count = op.Cast(op.ReduceProd(op.Gather(op.Shape(x), op.constant(axes))), to=op.dtype)
    else:
        count = op.constant(float(np.prod(np.array(dims, dtype=float))))
    return _repeat(op, op.Div(g, count), x)


def _repeat(op: Ops, g: ir.Value, x: ir.Value) -> ir.Value:
    return op.Expand(g, batched_shape(op, x, 1))


@register("ReduceSum")
def reduce_sum(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g, to every cell of the sum."""
    g, _, _ = _opened(op, node, g)
    return _repeat(op, g, input_of(node))


@register("ReduceMax")
@register("ReduceMin")
def reduce_extreme(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g, shared evenly among the cells that equal y (as torch.amax)."""
    x = input_of(node)
    g, y, axes = _opened(op, node, g)
    hits = op.Cast(op.Equal(x, y), to=op.dtype)
    count = op.ReduceSum(hits, axes, keepdims=1) if axes else 1.0
    return op.Mul(op.Div(g, count), hits)


@register("ReduceL1")
def reduce_l1(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g · sign(x)."""
    g, _, _ = _opened(op, node, g)
    return signed(op, input_of(node), g)


@register("ReduceL2")
def reduce_l2(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g · x/y, 0 where y is 0."""
    g, y, _ = _opened(op, node, g)
    found = op.Greater(y, 0.0)
    return op.Mul(input_of(node), op.Where(found, op.Div(g, op.Where(found, y, 1.0)), 0.0))


@register("ReduceSumSquare")
def reduce_sum_square(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g · 2x."""
    g, _, _ = _opened(op, node, g)
    return op.Mul(op.Mul(g, 2.0), input_of(node))


@register("ReduceLogSum")
def reduce_log_sum(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g / exp(y), to every cell of the sum."""
    g, y, _ = _opened(op, node, g)
    return _repeat(op, op.Div(g, op.Exp(y)), input_of(node))


@register("ReduceLogSumExp")
def reduce_log_sum_exp(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g · exp(x - y)."""
    g, y, _ = _opened(op, node, g)
    return op.Mul(g, op.Exp(op.Sub(input_of(node), y)))


@register("ReduceProd")
def reduce_prod(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g · (product of the other cells), exact also where cells are 0."""
    x = input_of(node)
    g, _, axes = _opened(op, node, g)
    if not axes:
        return g
    zero = op.Equal(x, 0.0)
    zeros = op.ReduceSum(op.Cast(zero, to=op.dtype), axes, keepdims=1)
    filled = op.Where(zero, 1.0, x)
    product = op.ReduceProd(filled, axes, keepdims=1)
    others = op.Where(
        zero,
        op.Where(op.Less(zeros, 1.5), product, 0.0),
        op.Where(op.Less(zeros, 0.5), op.Div(product, filled), 0.0),
    )
    return op.Mul(g, others)
