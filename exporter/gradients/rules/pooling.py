"""Gradients of pooling over sliding windows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.convolution import spread
from sise_ort.exporter.gradients.engine import Gradient, batched_shape, register
from sise_ort.exporter.gradients.rules.arithmetic import signed
from sise_ort.exporter.gradients.windows import window_of
from sise_ort.exporter.ops import Ops, attribute, input_of, static_shape


@register("MaxPool")
def max_pool(op: Ops, node: ir.Node, g: ir.Value, _: Gradient = None) -> Gradient:
    """g at the place that MaxPool's Indices name.

    Indices count through [N, C, *size]; modulo C·size they count within one picture.
    """
    if attribute(node, "storage_order", 0):
        raise ValueError("storage_order=1 is not covered")
    x = input_of(node)
    if x.dtype in (ir.DataType.INT8, ir.DataType.UINT8):
        # Up to onnxruntime 1.24, a window that holds nothing but the type's lowest value has an index from elsewhere.
        options = {name: value.value for name, value in node.attributes.items()}
        _, indices = op.MaxPool(op.Cast(x, to=op.dtype), outputs=2, **options)
    else:
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
    """g / (cells that the window counted), to every cell of the window."""
    x = input_of(node)
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


@register("LpPool")
def lp_pool(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """sign(x)·|x|^(p-1) times g·y^(1-p), to every cell of the window; 0 where y is 0."""
    x, y = input_of(node), node.outputs[0]
    p = float(attribute(node, "p", 2))
    window = window_of(node, tuple(attribute(node, "kernel_shape")))
    found = op.Greater(y, 0.0)
    scaled = op.Where(found, op.Mul(g, op.Pow(op.Where(found, y, 1.0), 1 - p)), 0.0)
    return signed(op, x, op.Mul(spread(op, scaled, x, window), op.Pow(op.Abs(x), p - 1)))
