"""Shapes of every tensor, and constants for what only depends on them.

Each node is inferred twice, for two numbers of pictures. What comes out the same is fixed; what differs follows
the batch. Values that can be computed from shapes alone (Shape → Gather → Concat → Reshape) are computed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import SourceError, first_line
from sise_ort.exporter.ops import attribute

BATCH = "n"
_PROBES = (2, 3)
_SMALL = 1 << 16
"""Integer tensors of at most this many elements are computed, if all that they depend on is known."""
_SMALL_FLOATS = 1 << 10
LARGEST = 1 << 34
"""Elements of the largest tensor for two pictures: a file that asks for more is wrong, or hostile."""
_AS_THEY_ARE = frozenset(
    """AveragePool Bernoulli DequantizeLinear Multinomial QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Col2Im Conv ConvInteger
    ConvTranspose DFT DeformConv Einsum GRU GridSample LSTM LpPool MaxPool MaxUnpool MelWeightMatrix NonMaxSuppression RNN
    RegexFullMatch Resize RoiAlign STFT SequenceMap StringConcat StringSplit Upsample""".split()
)
"""Operators that are never computed here: random ones, those that quantise, and those that need far more memory or time
than their results have elements."""
_COUNTED = frozenset("Compress NonZero Unique".split())
"""Operators whose result's length is unknown before they run, but bounded by their input's."""
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})


_NOT_COMPUTED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError
)  # fmt: skip
"""What onnx.reference raises where it cannot compute an operator, which then stays in the graph."""


class ShapesDoNotFit(SourceError):
    """The operators' shapes contradict one another."""


@dataclass(frozen=True)
class _Facts:
    """What is known of a tensor for one number of pictures."""

    type: onnx.TypeProto
    data: NDArray[Any] | None = None

    @property
    def dims(self) -> list[int | None] | None:
        tensor = self.type.tensor_type
        if not tensor.HasField("shape"):
            return None
        return [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]


def infer_shapes(model: ir.Model, opset: int) -> None:
    """Set the type and shape of every value, fold what depends on shapes alone, and inline decided Ifs.

    A first input dimension that is no number is the batch; in shapes it is called "n", along any axis.
    Reshape targets that name it are made constant (0 or -1 in its place). All constants must be initializers.

    Parameters
    ----------
    model : ir.Model
        Changed in place.
    opset : int
        The version of its operators.

    Raises
    ------
    ShapesDoNotFit
        Two operators contradict each other, or one asks for more than a computer holds; names the node.
    """
    _Walk(model.graph, _PROBES, opset).run()


class _Walk:
    def __init__(self, graph: ir.Graph, probes: tuple[int, int], opset: int) -> None:
        self.graph, self.probes, self.opset = graph, probes, opset
        self.facts: dict[ir.Value, tuple[_Facts, _Facts]] = {}
        for value in graph.inputs:
            assert value.shape is not None and value.dtype is not None
            dims = list(value.shape.dims)
            self.facts[value] = tuple(  # type: ignore[assignment]
                _Facts(_type(value.dtype, [d if isinstance(d, int) else n for d in dims])) for n in probes
            )

    def run(self) -> None:
        waiting = deque(self.graph)
        while waiting:
            node = waiting.popleft()
            if node.op_type == "If" and (branch := self._decided(node)) is not None:
                waiting.extendleft(reversed(_inline(self.graph, node, branch)))
                continue
            if node.op_type == "CastLike" and (like := self._of(node.inputs[1])) is not None:  # type: ignore[arg-type]
                waiting.appendleft(
                    self._put(node, "Cast", [node.inputs[0]], {"to": like[0].type.tensor_type.elem_type})
                )
                continue
            if node.op_type == "SequenceAt" and (part := self._part(node)) is not None:
                waiting.appendleft(part)
                continue
            if node.op_type == "Gather" and (reshape := self._rereading(node)) is not None:
                waiting.appendleft(reshape)
                continue
            if node.op_type == "Reshape":
                self._settle_target(node)
            self._visit(node)

    def _of(self, value: ir.Value) -> tuple[_Facts, _Facts] | None:
        """The facts of a node's input; those of initializers are read when first asked for."""
        found = self.facts.get(value)
        if found is None and value.const_value is not None:
            tensor = value.const_value
            data = tensor.numpy() if tensor.size <= _SMALL else None
            fact = _Facts(_type(tensor.dtype, list(tensor.shape.numpy())), data)
            found = self.facts[value] = (fact, fact)
        return found

    def _visit(self, node: ir.Node) -> None:
        declared = {v: (v.type, v.shape) for v in node.outputs}
        for value in node.outputs:
            value.shape = None
        inputs = {v: self._of(v) for v in node.inputs if v is not None}
        schema = None
        if onnx.defs.has(node.op_type, node.domain):
            schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        if schema is None or any(facts is None for facts in inputs.values()):
            self._take_declared(declared)
            return
        proto = ir.to_proto(node)
        results: list[dict[str, onnx.TypeProto]] = []
        datas: list[list[NDArray[Any] | None]] = []
        for i in range(2):
            seen = {v.name: facts[i] for v, facts in inputs.items() if facts is not None}
            types = self._infer(schema, proto, node, seen)  # type: ignore[arg-type]
            results.append(types)
            same = i == 1 and all(f is not None and f[0] is f[1] for f in inputs.values())
            datas.append(datas[0] if same else self._compute(node, proto, seen, types))  # type: ignore[arg-type]
        self._refuse_sizes(node, results[0])
        for place, value in enumerate(node.outputs):
            if not value.name:
                continue
            if value.name not in results[0]:
                self._take_declared({value: declared[value]})
                continue
            first, second = (
                _Facts(types[value.name], data[place]) for types, data in zip(results, datas, strict=True)
            )
            self.facts[value] = (first, second if datas[0] is not datas[1] else first)
            self._write_down(value)
            if first.data is not None and np.array_equal(first.data, second.data, equal_nan=False):  # type: ignore[arg-type]
                self._replace(value, first.data)

    def _refuse_sizes(self, node: ir.Node, types: dict[str, onnx.TypeProto]) -> None:
        for kind in types.values():
            dims = _Facts(kind).dims or []
            if math.prod(1 if d is None else d for d in dims) > LARGEST:
                raise ShapesDoNotFit(
                    f"{node.op_type} '{node.name or node.outputs[0].name}' asks for a tensor of shape {dims}, which no "
                    "computer holds: the file is damaged, or the picture's size is wrong"
                )

    def _infer(
        self, schema: onnx.defs.OpSchema, proto: onnx.NodeProto, node: ir.Node, seen: dict[str, _Facts]
    ) -> dict[str, onnx.TypeProto]:
        try:
            return onnx.shape_inference.infer_node_outputs(
                schema,
                proto,
                {name: facts.type for name, facts in seen.items()},
                {
                    name: onnx.numpy_helper.from_array(facts.data, name)
                    for name, facts in seen.items()
                    if facts.data is not None
                },
                opset_imports=[onnx.helper.make_opsetid("", self.opset)],
                ir_version=10,
            )
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            given = ", ".join(f"'{name}' {facts.dims}" for name, facts in seen.items())
            raise ShapesDoNotFit(
                f"the model's shapes do not fit together at {node.op_type} '{node.name or node.outputs[0].name}' "
                f"({given}): {first_line(error)}"
            ) from error

    def _compute(
        self, node: ir.Node, proto: onnx.NodeProto, seen: dict[str, _Facts], types: dict[str, onnx.TypeProto]
    ) -> list[NDArray[Any] | None]:
        unknown: list[NDArray[Any] | None] = [None] * len(node.outputs)
        if node.op_type in ("Shape", "Size"):
            dims = next(iter(seen.values())).dims
            if dims is None or None in dims:
                return unknown
            array = np.array(dims, np.int64)
            if node.op_type == "Size":
                return [np.array(array.prod(), np.int64)]
            start, end = attribute(node, "start", 0), attribute(node, "end", None)
            return [array[start:end]]
        if node.op_type in _AS_THEY_ARE or any(facts.data is None for facts in seen.values()):
            return unknown
        if any(isinstance(a.value, ir.Graph) for a in node.attributes.values()):
            return unknown
        for kind in types.values():
            dims = _Facts(kind).dims
            if (dims is None or None in dims) and node.op_type not in _COUNTED:
                return unknown
            dims = dims or []
            most = _SMALL_FLOATS if kind.tensor_type.elem_type in _FLOATS else _SMALL
            if math.prod(1 if d is None else d for d in dims) > most:
                return unknown
        try:
            evaluator = onnx.reference.ReferenceEvaluator(proto)
            with np.errstate(all="ignore"):
                found = evaluator.run(None, {name: facts.data for name, facts in seen.items()})
        except _NOT_COMPUTED:
            return unknown
        return [
            np.asarray(a) if isinstance(a, (np.ndarray, np.generic)) and np.size(a) <= _SMALL else None
            for a in found
        ]

    def _take_declared(
        self, declared: dict[ir.Value, tuple[ir.TypeProtocol | None, ir.Shape | None]]
    ) -> None:
        """An operator that ONNX does not know: what the file says of its outputs, with the batch in front."""
        for value, (kind, shape) in declared.items():
            if kind is None or shape is None or value.dtype is None or len(shape) == 0:
                continue
            rest = [d if isinstance(d, int) else None for d in shape.dims[1:]]
            self.facts[value] = tuple(_Facts(_type(value.dtype, [n, *rest])) for n in self.probes)  # type: ignore[assignment]
            self._write_down(value)

    def _write_down(self, value: ir.Value) -> None:
        first, second = self.facts[value]
        if not first.type.HasField("tensor_type"):
            return
        value.type = ir.TensorType(ir.DataType(first.type.tensor_type.elem_type))
        if first.dims is None or second.dims is None or len(first.dims) != len(second.dims):
            return
        value.shape = ir.Shape([self._merged(a, b) for a, b in zip(first.dims, second.dims, strict=True)])

    def _merged(self, a: int | None, b: int | None) -> int | str | None:
        if a is None or b is None:
            return None
        if a == b:
            return a
        times, rest = divmod(a, self.probes[0])
        if rest or b != times * self.probes[1]:
            return None
        return BATCH if times == 1 else f"{times}*{BATCH}"

    def _replace(self, value: ir.Value, data: NDArray[Any]) -> None:
        if value.is_graph_output() or value.producer() is None:
            return
        value.replace_all_uses_with(self._constant(f"{value.name}/folded", data))

    def _constant(self, name: str, data: NDArray[Any]) -> ir.Value:
        dtype = ir.DataType.from_numpy(data.dtype)
        constant = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(data.shape))
        constant.const_value = ir.tensor(np.ascontiguousarray(data).reshape(data.shape), name=name)
        self.graph.register_initializer(constant)
        return constant

    def _settle_target(self, node: ir.Node) -> None:
        """A Reshape target that follows the batch: 0 (copy) or -1 in the batch's place."""
        source, target = node.inputs
        assert source is not None and target is not None
        shape, facts = self._of(target), self._of(source)
        if shape is None or facts is None or shape[0].data is None or shape[1].data is None:
            return
        first, second = shape[0].data, shape[1].data
        follows = np.flatnonzero(first != second)
        if len(follows) != 1 or (first == 0).any():
            return
        place = int(follows[0])
        settled = first.copy()
        before = [f.dims for f in facts]
        copied = all(
            dims is not None and place < len(dims) and dims[place] == wanted[place]
            for dims, wanted in zip(before, (first, second), strict=True)
        )
        if not copied and (first == -1).any():
            return
        settled[place] = 0 if copied else -1
        node.attributes.pop("allowzero", None)
        node.replace_input_with(1, self._constant(f"{node.outputs[0].name}/target", settled.astype(np.int64)))

    def _rereading(self, node: ir.Node) -> ir.Node | None:
        """A flattened tensor read back in its own order (torch's as_strided after pooling) is a Reshape."""
        flat, index = node.inputs
        flatten = flat.producer() if flat is not None else None
        order = self._of(index) if index is not None else None
        if (
            flatten is None
            or flatten.op_type != "Reshape"
            or order is None
            or attribute(node, "axis", 0) != 0
        ):
            return None
        source = self._of(flatten.inputs[0]) if flatten.inputs[0] is not None else None
        seen = self._of(flat) if flat is not None else None
        if source is None or seen is None:
            return None
        for facts, length in zip(order, seen, strict=True):
            if facts.data is None or length.dims != [facts.data.size]:
                return None
            if not np.array_equal(facts.data.ravel(), np.arange(facts.data.size)):
                return None
        shape = np.array(order[0].data.shape)  # type: ignore[union-attr]
        follows = np.flatnonzero(shape != np.array(order[1].data.shape))  # type: ignore[union-attr]
        if len(follows) > 1:
            return None
        shape[follows] = -1
        target = self._constant(f"{node.outputs[0].name}/target", shape.astype(np.int64))
        return self._put(node, "Reshape", [flatten.inputs[0], target])

    def _part(self, node: ir.Node) -> ir.Node | None:
        """One of a sequence's parts, as torch's chunk writes it without optimisation, is a Slice."""
        sequence, position = node.inputs
        cut = sequence.producer() if sequence is not None else None
        place = self._of(position) if position is not None else None
        if cut is None or cut.op_type != "SplitToSequence" or place is None or place[0].data is None:
            return None
        source, sizes = (
            cut.inputs[0],
            self._of(cut.inputs[1]) if len(cut.inputs) > 1 and cut.inputs[1] else None,
        )
        facts = self._of(source) if source is not None else None
        if facts is None or facts[0].dims is None or sizes is None or sizes[0].data is None:
            return None
        axis = attribute(cut, "axis", 0) % len(facts[0].dims)
        length = facts[0].dims[axis]
        if axis == 0 or length is None:
            return None
        given = sizes[0].data
        edges = np.cumsum([0, *given]) if given.ndim else np.append(np.arange(0, length, int(given)), length)
        index = int(place[0].data) % (len(edges) - 1)
        bounds = [int(edges[index]), int(edges[index + 1]), axis]
        name = str(node.outputs[0].name)
        constants = [self._constant(f"{name}/{i}", np.array([bound])) for i, bound in enumerate(bounds)]
        return self._put(node, "Slice", [source, *constants])

    def _put(
        self,
        node: ir.Node,
        op_type: str,
        inputs: list[ir.Value | None],
        attributes: dict[str, int] | None = None,
    ) -> ir.Node:
        """Put another operator in a node's place."""
        other = ir.node(op_type, inputs, attributes, name=node.name)
        old, new = node.outputs[0], other.outputs[0]
        new.name, old.name = old.name, f"{old.name}/before"
        self.graph.insert_before(node, other)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        return other

    def _decided(self, node: ir.Node) -> ir.Graph | None:
        condition = self._of(node.inputs[0]) if node.inputs[0] is not None else None
        if condition is None or condition[0].data is None or condition[1].data is None:
            return None
        if bool(condition[0].data) != bool(condition[1].data):
            return None
        branch = attribute(node, "then_branch" if bool(condition[0].data) else "else_branch")
        return branch if isinstance(branch, ir.Graph) else None


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> list[ir.Node]:
    """Put the nodes of an If's branch in its place."""
    for value in list(branch.initializers.values()):
        branch.initializers.pop(str(value.name))
        graph.register_initializer(value)
    nodes, outputs = list(branch), list(branch.outputs)
    branch.outputs[:] = []
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, outputs, strict=True):
        if old.is_graph_output():
            graph.outputs[list(graph.outputs).index(old)] = new
        old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    return nodes


def _type(dtype: ir.DataType, dims: list[int | None] | list[int]) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(int(dtype), dims)
