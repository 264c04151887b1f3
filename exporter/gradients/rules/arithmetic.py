"""Gradients of arithmetic, elementwise and with broadcasting."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.engine import Gradient, register
from sise_ort.exporter.ops import Ops, constant_array, constant_input, input_of


@register("Add", broadcasts=True)
def add(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g for both."""
    return g, g


@register("Sub", broadcasts=True)
def sub(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g and -g."""
    return g, op.Neg(g)


@register("Mul", broadcasts=True)
def mul(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g·b and g·a."""
    a, b = node.inputs
    return op.Mul(g, b), op.Mul(g, a)


@register("Div", broadcasts=True)
def div(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g/b and -g·y/b."""
    b, y = input_of(node, 1), node.outputs[0]
    by_a = op.Div(g, b)
    return by_a, op.Neg(op.Mul(by_a, y))


@register("Sum", broadcasts=True)
def sum_(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g for each input."""
    return (g,) * len(node.inputs)


@register("Mean", broadcasts=True)
def mean(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g/m for each of m inputs."""
    return (op.Div(g, float(len(node.inputs))),) * len(node.inputs)


@register("Max", broadcasts=True)
@register("Min", broadcasts=True)
def extreme(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g where an input equals y, shared evenly among equals (as torch.maximum)."""
    if len(node.inputs) == 1:
        return (g,)
    y = node.outputs[0]
    hits = [op.Cast(op.Equal(input_of(node, i), y), to=op.dtype) for i in range(len(node.inputs))]
    shared = op.Div(g, op.Sum(*hits))
    return tuple(op.Mul(shared, hit) for hit in hits)


@register("Where", broadcasts=True)
def where(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g where the condition holds for the first value, g where it does not for the second."""
    condition = input_of(node)
    return None, op.Where(condition, g, 0.0), op.Where(condition, 0.0, g)


@register("Pow", broadcasts=True)
def pow_(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g·p·x^(p-1), and g·y·ln x for the exponent (0 where x ≤ 0)."""
    x, p = input_of(node, 0), input_of(node, 1)
    y = node.outputs[0]
    known = constant_array(p)
    if known is not None:
        power = known.astype(np.float64)
        if power.size == 1 and power.item() == 2:
            return op.Mul(g, op.Mul(x, 2.0)), None
        return op.Mul(g, op.Mul(op.Pow(x, power - 1), power)), None
    exponent = p if p.dtype == op.dtype else op.Cast(p, to=op.dtype)
    by_x = op.Mul(g, op.Mul(op.Pow(x, op.Sub(exponent, 1.0)), exponent))
    logarithm = op.Log(op.Where(op.Greater(x, 0.0), x, 1.0))
    return by_x, op.Mul(g, op.Mul(y, logarithm))


@register("Neg")
def neg(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """-g."""
    return op.Neg(g)


@register("Reciprocal")
def reciprocal(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """-g·y²."""
    y = node.outputs[0]
    return op.Neg(op.Mul(g, op.Mul(y, y)))


@register("Sqrt")
def sqrt(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g/(2y)."""
    return op.Div(g, op.Mul(node.outputs[0], 2.0))


@register("Exp")
def exp(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·y."""
    return op.Mul(g, node.outputs[0])


@register("Log")
def log(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g/x."""
    return op.Div(g, input_of(node))


@register("Abs")
def abs_(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·sign(x), 0 at 0."""
    return signed(op, input_of(node), g)


def signed(op: Ops, x: ir.Value, g: ir.Value) -> ir.Value:
    """g·sign(x)."""
    return op.Where(op.Greater(x, 0.0), g, op.Where(op.Less(x, 0.0), op.Neg(g), 0.0))


@register("Sin")
def sin(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·cos(x)."""
    return op.Mul(g, op.Cos(input_of(node)))


@register("Cos")
def cos(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """-g·sin(x)."""
    return op.Neg(op.Mul(g, op.Sin(input_of(node))))


@register("Erf")
def erf(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g·2/√π·exp(-x²)."""
    x = input_of(node)
    return op.Mul(g, op.Mul(op.Exp(op.Neg(op.Mul(x, x))), 2 / np.sqrt(np.pi)))


@register("Identity")
@register("Cast")
def identity(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g. A Cast to integers or from booleans passes nothing."""
    return g


@register("Dropout")
def dropout(op: Ops, node: ir.Node, g: ir.Value, mask: Gradient = None) -> Gradient:
    """g: in inference the identity. Training mode is refused."""
    if np.any(constant_input(node, 2, "its training_mode is")):
        raise ValueError("it is in training mode; export the model in evaluation mode")
    return g
