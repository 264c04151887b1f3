"""Quantised operators (QLinear…, …Integer, dynamic quantisation) in the form that gradients are written for.

Operators on integers with fixed scales become the operator on real numbers between DequantizeLinear and QuantizeLinear, which
onnxruntime joins to the integer operator again. Where a file computes the scale of the activations while it runs, from all
pictures of a batch together, the activations stay real numbers: scores then depend on no other picture, and differ from the
file's by what it rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import SourceError
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.ops import Ops, attribute, constant_array, input_of
from sise_ort.exporter.sources.final_quantization import KEEPING, end_in_real_numbers
from sise_ort.exporter.sources.numbers import continue_as_floats

_EIGHT_BITS = (ir.DataType.INT8, ir.DataType.UINT8)


class Quantized:
    """Writes quantised operators in other words.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place; every constant an initializer.

    Attributes
    ----------
    rounds_otherwise : bool
        Whether an operator was rewritten that rounds.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.op = Ops(graph, prefix="quantized")
        self.graph = graph
        self.rounds_otherwise = False
        self.floats: set[ir.Value] = set()
        self._known: dict[tuple[Any, ...], ir.Value] = {}
        self._reals: list[tuple[ir.Value, ir.Value]] = []

    def run(self) -> None:
        """Rewrite every operator of `REWRITES`.

        Raises
        ------
        SourceError
            One of them is used in a way that is not covered.
        """
        for node in list(self.graph):
            rewrite = _rewrite_of(node)
            if rewrite is None:
                continue
            self.rounds_otherwise |= node.op_type not in _EXACT
            try:
                values = rewrite(self, node)
            except ValueError as error:
                raise SourceError(f"{describe(node)} cannot be read: {error}") from error
            for old, new in zip(
                node.outputs, values if isinstance(values, tuple) else (values,), strict=False
            ):
                new.name, old.name = old.name, f"{old.name}/before"
                ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            self.graph.remove(node, safe=True)
        taken = {v.name for node in self.graph for v in node.outputs} | set(self.graph.initializers)
        for real, value in self._reals:  # layers are chosen and shown by these names
            if (name := f"{value.name}/real") not in taken:
                taken.add(name)
                real.name = name
        self.graph.sort()
        if self.floats:
            continue_as_floats(self.graph, self.floats, "the file multiplies whole numbers")

    def real(self, node: ir.Node, place: int, axis: int = 0) -> ir.Value:
        """The real numbers of an input that scale and zero point follow; `axis` has the scales where there are several."""
        value, scale, zero = input_of(node, place), input_of(node, place + 1), optional(node, place + 2)
        return self.dequantized(value, scale, zero, axis)

    def dequantized(self, value: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int = 0) -> ir.Value:
        """DequantizeLinear, once for all who read the value."""
        if value in self.floats:
            raise ValueError("its input is quantised while running")
        key = (value, scale, zero, axis)
        if key not in self._known:
            many, offset = constant_array(scale), constant_array(zero)
            if many is not None and many.ndim and offset is not None and offset.ndim == 0:
                zero = self.constant(np.full(many.shape, offset, offset.dtype))
            self._known[key] = self.op.DequantizeLinear(value, scale, zero, axis=axis)
            self._reals.append((self._known[key], value))
        return self._known[key]

    def quantized(self, node: ir.Node, real: ir.Value, place: int) -> ir.Value:
        """QuantizeLinear, with the scale at this place among a node's inputs and the zero point behind."""
        scale, zero = input_of(node, place), optional(node, place + 1)
        if zero is None:  # of the type of the first input
            first = next(
                (c for v in node.inputs[:3] if (c := constant_array(v)) is not None and c.dtype.kind in "iu"),
                None,
            )
            zero = self.constant(np.zeros((), np.uint8 if first is None else first.dtype))
        value: ir.Value = self.op.QuantizeLinear(real, scale, zero)
        return value

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """An initializer that keeps its type."""
        value = self.op.constant(np.zeros(0))
        tensor = ir.tensor(array, name=value.name)
        value.const_value, value.type = tensor, ir.TensorType(tensor.dtype)
        value.shape = ir.Shape(array.shape)
        return value

    def integers(self, node: ir.Node, place: int, zero: ir.Value | None) -> ir.Value:
        """An input less its zero point, as floats."""
        value = input_of(node, place)
        if value in self.floats or value.producer() in self._moved():
            return value
        source = value
        while (before := source.producer()) is not None and before.op_type in KEEPING:
            source = input_of(before)
        if before is not None and before.op_type == "QuantizeLinear":
            scale = input_of(before, 1)
            return self.op.Div(self.dequantized(value, scale, zero), scale)
        if before is None and source.is_graph_input():
            return self.dequantized(value, self.op.constant(1.0), zero)
        raise ValueError("it is not known how its input was quantised")

    def _moved(self) -> set[ir.Node | None]:
        """Nodes that move what is quantised while running."""
        found: set[ir.Node | None] = set()
        waiting = list(self.floats)
        while waiting:
            for node, _ in waiting.pop().uses():
                if node.op_type in KEEPING and node not in found:
                    found.add(node)
                    waiting += node.outputs
        return found


def as_real_numbers(graph: ir.Graph) -> bool:
    """Rewrite the quantised operators of a graph.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Of opset 20, changed in place; every constant an initializer.

    Returns
    -------
    bool
        Whether there were any that may now round elsewhere, so that scores differ a little.

    Raises
    ------
    SourceError
        One of them is used in a way that is not covered.
    """
    quantized = Quantized(graph)
    quantized.run()
    ended = end_in_real_numbers(graph)
    return quantized.rounds_otherwise or ended


def _rewrite_of(node: ir.Node) -> Callable[[Quantized, ir.Node], ir.Value | tuple[ir.Value, ...]] | None:
    if node.domain not in ("", "ai.onnx", "com.microsoft"):
        return None
    if node.op_type == "MaxPool":
        before = input_of(node).producer()
        whole = before is not None and before.op_type == "QuantizeLinear"
        return _max_pool if whole and not any(v.uses() for v in node.outputs[1:]) else None
    if node.op_type in _EXACT and node.domain != "com.microsoft":
        return None
    return REWRITES.get(node.op_type)


def optional(node: ir.Node, place: int) -> ir.Value | None:
    return node.inputs[place] if place < len(node.inputs) else None


def _scales(node: ir.Node, *places: int) -> None:
    """Refuse scales per row of activations."""
    for place in places:
        scale = constant_array(node.inputs[place])
        if scale is None or scale.size != 1:
            raise ValueError("its activations have several scales, or one that is computed while running")


def _weights(node: ir.Node, place: int, zero_place: int, axis: int) -> NDArray[np.float32]:
    """Constant integer weights less their zero points."""
    weights, zero = constant_array(node.inputs[place]), constant_array(optional(node, zero_place))
    if weights is None or (zero is None and optional(node, zero_place) is not None):
        raise ValueError("its weights are computed while running")
    if zero is not None and zero.size > 1:
        zero = zero.reshape([-1 if i == axis % weights.ndim else 1 for i in range(weights.ndim)])
    return weights.astype(np.float32) - (0 if zero is None else zero.astype(np.float32))


def _passed(node: ir.Node, *names: str) -> dict[str, Any]:
    return {name: attribute(node, name) for name in names if attribute(node, name) is not None}


def _channels_first(node: ir.Node) -> None:
    if attribute(node, "channels_last", 0):
        raise ValueError("channels_last is not covered")


def _qlinear_conv(q: Quantized, node: ir.Node) -> ir.Value:
    """Conv of dequantised values."""
    _channels_first(node)
    x, w, bias = q.real(node, 0), q.real(node, 3), optional(node, 8)
    scales = constant_array(input_of(node, 1)), constant_array(input_of(node, 4))
    if bias is not None:
        if scales[0] is None or scales[1] is None:
            scale = q.op.Mul(input_of(node, 1), input_of(node, 4))
        else:
            scale = q.constant(np.asarray((scales[0].reshape(-1)[0] * scales[1]).astype(np.float32)))
        bias = q.dequantized(bias, scale, None)
    attributes = _passed(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return q.quantized(node, q.op.Conv(x, w, bias, **attributes), 6)


def _qlinear_matmul(q: Quantized, node: ir.Node) -> ir.Value:
    """MatMul of dequantised values."""
    _scales(node, 1)
    b = input_of(node, 3)
    rank = len(b.shape) if b.shape is not None else 2
    return q.quantized(node, q.op.MatMul(q.real(node, 0), q.real(node, 3, axis=rank - 1)), 6)


def _qgemm(q: Quantized, node: ir.Node) -> ir.Value:
    """Gemm of dequantised values."""
    _scales(node, 1)
    turned, alpha, bias = attribute(node, "transB", 0), attribute(node, "alpha", 1.0), optional(node, 6)
    a, b = q.real(node, 0), q.real(node, 3, axis=0 if turned else 1)
    if bias is not None:
        scales = [constant_array(input_of(node, i)) for i in (1, 4)]
        if scales[0] is None or scales[1] is None:
            raise ValueError("its scales are computed while running")
        scale = (alpha * scales[0].reshape(-1)[0] * scales[1]).astype(np.float32)
        bias = q.dequantized(bias, q.constant(np.asarray(scale)), None)
    y = q.op.Gemm(a, b, bias, **_passed(node, "alpha", "transA", "transB"))
    return y if optional(node, 7) is None else q.quantized(node, y, 7)


def _two(op_type: str) -> Callable[[Quantized, ir.Node], ir.Value]:
    def rewrite(q: Quantized, node: ir.Node) -> ir.Value:
        return q.quantized(node, getattr(q.op, op_type)(q.real(node, 0), q.real(node, 3)), 6)

    rewrite.__doc__ = f"{op_type} of dequantised values."
    return rewrite


def _one(op_type: str, *names: str, **defaults: Any) -> Callable[[Quantized, ir.Node], ir.Value]:
    def rewrite(q: Quantized, node: ir.Node) -> ir.Value:
        _channels_first(node)
        attributes = {**defaults, **_passed(node, *names)}
        return q.quantized(node, getattr(q.op, op_type)(q.real(node, 0), **attributes), 3)

    rewrite.__doc__ = f"{op_type} of dequantised values."
    return rewrite


def _qlinear_concat(q: Quantized, node: ir.Node) -> ir.Value:
    """Concat of dequantised values."""
    parts = [q.real(node, place) for place in range(2, len(node.inputs), 3)]
    return q.quantized(node, q.op.Concat(*parts, axis=attribute(node, "axis")), 0)


def _qlinear_where(q: Quantized, node: ir.Node) -> ir.Value:
    """Where of dequantised values."""
    return q.quantized(node, q.op.Where(node.inputs[0], q.real(node, 1), q.real(node, 4)), 7)


def _max_pool(q: Quantized, node: ir.Node) -> ir.Value:
    """MaxPool of dequantised values, so that these can be a block's output."""
    before = input_of(node).producer()
    assert before is not None
    scale, zero = input_of(before, 1), optional(before, 2)
    attributes = _passed(node, "auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    return q.op.QuantizeLinear(
        q.op.MaxPool(q.dequantized(input_of(node), scale, zero), **attributes), scale, zero
    )


def _quantize(q: Quantized, node: ir.Node) -> ir.Value:
    """ONNX's own, for 8 bits."""
    zero = optional(node, 2)
    if zero is not None and zero.dtype not in _EIGHT_BITS:
        raise ValueError(f"quantising to {zero.dtype} is not covered")
    return q.op.QuantizeLinear(*node.inputs, **_passed(node, "axis"))


def _dequantize(q: Quantized, node: ir.Node) -> ir.Value:
    """ONNX's own, for 8 bits and sums of 32."""
    zero = optional(node, 2)
    if zero is not None and zero.dtype not in (*_EIGHT_BITS, ir.DataType.INT32):
        raise ValueError(f"{zero.dtype} is not covered")
    return q.op.DequantizeLinear(*node.inputs, **_passed(node, "axis"))


def _dynamic_quantize(q: Quantized, node: ir.Node) -> tuple[ir.Value, ...]:
    """x itself, of scale 1 and zero point 0: straight through."""
    same = q.op.Identity(input_of(node))
    q.floats.add(same)
    return same, q.op.constant(1.0), q.op.constant(0.0)


def _conv_integer(q: Quantized, node: ir.Node) -> ir.Value:
    """Conv of the integers less their zero points, as floats."""
    x = q.integers(node, 0, optional(node, 2))
    attributes = _passed(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    value: ir.Value = q.op.Conv(x, q.op.constant(_weights(node, 1, 3, 0)), **attributes)
    q.floats.add(value)
    return value


def _matmul_integer(q: Quantized, node: ir.Node) -> ir.Value:
    """MatMul of the integers less their zero points, as floats."""
    x = q.integers(node, 0, optional(node, 2))
    value: ir.Value = q.op.MatMul(x, q.op.constant(_weights(node, 1, 3, -1)))
    q.floats.add(value)
    return value


def _dynamic_quantize_matmul(q: Quantized, node: ir.Node) -> ir.Value:
    """MatMul with dequantised weights."""
    scale = constant_array(input_of(node, 2))
    if scale is None:
        raise ValueError("its weights are computed while running")
    y = q.op.MatMul(input_of(node), q.op.constant(_weights(node, 1, 3, -1) * scale))
    bias = optional(node, 4)
    return y if bias is None else q.op.Add(y, bias)


def _matmul_integer_to_float(q: Quantized, node: ir.Node) -> ir.Value:
    """MatMul of the integers less their zero points, as floats, times both scales."""
    x, scale, bias = (
        q.integers(node, 0, optional(node, 4)),
        constant_array(input_of(node, 3)),
        optional(node, 6),
    )
    if scale is None:
        raise ValueError("its weights are computed while running")
    y = q.op.Mul(q.op.MatMul(x, q.op.constant(_weights(node, 1, 5, -1) * scale)), input_of(node, 2))
    return y if bias is None else q.op.Add(y, bias)


REWRITES: dict[str, Callable[[Quantized, ir.Node], ir.Value | tuple[ir.Value, ...]]] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "MatMulInteger": _matmul_integer,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "QGemm": _qgemm,
    "QLinearAdd": _two("Add"),
    "QLinearAveragePool": _one(
        "AveragePool", "auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"
    ),
    "QLinearConcat": _qlinear_concat,
    "QLinearConv": _qlinear_conv,
    "QLinearGlobalAveragePool": _one("GlobalAveragePool"),
    "QLinearLeakyRelu": _one("LeakyRelu", "alpha"),
    "QLinearMatMul": _qlinear_matmul,
    "QLinearMul": _two("Mul"),
    "QLinearSigmoid": _one("Sigmoid"),
    "QLinearSoftmax": _one("Softmax", "axis", axis=-1),
    "QLinearWhere": _qlinear_where,
    "QuantizeLinear": _quantize,
}
_EXACT = frozenset(("DequantizeLinear", "MaxPool", "QuantizeLinear"))
"""Operators that round as before when they are rewritten."""
