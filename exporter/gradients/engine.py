"""Reverse-mode differentiation inside an ONNX graph.

One walk leads from the class scores back to the tensors that are asked for; each node on the way is handed to its operator's
rule (rules/). Axis 0 is the batch in every tensor that carries a gradient. Forward tensors may have batch 1 where gradients
have batch K (K classes of one picture), or both have batch N.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import GradientError
from sise_ort.exporter.ops import FIXED_SIZE, Ops, static_shape

Gradient = ir.Value | None
RuleFunction = Callable[..., Gradient | Sequence[Gradient]]


@dataclass(frozen=True)
class Rule:
    """The gradient of one operator.

    Attributes
    ----------
    function : callable
        ``(op, node, *output_gradients)`` gives one gradient per input. An output gradient is None where nothing depends on that
        output. A returned None means that the input has no gradient; trailing ones may be left out; a single value is the
        first input's.
    broadcasts : bool
        The inputs broadcast against one another. The engine then sums each returned gradient over the axes along which its
        input was repeated.
    """

    function: RuleFunction
    broadcasts: bool = False


RULES: dict[tuple[str, str], Rule] = {}

WITHOUT_GRADIENT = frozenset(
    """And ArgMax ArgMin Ceil ConstantOfShape Equal EyeLike Floor Greater GreaterOrEqual IsInf IsNaN Less
    LessOrEqual NonZero Not OneHot Or Range Round Shape Sign Size Xor""".split()
)
"""Operators whose outputs stay the same under small changes of the inputs: their gradient is 0."""
_REAL = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def register(
    op_type: str, *, domain: str = "", broadcasts: bool = False
) -> Callable[[RuleFunction], RuleFunction]:
    """Add or replace the gradient rule of an operator, also of one in a domain of your own.

    Parameters
    ----------
    op_type : str
        Name of the operator.
    domain : str
        Domain of the operator, "" for ONNX's own.
    broadcasts : bool
        The inputs broadcast against one another (see `Rule`).

    Returns
    -------
    callable
        Decorator of the rule's function (see `Rule`).

    Examples
    --------
    >>> @register("Square", domain="my.ops")
    ... def square(op, node, gradient):
    ...     return op.Mul(gradient, op.Mul(2.0, node.inputs[0]))
    """

    def add(function: RuleFunction) -> RuleFunction:
        RULES[domain, op_type] = Rule(function, broadcasts)
        return function

    return add


def rule_of(node: ir.Node) -> Rule | None:
    """The gradient rule of a node's operator, None where there is none."""
    return RULES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def passes_gradient(node: ir.Node) -> bool:
    """Whether the outputs change with small changes of the inputs."""
    if node.op_type == "Cast":
        source = node.inputs[0]
        return (
            ir.DataType(node.attributes["to"].value) in _REAL and source is not None and source.dtype in _REAL
        )
    return node.op_type not in WITHOUT_GRADIENT


def nodes_between(output: ir.Value, roots: Iterable[ir.Value]) -> list[ir.Node]:
    """Nodes through which a gradient flows from `output` to any of `roots`, in execution order."""
    producer = output.producer()
    if producer is None or producer.graph is None:
        return []
    graph = producer.graph
    downstream: set[ir.Value] = set(roots)
    forward: list[ir.Node] = []
    for node in graph:
        if not any(v in downstream for v in node.inputs if v is not None) or not passes_gradient(node):
            continue
        downstream.update(node.outputs)
        forward.append(node)
    needed = {output}
    path: list[ir.Node] = []
    for node in reversed(forward):
        if any(v in needed for v in node.outputs):
            needed.update(v for v in node.inputs if v is not None and v in downstream)
            path.append(node)
    return path[::-1]


def without_rule(output: ir.Value, roots: Iterable[ir.Value]) -> list[ir.Node]:
    """Nodes between `output` and `roots` whose operator has no gradient rule."""
    return [node for node in nodes_between(output, roots) if rule_of(node) is None]


def differentiate(op: Ops, output: ir.Value, seed: ir.Value, roots: Sequence[ir.Value]) -> list[ir.Value]:
    """Append the gradients of ⟨seed, output⟩ with respect to `roots` to the graph of `op`.

    Parameters
    ----------
    op : Ops
        Writes into the graph that holds `output`. The graph must be in topological order, with shapes.
    output : onnx_ir.Value, [1, classes] or [N, classes]
        Class scores.
    seed : onnx_ir.Value, [K, classes] or [N, classes]
        Gradient at `output`: of K classes of one picture, or of N pictures.
    roots : sequence of onnx_ir.Value
        Tensors to differentiate by, at any depth.

    Returns
    -------
    list of onnx_ir.Value
        One per root, of the root's shape with the seed's batch.

    Raises
    ------
    GradientError
        An operator on the way has no rule or its rule refuses, or no path leads to a root.
    """
    path = nodes_between(output, roots)
    active = set(roots) | {v for node in path for v in node.outputs}
    partial: dict[ir.Value, list[ir.Value]] = {output: [seed]}
    gradients: dict[ir.Value, ir.Value] = {}

    def collect(value: ir.Value) -> Gradient:
        parts = partial.pop(value, [])
        if not parts:
            return None
        total = parts[0]
        for part in parts[1:]:
            total = op.Add(total, part)
        gradients[value] = total
        return total

    for node in reversed(path):
        incoming = [collect(value) for value in node.outputs]
        if not any(incoming):
            continue
        for value, gradient in zip(node.inputs, _pull_back(op, node, incoming, active), strict=True):
            if value is None or value not in active:
                continue
            if gradient is None:
                raise GradientError(
                    f"{describe(node)} has no gradient for its input '{value.name}', which depends on the picture"
                )
            partial.setdefault(value, []).append(gradient)
    for root in roots:
        if root not in gradients and collect(root) is None:
            raise GradientError(f"no gradient reaches tensor '{root.name}' from '{output.name}'")
    return [gradients[root] for root in roots]


def _pull_back(
    op: Ops, node: ir.Node, incoming: Sequence[Gradient], active: Container[ir.Value | None]
) -> list[Gradient]:
    """Gradients of a node's inputs, one each; only those of `active` inputs have a meaning."""
    rule = rule_of(node)
    if rule is None:
        raise GradientError(
            f"there is no gradient rule for {describe(node)}; "
            "register one with sise_ort.exporter.gradients.register"
        )
    try:
        returned = rule.function(op, node, *incoming)
        gradients: list[Gradient] = (
            [returned] if returned is None or isinstance(returned, ir.Value) else [*returned]
        )
        gradients = [*gradients, *[None] * len(node.inputs)][: len(node.inputs)]
        if rule.broadcasts:
            gradients = [
                g
                if g is None or value is None or value not in active
                else _unbroadcast(op, g, value, node.outputs[0])
                for value, g in zip(node.inputs, gradients, strict=True)
            ]
    except ValueError as error:
        raise GradientError(f"{describe(node)} cannot be differentiated: {error}") from error
    return gradients


def _unbroadcast(op: Ops, gradient: ir.Value, value: ir.Value, result: ir.Value) -> Gradient:
    """Sum a gradient of the shape of `result` over the axes along which `value` was repeated."""
    rank = len(static_shape(value))
    if rank < len(static_shape(result)):
        return None  # axis 0 would not be the batch: only constants may be of lower rank
    return sum_repeated(op, gradient, value, result, range(1, rank))


def sum_repeated(
    op: Ops, gradient: ir.Value, value: ir.Value, result: ir.Value, axes: Iterable[int]
) -> Gradient:
    """Sum a gradient over those of `axes` along which `value` was repeated in `result`; None if their ranks differ."""
    ours, theirs = static_shape(value), static_shape(result)
    if len(ours) != len(theirs):
        return None
    repeated = []
    for axis in axes:
        if ours[axis] == 1 and theirs[axis] != 1:
            repeated.append(axis)
        elif ours[axis] != 1 and value.shape[axis] != result.shape[axis]:  # type: ignore[index]
            raise ValueError(
                f"cannot tell whether '{value.name}' {value.shape} is repeated along axis {axis} of "
                f"'{result.name}' {result.shape}; {FIXED_SIZE}"
            )
    return op.ReduceSum(gradient, repeated, keepdims=1) if repeated else gradient


def along_axis(op: Ops, gradient: ir.Value, matrix: NDArray[np.float64], axis: int, rank: int) -> ir.Value:
    """Gradient of x where y = matrix · x along one axis.

    Parameters
    ----------
    op : Ops
    gradient : onnx_ir.Value
        Gradient of y.
    matrix : numpy.ndarray, [new length, old length]
    axis : int
        Any but the batch.
    rank : int
        Number of axes of x and y.

    Returns
    -------
    onnx_ir.Value
    """
    if axis == rank - 1:
        return op.MatMul(gradient, matrix)
    if axis == rank - 2:
        return op.MatMul(matrix.T, gradient)
    order = [i for i in range(rank) if i != axis] + [axis]
    moved = op.MatMul(op.Transpose(gradient, perm=order), matrix)
    return op.Transpose(moved, perm=[int(i) for i in np.argsort(order)])


def describe(node: ir.Node) -> str:
    """Name an operator and its node for an error: "operator Conv (node 'conv1')"."""
    name = f"'{node.name}'" if node.name else f"that computes '{node.outputs[0].name}'"
    domain = f"{node.domain}." if node.domain and node.domain != "ai.onnx" else ""
    return f"operator {domain}{node.op_type} (node {name})"


def batched_shape(op: Ops, value: ir.Value, batch: int = -1) -> ir.Value:
    """The shape of `value` with another batch, int64: -1 for reshaping a gradient of any batch, 1 for expanding one."""
    dims = static_shape(value)
    if all(d is not None for d in dims[1:]):
        return op.constant([batch, *[int(d) for d in dims[1:] if d is not None]])
    return op.Concat(op.constant([batch]), op.Shape(value, start=1), axis=0)
