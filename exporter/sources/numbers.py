"""Floats of 32 bits in the place of other precisions, and of whole numbers that hold a picture."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from sise_ort.errors import SourceError
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.ops import Ops, attribute, constant_array
from sise_ort.exporter.sources.inputs import WHOLE

_TO_FLOAT = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_MOVING = frozenset(
    """Concat DepthToSpace Expand Flatten Gather GatherND Identity Pad Reshape Slice SpaceToDepth Split Squeeze Tile
    Transpose Unsqueeze""".split()
)
"""Operators that move numbers without computing, and so do the same with whole numbers as with floats."""
_EXACT = frozenset("Add Clip Max MaxPool Min Mul Neg Sub".split())
"""Operators that compute the same with whole numbers as with floats that hold whole numbers."""

_ANY = frozenset("Conv MatMul Shape Size".split())
"""Operators for which it does not matter: of integers, they would have other names."""


def to_float32(graph: ir.Graph) -> None:
    """Read half and double precision as float32: gradients underflow in half.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place.
    """
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in _TO_FLOAT:
            data = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.tensor(data, name=value.name)
            value.dtype = ir.DataType.FLOAT
    for node in graph:
        if node.op_type == "Cast" and ir.DataType(attribute(node, "to")) in _TO_FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    for value in [*graph.inputs, *graph.outputs]:
        if value.dtype in _TO_FLOAT:
            value.dtype = ir.DataType.FLOAT


def take_floats(graph: ir.Graph, image: ir.Value) -> None:
    """Make an input of whole numbers one of floats that hold them, to the first operator that makes them floats.

    Raises
    ------
    SourceError
        An operator before that computes otherwise with whole numbers than with floats.
    """
    if image.dtype in WHOLE:
        words = f"input '{image.name}' holds whole numbers ({image.dtype})"
        image.dtype = ir.DataType.FLOAT
        continue_as_floats(graph, [image], words)


def continue_as_floats(graph: ir.Graph, values: Iterable[ir.Value], words: str) -> None:
    """Let what follows on whole numbers compute with floats that hold them.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place.
    values : iterable of onnx_ir.Value
        Floats in the place of whole numbers.
    words : str
        What they are, for the error: "input 'x' holds whole numbers".

    Raises
    ------
    SourceError
        An operator computes otherwise with whole numbers than with floats.
    """
    op = Ops(graph, prefix="pixels")
    whole: set[ir.Value | None] = {*values}
    for node in list(graph):
        if whole.isdisjoint(node.inputs) or node.op_type in _ANY:
            continue
        if node.op_type == "DequantizeLinear":
            _replace(graph, node, _dequantised(op, node))
        elif node.op_type == "Cast":
            value = op.Identity(node.inputs[0])
            if ir.DataType(attribute(node, "to")) in WHOLE:
                whole.add(value)
            _replace(graph, node, value)
        elif node.op_type in _MOVING | _EXACT:
            _constants_as_floats(op, node)
            whole.update(node.outputs)
            for value in node.outputs:
                value.type = None
        else:
            raise SourceError(
                f"{words}, and {describe(node)} computes with them before they become floats; export the model in floats"
            )
    graph.sort()


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Put a value in the place of a node's result."""
    (old,) = node.outputs
    if old.is_graph_output():
        value.name, old.name = old.name, f"{old.name}/before"
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _dequantised(op: Ops, node: ir.Node) -> ir.Value:
    """(x - zero point) · scale, of an x that holds floats."""
    x, scale, zero = node.inputs[0], node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert x is not None and scale is not None
    shape = scale.shape
    if shape is not None and len(shape) == 1 and shape[0] != 1:
        axis, rank = attribute(node, "axis", 1), len(x.shape) if x.shape is not None else 4
        places = op.constant([-1 if i == axis % rank else 1 for i in range(rank)])
        scale, zero = op.Reshape(scale, places), zero if zero is None else op.Reshape(zero, places)
    centred = x if zero is None else op.Sub(x, op.Cast(zero, to=ir.DataType.FLOAT))
    return op.Mul(centred, scale)


def _constants_as_floats(op: Ops, node: ir.Node) -> None:
    """The pixels among a moving operator's constants: what it pads with, adds or puts beside."""
    places = {"Pad": (2,), "Clip": (1, 2)}.get(
        node.op_type, range(len(node.inputs)) if node.op_type in _EXACT | {"Concat"} else ()
    )
    for place in places:
        value = node.inputs[place] if place < len(node.inputs) else None
        data = constant_array(value)
        if data is not None and data.dtype.kind in "iu":
            node.replace_input_with(place, op.constant(data.astype(np.float32)))
