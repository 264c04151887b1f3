"""Gradients of normalisations and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.engine import Gradient, register
from sise_ort.exporter.gradients.rules.arithmetic import signed
from sise_ort.exporter.ops import FIXED_SIZE, Ops, attribute, axis_after_batch, input_of, static_shape


@register("Softmax")
def softmax(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """y ⊙ (g - Σ g ⊙ y)."""
    y, axis = node.outputs[0], axis_after_batch(node)
    return op.Mul(y, op.Sub(g, op.ReduceSum(op.Mul(g, y), [axis], keepdims=1)))


@register("LogSoftmax")
def log_softmax(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g - exp(y) · Σ g."""
    axis = axis_after_batch(node)
    return op.Sub(g, op.Mul(op.Exp(node.outputs[0]), op.ReduceSum(g, [axis], keepdims=1)))


@register("BatchNormalization")
def batch_normalization(op: Ops, node: ir.Node, g: ir.Value, *_: Gradient) -> Gradient:
    """g · scale / √(variance + ε), per channel. Training mode is refused."""
    if attribute(node, "training_mode", 0):
        raise ValueError("it is in training mode; export the model in evaluation mode")
    scale, variance = input_of(node, 1), input_of(node, 4)
    slope = op.Div(scale, op.Sqrt(op.Add(variance, attribute(node, "epsilon", 1e-5))))
    return op.Mul(g, op.Reshape(slope, op.constant(_per_channel(node))))


@register("InstanceNormalization")
def instance_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """(h - mean h - x̂ · mean(h ⊙ x̂)) / σ over each channel's places, h = g · scale."""
    x = input_of(node)
    h = op.Mul(g, op.Reshape(input_of(node, 1), op.constant(_per_channel(node))))
    return _normalized(op, x, h, list(range(2, len(static_shape(x)))), attribute(node, "epsilon", 1e-5))


@register("LayerNormalization")
def layer_normalization(op: Ops, node: ir.Node, g: ir.Value, *_: Gradient) -> Gradient:
    """(h - mean h - x̂ · mean(h ⊙ x̂)) / σ over the normalised axes, h = g · scale."""
    x = input_of(node)
    axes = list(range(axis_after_batch(node), len(static_shape(x))))
    h = op.Mul(g, input_of(node, 1))
    return _normalized(op, x, h, axes, attribute(node, "epsilon", 1e-5))


def _normalized(op: Ops, x: ir.Value, h: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    """Gradient of x̂ = (x - mean x) / σ, σ = √(mean (x - mean x)² + ε), for a gradient h of x̂ (Ba et al. 2016)."""
    where = op.constant(list(axes))
    centred = op.Sub(x, op.ReduceMean(x, where, keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), where, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, epsilon))
    normal = op.Div(centred, deviation)
    along = op.Mul(normal, op.ReduceMean(op.Mul(h, normal), where, keepdims=1))
    return op.Div(op.Sub(op.Sub(h, op.ReduceMean(h, where, keepdims=1)), along), deviation)


@register("LRN")
def local_response_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·s^(-β) - 2αβ/size · x · W(g·x·s^(-β-1)), s = bias + α/size · W(x²), W the sum over channels nearby."""
    x = input_of(node)
    channels, rank = static_shape(x)[1], len(static_shape(x))
    if channels is None:
        raise ValueError(f"the number of channels is unknown; {FIXED_SIZE}")
    size = attribute(node, "size")
    alpha, beta = attribute(node, "alpha", 1e-4), attribute(node, "beta", 0.75)
    offset = (
        np.arange(channels)[None, :] - np.arange(channels)[:, None]
    )  # of the read channel from the written
    near = (offset >= -((size - 1) // 2)) & (offset <= size // 2)
    window = near.astype(np.float64).reshape(channels, channels, *[1] * (rank - 2))
    turned = near.T.astype(np.float64).reshape(window.shape)
    s = op.Add(op.Mul(op.Conv(op.Mul(x, x), window), alpha / size), attribute(node, "bias", 1.0))
    direct = op.Mul(g, op.Pow(s, -beta))
    shared = op.Conv(op.Mul(direct, op.Div(x, s)), turned)
    return op.Sub(direct, op.Mul(op.Mul(x, shared), 2 * alpha * beta / size))


@register("LpNormalization")
def lp_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """(g - y · Σ g ⊙ y) / ‖x‖₂; for p = 1 (g - sign(x) · Σ g ⊙ y) / ‖x‖₁; 0 where x is 0."""
    x, y, axis = input_of(node), node.outputs[0], axis_after_batch(node)
    inner = op.ReduceSum(op.Mul(g, y), [axis], keepdims=1)
    if attribute(node, "p", 2) == 1:
        norm = op.ReduceSum(op.Abs(x), [axis], keepdims=1)
        change = op.Sub(g, signed(op, x, inner))
    else:
        norm = op.Sqrt(op.ReduceSum(op.Mul(x, x), [axis], keepdims=1))
        change = op.Sub(g, op.Mul(y, inner))
    found = op.Greater(norm, 0.0)
    return op.Where(found, op.Div(change, op.Where(found, norm, 1.0)), 0.0)


def _per_channel(node: ir.Node) -> list[int]:
    """The shape that lays a vector of channels along axis 1."""
    return [-1] + [1] * (len(static_shape(input_of(node))) - 2)
