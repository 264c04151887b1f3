"""Rewrites operators that opset 20 lacks or gives another meaning, by operators of opset 20."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from sise_ort.exporter.ops import Ops, attribute, input_of


def _group_normalization(op: Ops, node: ir.Node) -> ir.Value:
    """As instance normalisation of [n, groups, rest]; scale and bias per group (opset 18) or channel (opset 21)."""
    x, scale, bias = (input_of(node, i) for i in range(3))
    groups = attribute(node, "num_groups")
    length = _length(scale, node)
    own = length == groups
    ones, zeros = op.constant(np.ones(groups)), op.constant(np.zeros(groups))
    y = op.InstanceNormalization(
        op.Reshape(x, op.constant([0, groups, -1])),
        scale if own else ones,
        bias if own else zeros,
        epsilon=attribute(node, "epsilon", 1e-5),
    )
    if not own:
        column = op.constant([-1, 1])
        y = op.Reshape(y, op.constant([0, length, -1]))
        y = op.Add(op.Mul(y, op.Reshape(scale, column)), op.Reshape(bias, column))
    return op.Reshape(y, op.Shape(x))


def _length(vector: ir.Value, node: ir.Node) -> int:
    length = vector.shape[0] if vector.shape is not None and len(vector.shape) == 1 else None
    if not isinstance(length, int):
        raise ValueError(f"{node.op_type} needs a scale of known length")
    return length


def _swish(op: Ops, node: ir.Node) -> ir.Value:
    """x · σ(αx)."""
    x, alpha = input_of(node), attribute(node, "alpha", 1.0)
    return op.Mul(x, op.Sigmoid(x if alpha == 1 else op.Mul(x, alpha)))


def _rms_normalization(op: Ops, node: ir.Node) -> ir.Value:
    """x / √(mean x² + ε) · scale over the last axes."""
    x, axis = input_of(node), attribute(node, "axis", -1)
    if axis >= 0:
        raise ValueError("RMSNormalization is read with a negative axis only")
    mean = op.ReduceMean(op.Mul(x, x), op.constant(list(range(axis, 0))), keepdims=1)
    return op.Mul(op.Div(x, op.Sqrt(op.Add(mean, attribute(node, "epsilon", 1e-5)))), input_of(node, 1))


REWRITES: dict[str, Callable[[Ops, ir.Node], ir.Value]] = {
    "GroupNormalization": _group_normalization,
    "RMSNormalization": _rms_normalization,
    "Swish": _swish,
}


def needs_rewriting(proto: onnx.ModelProto) -> bool:
    return any(node.op_type in REWRITES and node.domain in ("", "ai.onnx") for node in proto.graph.node)


def rewrite(model: ir.Model) -> None:
    """Replace every operator of `REWRITES`.

    Raises
    ------
    ValueError
        One of them is used in a way that cannot be written otherwise.
    """
    replace_nodes(model, REWRITES, ("", "ai.onnx"))


def replace_nodes(
    model: ir.Model, rewrites: Mapping[str, Callable[[Ops, ir.Node], ir.Value]], domains: Collection[str]
) -> None:
    """Put what `rewrites` make of them in the place of operators.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    rewrites : mapping
        A function of the operator builder and the node for each operator; it returns the node's new result.
    domains : collection of str
        Domains of these operators.
    """
    graph = model.graph
    found = [node for node in graph if node.op_type in rewrites and node.domain in domains]
    if not found:
        return
    floats = [
        v.dtype for v in graph.initializers.values() if v.dtype in (ir.DataType.FLOAT16, ir.DataType.DOUBLE)
    ]
    op = Ops(graph, floats[0] if floats else ir.DataType.FLOAT, prefix="rewritten")
    for node in found:
        value = rewrites[node.op_type](op, node)
        (old,) = node.outputs
        value.type, value.shape = old.type, old.shape
        value.name, old.name = old.name, f"{old.name}/before"
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    graph.sort()
