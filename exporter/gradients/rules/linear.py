"""Gradients of linear layers."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.exporter.gradients.convolution import convolution_input_gradient
from sise_ort.exporter.gradients.engine import Gradient, batched_shape, register, sum_repeated
from sise_ort.exporter.gradients.windows import window_of
from sise_ort.exporter.ops import FIXED_SIZE, Ops, attribute, input_of, static_shape


def _kernel(weights: ir.Value) -> tuple[int, ...]:
    kernel = static_shape(weights)[2:]
    if any(k is None for k in kernel):
        raise ValueError(f"the kernel size of '{weights.name}' is unknown")
    return tuple(int(k) for k in kernel if k is not None)


@register("Conv")
def conv(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """The transposed convolution of g; any group, stride, dilation, padding."""
    x, weights = input_of(node, 0), input_of(node, 1)
    window = window_of(node, _kernel(weights))
    return convolution_input_gradient(op, g, x, weights, window, attribute(node, "group", 1))


@register("ConvTranspose")
def conv_transpose(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """The convolution of g with the same weights; any group, stride, dilation, padding, output size."""
    x, weights = input_of(node, 0), input_of(node, 1)
    kernel = _kernel(weights)
    axes = range(len(kernel))
    strides = attribute(node, "strides", [1] * len(kernel))
    dilations = attribute(node, "dilations", [1] * len(kernel))
    pads = list(attribute(node, "pads", [0] * (2 * len(kernel))))
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET" or attribute(node, "output_shape"):
        # Of the full result, output_padding included, this much is cut off.
        extra = attribute(node, "output_padding", [0] * len(kernel))
        before, after = static_shape(x)[2:], static_shape(node.outputs[0])[2:]
        for i in axes:
            long, short = before[i], after[i]
            if long is None or short is None:
                raise ValueError(f"auto_pad and output_shape need a fixed spatial size; {FIXED_SIZE}")
            total = strides[i] * (long - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1 - short
            if total <= -strides[i]:
                raise ValueError("an output_shape that adds more than a stride is not covered")
            total = max(total, 0)  # rows that output_shape adds depend on no input
            upper = attribute(node, "auto_pad", "NOTSET") == "SAME_UPPER"
            pads[i] = total // 2 if upper else total - total // 2
            pads[i + len(kernel)] = total - pads[i]
    return op.Conv(
        g,
        weights,
        strides=list(strides),
        dilations=list(dilations),
        pads=pads,
        group=attribute(node, "group", 1),
    )


@register("Gemm")
def gemm(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """α g Bᵀ for A, and β g for a C of the output's shape; B constant, A not transposed."""
    if attribute(node, "transA", 0):
        raise ValueError("transA=1 would move the batch")
    b = input_of(node, 1)
    by_a = op.Gemm(g, b, alpha=attribute(node, "alpha", 1.0), transB=1 - attribute(node, "transB", 0))
    by_c = None
    if len(node.inputs) > 2 and node.inputs[2] is not None and node.inputs[2].shape == node.outputs[0].shape:
        by_c = op.Mul(g, attribute(node, "beta", 1.0))
    return by_a, None, by_c


@register("MatMul")
def matmul(op: Ops, node: ir.Node, g: ir.Value) -> tuple[Gradient, ...]:
    """g Bᵀ for A and Aᵀ g for B; a matrix [i, j] is taken as one for the whole batch."""
    a, b = input_of(node, 0), input_of(node, 1)
    ranks = len(static_shape(a)), len(static_shape(b))
    if min(ranks) < 2:
        raise ValueError("products with a vector are not covered")
    y = node.outputs[0]
    by_a = op.MatMul(g, _transposed(op, b))
    by_b: Gradient = None
    if ranks[1] > 2:
        by_b = sum_repeated(op, op.MatMul(_transposed(op, a), g), b, y, range(1, ranks[1] - 2))
    if ranks[0] > 2:
        by_a = sum_repeated(op, by_a, a, y, range(1, ranks[0] - 2))
    elif ranks[1] > 2:
        by_a = None  # a matrix times a batch: it has no batch itself
    return by_a, by_b


def _transposed(op: Ops, value: ir.Value) -> ir.Value:
    rank = len(static_shape(value))
    return op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])


@register("Einsum")
def einsum(op: Ops, node: ir.Node, g: ir.Value) -> list[Gradient]:
    """The Einsum of g and the other inputs, with this input's letters as the result."""
    text = attribute(node, "equation").replace(" ", "")
    if "..." in text or "->" not in text:
        raise ValueError(f"equation '{text}': only explicit ones with '->' and without '...' are covered")
    left, result = text.split("->")
    terms = left.split(",")
    if any(len(set(term)) < len(term) for term in [*terms, result]):
        raise ValueError(f"equation '{text}' takes a diagonal, which is not covered")
    gradients: list[Gradient] = []
    for i, term in enumerate(terms):
        if term[:1] != result[:1]:
            gradients.append(None)  # no batch in front: it can only be a constant
            continue
        others = [k for k in range(len(terms)) if k != i]
        present = set(result).union(*(terms[k] for k in others))
        kept = "".join(letter for letter in term if letter in present)
        equation = ",".join([result, *(terms[k] for k in others)]) + "->" + kept
        gradient = op.Einsum(g, *(node.inputs[k] for k in others), equation=equation)
        summed = [axis for axis, letter in enumerate(term) if letter not in present]
        if summed:
            gradient = op.Unsqueeze(gradient, op.constant(summed))
            gradient = op.Expand(gradient, batched_shape(op, input_of(node, i), 1))
        gradients.append(gradient)
    return gradients
