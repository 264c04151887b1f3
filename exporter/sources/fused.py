"""Operators that onnxruntime fuses when it writes an optimised file, as the operators that they were made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.ops import Ops, attribute, constant_array, input_of


def _activated(op: Ops, y: ir.Value, name: str, parameters: Sequence[float]) -> ir.Value:
    """The activation that is fused to the end of a layer."""
    if name in ("Relu", "Tanh", "Sigmoid"):
        return getattr(op, name)(y)
    if name == "LeakyRelu":
        return op.LeakyRelu(y, alpha=float(parameters[0]) if parameters else 0.01)
    if name == "Clip" and len(parameters) >= 2:
        return op.Clip(y, float(parameters[0]), float(parameters[1]))
    if name == "HardSigmoid":
        alpha, beta = (*parameters[:2], *(0.2, 0.5)[len(parameters[:2]) :])
        return op.HardSigmoid(y, alpha=float(alpha), beta=float(beta))
    if name:
        raise ValueError(f"the fused activation {name} is not covered")
    return y


def _conv(op: Ops, node: ir.Node) -> ir.Value:
    """Conv, the sum with another tensor, and an activation."""
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    attributes = {name: attribute(node, name) for name in names if attribute(node, name) is not None}
    y = op.Conv(*node.inputs[:3], **attributes)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        y = op.Add(y, node.inputs[3])
    return _activated(op, y, attribute(node, "activation", ""), attribute(node, "activation_params", ()))


def _gemm(op: Ops, node: ir.Node) -> ir.Value:
    """Gemm and an activation."""
    names = ("alpha", "beta", "transA", "transB")
    attributes = {name: attribute(node, name) for name in names if attribute(node, name) is not None}
    given = (attribute(node, f"activation_{name}") for name in ("alpha", "beta"))
    parameters = [float(value) for value in given if value is not None]
    return _activated(op, op.Gemm(*node.inputs, **attributes), attribute(node, "activation", ""), parameters)


def _matmul(op: Ops, node: ir.Node) -> ir.Value:
    """alpha · MatMul, of constants that are transposed before."""
    a, b = input_of(node), input_of(node, 1)
    if any(attribute(node, name, 0) for name in ("transA", "transBatchA", "transBatchB")):
        raise ValueError("it transposes the activations, which is not covered")
    if attribute(node, "transB", 0):
        weights = constant_array(b)
        if weights is None:
            raise ValueError("it transposes the activations, which is not covered")
        b = op.constant(np.swapaxes(weights, -1, -2)) if weights.ndim > 1 else b
    y = op.MatMul(a, b)
    alpha = attribute(node, "alpha", 1.0)
    return y if alpha == 1 else op.Mul(y, float(alpha))


def _gelu(op: Ops, node: ir.Node) -> ir.Value:
    """Gelu."""
    return op.Gelu(input_of(node))


def _bias_gelu(op: Ops, node: ir.Node) -> ir.Value:
    """Gelu of a sum."""
    return op.Gelu(op.Add(input_of(node), input_of(node, 1)))


def _quick_gelu(op: Ops, node: ir.Node) -> ir.Value:
    """x · σ(alpha · x)."""
    x = input_of(node)
    return op.Mul(x, op.Sigmoid(op.Mul(x, float(attribute(node, "alpha", 1.702)))))


FUSED: dict[str, Callable[[Ops, ir.Node], ir.Value]] = {
    "BiasGelu": _bias_gelu,
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "Gelu": _gelu,
    "QuickGelu": _quick_gelu,
}
"""Operators of the domain com.microsoft."""
