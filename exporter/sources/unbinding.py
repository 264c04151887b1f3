"""Keeps the pictures on the first axis where a transposed tensor is cut into parts (queries, keys, values).

Attention is often written as one product for queries, keys and values, reshaped to [n, places, 3, heads, d], transposed
to [3, n, heads, places, d] and unbound. Gradients need the pictures in front: each part is taken first, then transposed.
"""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.exporter.ops import Ops, attribute, constant_array

Part = tuple[int, ir.Value]
"""Which index along the first axis, and the tensor that holds it."""


def keep_pictures_first(graph: ir.Graph) -> None:
    """Take parts of a transposed tensor before it is transposed, where all that follows are parts of its first axis.

    Parameters
    ----------
    graph : ir.Graph
        Changed in place; with shapes and constants as initializers.
    """
    changed = False
    op = Ops(graph, prefix="unbound")
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        if source is None or source.shape is None or node.outputs[0].is_graph_output():
            continue
        order = [int(i) for i in attribute(node, "perm", range(len(source.shape))[::-1])]
        length = source.shape[order[0]] if order else None
        parts = _parts(node.outputs[0]) if order and order[0] != 0 and isinstance(length, int) else None
        for index, old in parts or ():
            assert isinstance(length, int)
            _replace(op, source, order, index % length, old)
            changed = True
    if changed:
        graph.sort()


def _replace(op: Ops, source: ir.Value, order: list[int], index: int, old: ir.Value) -> None:
    assert source.shape is not None
    axis, dims = order[0], list(source.shape.dims)
    cut = op.Slice(source, op.constant([index]), op.constant([index + 1]), op.constant([axis]))
    part = op.Squeeze(cut, op.constant([axis]))
    left = [i - (i > axis) for i in order[1:]]
    moved = op.Transpose(part, perm=left)
    rest = dims[:axis] + dims[axis + 1 :]
    for value, shape in (
        (cut, [*dims[:axis], 1, *dims[axis + 1 :]]), (part, rest), (moved, [rest[i] for i in left])
    ):  # fmt: skip
        value.shape, value.type = ir.Shape(shape), source.type
    old.replace_all_uses_with(moved)


def _parts(value: ir.Value) -> list[Part] | None:
    """What is taken from the first axis; None where something else is done with the tensor."""
    found: list[Part] = []
    for node, place in value.uses():
        axis = attribute(node, "axis", 0)
        if place != 0:
            return None
        if node.op_type == "Gather" and axis == 0:
            index = constant_array(node.inputs[1])
            taken: list[tuple[int, ir.Value, bool]] = (
                [(int(index), node.outputs[0], False)] if index is not None and index.ndim == 0 else []
            )
        elif node.op_type == "Slice":
            start = _one_of_the_first_axis(node)
            taken = [] if start is None else [(start, node.outputs[0], True)]
        elif node.op_type == "Split" and axis == 0:
            whole = all(v.shape is not None and v.shape[0] == 1 for v in node.outputs)
            taken = [(i, v, True) for i, v in enumerate(node.outputs)] if whole else []
        else:
            taken = []
        if not taken:
            return None
        for index_, part, kept in taken:
            ends = _squeezed(part) if kept else [part]
            if ends is None or any(end.is_graph_output() for end in ends):
                return None
            found += [(index_, end) for end in ends]
    return found


def _one_of_the_first_axis(node: ir.Node) -> int | None:
    """The start of a Slice that takes one index along the first axis."""
    given = [constant_array(v) for v in node.inputs[1:]]
    if len(given) < 3 or any(array is None or array.size != 1 for array in given):
        return None
    start, end, axis, *steps = (int(array.ravel()[0]) for array in given if array is not None)
    return start if axis == 0 and (end == start + 1 or start == -1) and steps in ([], [1]) else None


def _squeezed(part: ir.Value) -> list[ir.Value] | None:
    """The results of the Squeezes that take the first axis off; None where something else is done."""
    ends = []
    for node, _ in part.uses():
        axes = constant_array(node.inputs[1]) if node.op_type == "Squeeze" and len(node.inputs) > 1 else None
        if axes is None or axes.ravel().tolist() != [0]:
            return None
        ends.append(node.outputs[0])
    return ends
