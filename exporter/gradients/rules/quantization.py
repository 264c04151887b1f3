"""Gradients through QuantizeLinear and DequantizeLinear: those of the real values that the integers stand for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.engine import Gradient, register
from sise_ort.exporter.ops import Ops, attribute, input_of, static_shape


@register("QuantizeLinear")
def quantize_linear(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where x lies within the range that the integers can represent, 0 where it saturates.

    The straight-through gradient of clip(x, (q_min - zero) · scale, (q_max - zero) · scale): where a quantiser
    took over a Relu, its lower bound is 0 and this is Relu's gradient. The bounds themselves pass, since values
    that are quantised a second time, behind a pooling, often lie on them.
    """
    x, scale = input_of(node), input_of(node, 1)
    dtype = node.outputs[0].dtype
    if dtype not in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16):
        raise ValueError(f"quantising to {dtype} is not covered")
    if attribute(node, "block_size", 0):
        raise ValueError("block-wise quantisation is not covered")
    limits = np.iinfo(dtype.numpy())
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    offset = op.constant(0.0) if zero is None else op.Cast(zero, to=op.dtype)
    lower, upper = (op.Mul(op.Sub(float(limit), offset), scale) for limit in (limits.min, limits.max))
    if static_shape(scale) not in ([], [1]):
        shape = [1] * len(static_shape(x))
        shape[attribute(node, "axis", 1) % len(shape)] = -1
        lower, upper = op.Reshape(lower, op.constant(shape)), op.Reshape(upper, op.constant(shape))
    return op.Where(op.Less(x, lower), 0.0, op.Where(op.Greater(x, upper), 0.0, g))


@register("DequantizeLinear")
def dequantize_linear(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g: it is carried in terms of the dequantised values."""
    return g
