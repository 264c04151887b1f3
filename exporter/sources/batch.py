"""The batch of a cleaned network: a free one in the place of a fixed one, or where the file has none."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.ops import Ops, attribute, constant_array, input_of
from sise_ort.exporter.sources.shapes import BATCH, ShapesDoNotFit, infer_shapes

_UNARY = frozenset(
    "Abs Cast Clip DequantizeLinear Dropout Exp Identity LeakyRelu Log Neg QuantizeLinear Relu Sigmoid Sqrt Tanh".split()
)
_BINARY = frozenset("Add Div Max Min Mul Pow Sub".split())
_ENDING = frozenset("Cast Identity LogSoftmax Sigmoid Softmax".split())


def with_free_batch(model: ir.Model, batch: int, opset: int, rows: bool = False) -> ir.Model | None:
    """A copy with a dynamic batch in place of a fixed one; None where the graph does not allow it.

    Constant Reshape and Expand targets that name the batch take it from their input instead.

    Parameters
    ----------
    model : onnx_ir.Model
    batch : int
        The batch that it fixes.
    opset : int
        The version of its operators.
    rows : bool
        Whether an output's first axis may also count rows of all pictures (boxes), the same number for each.
    """
    free = model.clone()
    op = Ops(free.graph, prefix="batch")
    depends: set[ir.Value | None] = set(free.graph.inputs)
    for node in list(free.graph):
        if depends.isdisjoint(node.inputs):
            continue
        depends.update(node.outputs)
        if node.op_type not in ("Reshape", "Expand"):
            continue
        target = constant_array(node.inputs[1])
        if target is None or len(target) == 0 or target[0] != batch or attribute(node, "allowzero", 0):
            continue
        node.replace_input_with(
            1, op.constant(np.array([0 if node.op_type == "Reshape" else 1, *target[1:]]))
        )
    try:
        infer_shapes(free, opset)
    except ShapesDoNotFit:
        return None
    shapes = [v.shape for v in free.graph.outputs]
    return free if all(s is not None and len(s) and _is_batch(s[0], rows) for s in shapes) else None


def _is_batch(length: int | ir.SymbolicDim, rows: bool) -> bool:
    return length == BATCH or (
        rows and not isinstance(length, int) and str(length.value).endswith(f"*{BATCH}")
    )


def put_pictures_in_front(graph: ir.Graph, image: ir.Value) -> bool:
    """Let a network that takes one picture without an axis of pictures, [C, H, W], take several.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place, where that can be done.
    image : onnx_ir.Value
        Its input, which then has one axis more, in front.

    Returns
    -------
    bool
        False where an operator works on the picture before the network adds the axis itself; nothing has changed then.
    """
    alone: set[ir.Value | None] = {image}
    changes: list[tuple[ir.Node, str]] = []
    for node in graph:
        if alone.isdisjoint(node.inputs):
            continue
        kind = _kind(node, alone)
        if kind is None:
            return False
        changes.append((node, kind))
        if kind != "joins":
            alone.update(node.outputs)
    if not alone.isdisjoint(graph.outputs):
        return False
    op = Ops(graph, prefix="front")
    for node, kind in changes:
        if node.op_type == "Transpose":
            node.attributes["perm"] = ir.AttrInt64s("perm", [0, *(i + 1 for i in attribute(node, "perm"))])
        elif node.op_type == "Unsqueeze" and kind == "joins":
            node.outputs[0].replace_all_uses_with(input_of(node))
            graph.remove(node, safe=True)
        elif node.op_type == "Unsqueeze":
            places = constant_array(node.inputs[1])
            assert places is not None
            node.replace_input_with(
                1, op.constant([int(i) + 1 if i >= 0 else int(i) for i in places.ravel()])
            )
    for value in alone:
        if value is not None:
            value.shape = None
    return True


def _kind(node: ir.Node, alone: set[ir.Value | None]) -> str | None:
    """What a node does with a picture that has no axis of pictures: "stays" so, "joins" a batch of one, or None (unknown)."""
    others = [constant_array(v) for v in node.inputs if v is not None and v not in alone]
    if any(other is None for other in others):
        return None
    if node.op_type == "Transpose":
        return "stays" if attribute(node, "perm") is not None else None
    if node.op_type in _UNARY:
        return "stays" if all(other is not None and other.ndim == 0 for other in others) else None
    if node.op_type == "Unsqueeze":
        places = [int(i) for i in others[0].ravel()] if others and others[0] is not None else []
        return "joins" if places == [0] else "stays" if places and 0 not in places else None
    if node.op_type == "Reshape":
        target = others[0]
        return "joins" if target is not None and target.size > 2 and target[0] == 1 else None
    return "stays" if node.op_type in _BINARY else None


def keep_pictures_at_the_end(graph: ir.Graph) -> None:
    """Keep the axis of pictures where the file drops it again, in front of outputs such as [classes].

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place.
    """
    op = Ops(graph, prefix="front")
    for output in list(graph.outputs):
        node, ends = output.producer(), []
        while node is not None and node.op_type in _ENDING and node.inputs[0] is not None:
            ends.append(node)
            node = node.inputs[0].producer()
        if node is None or not _drops_pictures(node) or node.inputs[0] is None:
            continue
        given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        first_alone = node.op_type == "Gather" or (
            node.op_type == "Squeeze" and given is not None and given.size == 1
        )
        kept = op.Identity(node.inputs[0]) if first_alone else op.Flatten(node.inputs[0], axis=1)
        old = node.outputs[0]
        if old.is_graph_output():
            kept.name, old.name = old.name, f"{old.name}/before"
        ir.convenience.replace_all_uses_with(old, kept, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        for end in ends:
            axis = attribute(end, "axis", -1)
            if end.op_type in ("LogSoftmax", "Softmax") and axis >= 0:
                end.attributes["axis"] = ir.AttrInt64("axis", axis + 1)
            end.outputs[0].shape = None
    graph.sort()


def _drops_pictures(node: ir.Node) -> bool:
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op_type == "Squeeze":
        return len(node.inputs) < 2 or (given is not None and 0 in given)
    if node.op_type == "Gather":
        return given is not None and given.ndim == 0 and int(given) == 0 and attribute(node, "axis", 0) == 0
    return node.op_type == "Reshape" and given is not None and given.size == 1
