"""Gradients of activation functions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.engine import Gradient, register
from sise_ort.exporter.ops import Ops, attribute, input_of


def gate(op: Ops, condition: ir.Value, g: ir.Value) -> ir.Value:
    """g where a condition holds, else 0.

    A product, since onnxruntime's Where runs on one thread and takes 5 to 7 times as long (measured on 2 cores).
    """
    return op.Mul(g, op.Cast(condition, to=op.dtype))


@register("Relu")
def relu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where y > 0."""
    return gate(op, op.Greater(node.outputs[0], 0.0), g)


@register("LeakyRelu")
def leaky_relu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where x > 0, else α·g."""
    alpha = attribute(node, "alpha", 0.01)
    sign = node.outputs[0] if alpha >= 0 else input_of(node)
    return op.Where(op.Greater(sign, 0.0), g, op.Mul(g, alpha))


@register("PRelu")
def prelu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where x > 0, else slope·g."""
    return op.Where(op.Greater(input_of(node), 0.0), g, op.Mul(g, input_of(node, 1)))


@register("ThresholdedRelu")
def thresholded_relu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where x > α."""
    return gate(op, op.Greater(input_of(node), attribute(node, "alpha", 1.0)), g)


@register("Elu")
def elu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where x > 0, else g·(y + α)."""
    below = op.Mul(g, op.Add(node.outputs[0], attribute(node, "alpha", 1.0)))
    return op.Where(op.Greater(input_of(node), 0.0), g, below)


@register("Selu")
def selu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """γ·g where x > 0, else g·(y + γα)."""
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    below = op.Mul(g, op.Add(node.outputs[0], alpha * gamma))
    return op.Where(op.Greater(input_of(node), 0.0), op.Mul(g, gamma), below)


@register("Celu")
def celu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g where x > 0, else g·exp(x/α)."""
    x = input_of(node)
    below = op.Mul(g, op.Exp(op.Div(x, attribute(node, "alpha", 1.0))))
    return op.Where(op.Greater(x, 0.0), g, below)


@register("Clip")
def clip(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g strictly between the bounds, 0 at and beyond them (as torch's hardtanh and relu6)."""
    inside = [
        beyond(node.outputs[0], bound)
        for bound, beyond in zip(node.inputs[1:], (op.Greater, op.Less), strict=False)
        if bound is not None
    ]
    if not inside:
        return g
    return gate(op, op.And(*inside) if len(inside) == 2 else inside[0], g)


@register("Sigmoid")
def sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·y·(1 - y)."""
    y = node.outputs[0]
    return op.Mul(g, op.Mul(y, op.Sub(1.0, y)))


@register("HardSigmoid")
def hard_sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """α·g where 0 < y < 1."""
    y = node.outputs[0]
    inside = op.And(op.Greater(y, 0.0), op.Less(y, 1.0))
    return gate(op, inside, op.Mul(g, attribute(node, "alpha", 0.2)))


@register("HardSwish")
def hard_swish(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """0 where x ≤ -3, g·(x/3 + ½) between, g where x ≥ 3."""
    x = input_of(node)
    slope = op.Where(op.Less(x, 3.0), op.Add(op.Div(x, 3.0), 0.5), 1.0)
    return op.Mul(g, op.Where(op.Greater(x, -3.0), slope, 0.0))


@register("Tanh")
def tanh(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·(1 - y²)."""
    y = node.outputs[0]
    return op.Mul(g, op.Sub(1.0, op.Mul(y, y)))


@register("Softplus")
def softplus(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·σ(x)."""
    return op.Mul(g, op.Sigmoid(input_of(node)))


@register("Softsign")
def softsign(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g/(1 + |x|)²."""
    wide = op.Add(op.Abs(input_of(node)), 1.0)
    return op.Div(g, op.Mul(wide, wide))


@register("Mish")
def mish(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·(t + x·(1 - t²)·σ(x)), t = tanh(softplus(x))."""
    x = input_of(node)
    t = op.Tanh(op.Softplus(x))
    slope = op.Mul(op.Mul(x, op.Sigmoid(x)), op.Sub(1.0, op.Mul(t, t)))
    return op.Mul(g, op.Add(t, slope))


@register("Gelu")
def gelu(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·(Φ(x) + x·φ(x)); with approximate="tanh" the derivative of that formula."""
    x = input_of(node)
    if attribute(node, "approximate", "none") == "tanh":
        scale, cubic = np.sqrt(2 / np.pi), 0.044715
        square = op.Mul(x, x)
        t = op.Tanh(op.Mul(op.Mul(x, scale), op.Add(op.Mul(square, cubic), 1.0)))
        inner = op.Mul(op.Add(op.Mul(square, 3 * cubic), 1.0), scale)
        bend = op.Mul(op.Mul(x, op.Sub(1.0, op.Mul(t, t))), inner)
        return op.Mul(g, op.Mul(op.Add(op.Add(t, 1.0), bend), 0.5))
    share = op.Mul(op.Add(op.Erf(op.Mul(x, np.sqrt(0.5))), 1.0), 0.5)
    density = op.Mul(op.Exp(op.Mul(op.Mul(x, x), -0.5)), 1 / np.sqrt(2 * np.pi))
    return op.Mul(g, op.Add(share, op.Mul(x, density)))
