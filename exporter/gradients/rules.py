"""The table of gradient rules: one small function per operator.

A rule gets the op builder, the forward node and one gradient per output, and returns one gradient per
input (see engine.Rule). Where the output says as much as the input (Relu, Clip, Sigmoid), the rule reads
the output, so that ONNX Runtime can still fuse the operator with the convolution before it.
Only operators that the CUDA provider runs may be emitted.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.convolution import convolution_input_gradient, spread
from sise_ort.exporter.gradients.engine import Gradient, batched_shape, register
from sise_ort.exporter.gradients.windows import window_of
from sise_ort.exporter.ops import Ops, attribute, constant_array, static_shape


def _input(node: ir.Node, index: int = 0) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"input {index} is missing")
    return value


# Arithmetic -----------------------------------------------------------------------------------------


@register("Add", broadcasts=True)
def add(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    return g, g


@register("Sub", broadcasts=True)
def sub(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    return g, op.Neg(g)


@register("Mul", broadcasts=True)
def mul(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    a, b = node.inputs
    return op.Mul(g, b), op.Mul(g, a)


@register("Div", broadcasts=True)
def div(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    b, y = _input(node, 1), node.outputs[0]
    by_a = op.Div(g, b)
    return by_a, op.Neg(op.Mul(by_a, y))


@register("Sum", broadcasts=True)
def sum_(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    return (g,) * len(node.inputs)


@register("Neg")
def neg(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    return op.Neg(g)


@register("Identity")
@register("Dropout")  # in inference the identity
def identity(op: Ops, node: ir.Node, g: ir.Value, mask: Gradient = None) -> Gradient:
    return g


# Activations ----------------------------------------------------------------------------------------


def _where_positive(op: Ops, y: ir.Value, g: ir.Value) -> ir.Value:
    return op.Where(op.Greater(y, 0.0), g, 0.0)


@register("Relu")
def relu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    return _where_positive(op, node.outputs[0], g)


@register("Clip")
def clip(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """1 strictly between the bounds, 0 at and beyond them (as torch's hardtanh and relu6)."""
    for bound, beyond in zip(node.inputs[1:], (op.Greater, op.Less), strict=False):
        if bound is not None:
            g = op.Where(beyond(node.outputs[0], bound), g, 0.0)
    return g


@register("Sigmoid")
def sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    y = node.outputs[0]
    return op.Mul(g, op.Mul(y, op.Sub(1.0, y)))


@register("HardSigmoid")
def hard_sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """y = max(0, min(1, αx + β)): α strictly between 0 and 1."""
    y = node.outputs[0]
    inside = op.Where(op.Less(y, 1.0), op.Mul(g, attribute(node, "alpha", 0.2)), 0.0)
    return _where_positive(op, y, inside)


@register("HardSwish")
def hard_swish(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """y = x · max(0, min(1, x/6 + ½)): y' is 0 below -3, x/3 + ½ between, 1 above 3."""
    x = _input(node)
    slope = op.Where(op.Less(x, 3.0), op.Add(op.Div(x, 3.0), 0.5), 1.0)
    return op.Mul(g, op.Where(op.Greater(x, -3.0), slope, 0.0))


@register("Softmax")
def softmax(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """y ⊙ (g - Σ g ⊙ y)."""
    y, axis = node.outputs[0], attribute(node, "axis", -1)
    return op.Mul(y, op.Sub(g, op.ReduceSum(op.Mul(g, y), [axis], keepdims=1)))


# Linear layers --------------------------------------------------------------------------------------


@register("Conv")
def conv(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    x, weights = _input(node, 0), _input(node, 1)
    kernel = static_shape(weights)[2:]
    if any(k is None for k in kernel):
        raise ValueError(f"the kernel size of '{weights.name}' is unknown")
    window = window_of(node, tuple(int(k) for k in kernel if k is not None))
    return convolution_input_gradient(op, g, x, weights, window, attribute(node, "group", 1))


@register("BatchNormalization")
def batch_normalization(op: Ops, node: ir.Node, g: ir.Value, *_: Gradient) -> Gradient:
    """g · scale / √(variance + ε), per channel."""
    if attribute(node, "training_mode", 0):
        raise ValueError("it is in training mode; export the model in evaluation mode")
    scale, variance = _input(node, 1), _input(node, 4)
    slope = op.Div(scale, op.Sqrt(op.Add(variance, attribute(node, "epsilon", 1e-5))))
    per_channel = [-1] + [1] * (len(static_shape(_input(node))) - 2)
    return op.Mul(g, op.Reshape(slope, op.constant(per_channel)))


@register("Gemm")
def gemm(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """Y = α A B' + β C with constant B: α g B'ᵀ for A, β g for a C of the output's shape."""
    if attribute(node, "transA", 0):
        raise ValueError("transA=1 would move the batch")
    b = _input(node, 1)
    by_a = op.Gemm(g, b, alpha=attribute(node, "alpha", 1.0), transB=1 - attribute(node, "transB", 0))
    by_c = None
    if len(node.inputs) > 2 and node.inputs[2] is not None and node.inputs[2].shape == node.outputs[0].shape:
        by_c = op.Mul(g, attribute(node, "beta", 1.0))
    return by_a, None, by_c


@register("MatMul")
def matmul(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g Bᵀ for A, where B is one matrix for the whole batch."""
    b = _input(node, 1)
    if len(static_shape(b)) != 2 or constant_array(b) is None:
        raise ValueError("only products with one constant matrix on the right are covered")
    return (op.MatMul(g, op.Transpose(b, perm=[1, 0])),)


# Pooling and reductions -----------------------------------------------------------------------------


@register("MaxPool")
def max_pool(op: Ops, node: ir.Node, g: ir.Value, _: Gradient = None) -> Gradient:
    """Each gradient goes to the place that MaxPool's Indices name.

    Indices count through [N, C, *size]; modulo C·size they count within one picture.
    """
    if attribute(node, "storage_order", 0):
        raise ValueError("storage_order=1 is not covered")
    x = _input(node)
    if len(node.outputs) == 1:
        node.resize_outputs(2)
    indices = node.outputs[1]
    indices.name = indices.name or f"{node.outputs[0].name}/indices"
    dims = static_shape(x)[1:]
    if None in dims:
        size = op.ReduceProd(op.Shape(x, start=1), keepdims=1)
    else:
        size = op.constant([int(np.prod([d or 0 for d in dims]))])
    rows = op.constant([0, -1])  # the batch as it is, everything else in one row
    places = op.Mod(op.Reshape(indices, rows), size)
    flat = op.Reshape(g, rows)
    zeros = op.Expand(0.0, op.Concat(op.Shape(g, end=1), size, axis=0))
    everywhere = op.ScatterElements(zeros, op.Expand(places, op.Shape(flat)), flat, axis=1, reduction="add")
    return op.Reshape(everywhere, batched_shape(op, x))


@register("AveragePool")
def average_pool(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """Each gradient, divided by the number of cells that its window counted, spread over its window."""
    x = _input(node)
    window = window_of(node, tuple(attribute(node, "kernel_shape")))
    cells = float(np.prod(window.kernel))
    include_pad = attribute(node, "count_include_pad", 0)
    if not any(window.overhang) and (include_pad or not any(window.begin + window.end)):
        g = op.Div(g, cells)
    else:  # count what each window saw by pooling a plane of ones
        ones = op.Expand(1.0, op.Concat(op.constant([1, 1]), op.Shape(x, start=2), axis=0))
        begin, end = window.begin, window.end
        if include_pad:
            own = [e - o for e, o in zip(end, window.overhang, strict=True)]
            edges = op.constant([0, 0, *begin, 0, 0, *own])
            ones = op.Pad(ones, edges, 1.0)
            begin, end = (0,) * len(begin), window.overhang
        counts = op.Conv(
            ones,
            op.constant(np.ones((1, 1, *window.kernel))),
            pads=[*begin, *end],
            strides=list(window.strides),
            dilations=list(window.dilations),
        )
        g = op.Div(g, counts)
    return spread(op, g, x, window)


@register("GlobalAveragePool")
def global_average_pool(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    x = _input(node)
    return _repeat_mean(op, g, x, list(range(2, len(static_shape(x)))))


@register("ReduceMean")
def reduce_mean(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    x = _input(node)
    axes = _reduced_axes(node, x)
    if not attribute(node, "keepdims", 1):
        g = op.Unsqueeze(g, op.constant(axes))
    return _repeat_mean(op, g, x, axes)


def _reduced_axes(node: ir.Node, x: ir.Value) -> list[int]:
    rank = len(static_shape(x))
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None:
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            raise ValueError("the axes are computed while running")
        given = attribute(node, "axes", None)
    if given is None or len(given) == 0:
        if attribute(node, "noop_with_empty_axes", 0):
            return []
        given = np.arange(rank)
    axes = sorted(int(a) % rank for a in given)
    if 0 in axes:
        raise ValueError("it reduces over the batch")
    return axes


def _repeat_mean(op: Ops, g: ir.Value, x: ir.Value, axes: list[int]) -> ir.Value:
    """g [K, …, 1, 1] / (number of averaged cells), repeated to the size of x."""
    if not axes:
        return g
    dims = [static_shape(x)[a] for a in axes]
    if any(d is None for d in dims):
        count = op.Cast(op.ReduceProd(op.Gather(op.Shape(x), op.constant(axes))), to=op.dtype)
    else:
        count = op.constant(float(np.prod(np.array(dims, dtype=float))))
    return op.Expand(op.Div(g, count), batched_shape(op, x, 1))


# Shape and arrangement ------------------------------------------------------------------------------


@register("Reshape")
@register("Flatten")
@register("Squeeze")
@register("Unsqueeze")
def reshape(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    return op.Reshape(g, batched_shape(op, _input(node)))


@register("Transpose")
def transpose(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    perm = attribute(node, "perm", None) or list(range(len(static_shape(_input(node)))))[::-1]
    if perm[0] != 0:
        raise ValueError(f"perm {list(perm)} moves the batch")
    return op.Transpose(g, perm=[int(i) for i in np.argsort(perm)])


@register("Concat")
def concat(op: Ops, node: ir.Node, g: ir.Value) -> list[Gradient]:
    axis = attribute(node, "axis")
    lengths = [static_shape(_input(node, i))[axis] for i in range(len(node.inputs))]
    if any(n is None for n in lengths):
        raise ValueError(f"the lengths of the parts along axis {axis} are unknown")
    if len(lengths) == 1:
        return [g]
    parts = op.Split(
        g, op.constant([int(n) for n in lengths if n is not None]), axis=axis, outputs=len(lengths)
    )
    return list(parts)


@register("Gather")
def gather(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """Constant indices along an axis other than the batch: each slice is added back at its index."""
    x, indices = _input(node), constant_array(node.inputs[1])
    dims = static_shape(x)
    axis = attribute(node, "axis", 0) % len(dims)
    length = dims[axis]
    if indices is None or indices.ndim > 1 or axis == 0 or length is None:
        raise ValueError(
            "only constant indices (a number or a list) along a fixed axis after the batch are covered"
        )
    if indices.ndim == 0:
        g = op.Unsqueeze(g, op.constant([axis]))
    # A gradient of [K, …, m, …] times the one-hot matrix [m, length], with the axis moved to the end.
    one_hot = np.eye(length)[np.atleast_1d(indices) % length]
    order = [i for i in range(len(dims)) if i != axis] + [axis]
    moved = op.MatMul(op.Transpose(g, perm=order), one_hot)
    return op.Transpose(moved, perm=[int(i) for i in np.argsort(order)])


@register("Slice")
def slice_(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """Constant bounds with step 1: zeros are put back around the gradient."""
    x = _input(node)
    dims = static_shape(x)
    starts, ends, axes, steps = (
        constant_array(node.inputs[i]) if i < len(node.inputs) else None for i in range(1, 5)
    )
    if starts is None or ends is None or (steps is not None and any(s != 1 for s in steps)):
        raise ValueError("only constant bounds with step 1 are covered")
    before, after = [0] * len(dims), [0] * len(dims)
    for axis, start, end in zip(range(len(starts)) if axes is None else axes, starts, ends, strict=True):
        length = dims[axis]
        if length is None or axis % len(dims) == 0:
            raise ValueError("it cuts the batch or an axis of unknown length")
        first, last, _ = slice(int(start), int(end)).indices(length)
        before[axis], after[axis] = first, length - last
    return op.Pad(g, op.constant([*before, *after]))


@register("Pad")
def pad(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """Constant padding: the gradient's border is cut off."""
    mode = attribute(node, "mode", "constant")
    pads = constant_array(node.inputs[1])
    axes = constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    if mode != "constant" or pads is None or any(p < 0 for p in pads):
        raise ValueError("only constant, non-negative padding is covered")
    half = len(pads) // 2
    places = list(range(half)) if axes is None else [int(a) for a in axes]
    rank = len(static_shape(_input(node)))
    cut = [
        (a % rank, int(b), int(e)) for a, b, e in zip(places, pads[:half], pads[half:], strict=True) if b or e
    ]
    if not cut:
        return g
    ends = [-e if e else np.iinfo(np.int64).max for _, _, e in cut]
    return op.Slice(
        g, op.constant([b for _, b, _ in cut]), op.constant(ends), op.constant([a for a, _, _ in cut])
    )
