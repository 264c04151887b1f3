"""Writes ONNX nodes as formulas are written: ``op.Mul(g, op.Sigmoid(x))``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

from sise_ort.errors import option

FIXED_SIZE = f"export with a fixed {option('input_size')}"
"""The way out where a size is only known while running, for errors."""

Operand = ir.Value | float | int | NDArray[Any] | None


class Ops:
    """The operator builder that appends nodes to a graph (`sise_ort.formulas.ops.Ops`), with every operator of ONNX.

    ``op.Conv(x, w, strides=[2, 2])`` appends a Conv and returns its output; with ``outputs=2`` it returns a tuple.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Graph to append to. Call ``graph.sort()`` when done.
    dtype : onnx_ir.DataType
        Float type of the graph, FLOAT or DOUBLE.
    prefix : str
        First part of the name of every new value.

    Notes
    -----
    Operands are values, None (an optional input that is left out), or constants: floats become the graph's float type, integers
    and arrays of integers int64.
    """

    def __init__(self, graph: ir.Graph, dtype: ir.DataType = ir.DataType.FLOAT, prefix: str = "sise") -> None:
        self.graph = graph
        self.dtype = dtype
        self.prefix = prefix
        taken = {v.name for node in graph for v in node.outputs} | set(graph.initializers)
        taken |= {v.name for v in graph.inputs} | {node.name for node in graph}
        self._names = (name for i in itertools.count() if (name := f"{prefix}/{i}") not in taken)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def append(*operands: Operand, outputs: int = 1, **attributes: Any) -> Any:
            inputs = [o if o is None or isinstance(o, ir.Value) else self.constant(o) for o in operands]
            values = [ir.Value(name=next(self._names)) for _ in range(outputs)]
            node = ir.node(op_type, inputs, attributes, outputs=values, name=values[0].name)
            self.graph.append(node)
            return values[0] if outputs == 1 else tuple(values)

        return append

    def constant(self, array: ArrayLike | ir.Value) -> ir.Value:
        """A new initializer: floats in the graph's float type, integers as int64, booleans as they are."""
        data = np.asarray(array)
        if data.dtype.kind == "f":
            data = data.astype(self.dtype.numpy())
        elif data.dtype.kind in "iu":
            data = data.astype(np.int64)
        name = next(self._names)
        value = ir.Value(
            name=name, type=ir.TensorType(ir.DataType.from_numpy(data.dtype)), shape=ir.Shape(data.shape)
        )
        value.const_value = ir.tensor(np.asarray(data, order="C"), name=name)
        self.graph.register_initializer(value)
        return value


def static_shape(value: ir.Value) -> list[int | None]:
    """The shape of a value, None where a dimension is not a number.

    Raises
    ------
    ValueError
        The rank is unknown.
    """
    if value.shape is None:
        raise ValueError(f"the shape of tensor '{value.name}' is unknown")
    return [d if isinstance(d, int) else None for d in value.shape.dims]


def constant_array(value: ir.Value | None) -> NDArray[Any] | None:
    """The data of a constant (initializer or Constant node), None for everything else."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or the operator's default."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def input_of(node: ir.Node, index: int = 0) -> ir.Value:
    """An input of a node that must be there.

    Raises
    ------
    ValueError
        It is missing.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise ValueError(f"input {index} is missing")
    return value


def constant_input(node: ir.Node, index: int, what: str) -> NDArray[Any] | None:
    """The data of an optional input that must be a constant; None where it is left out.

    Raises
    ------
    ValueError
        It is computed while running; `what` names it.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    found = constant_array(value)
    if value is not None and found is None:
        raise ValueError(f"{what} computed while running: only constants are covered")
    return found


def axis_after_batch(node: ir.Node, default: int = -1) -> int:
    """The attribute `axis`, counted from the front.

    Raises
    ------
    ValueError
        It is the batch, or the rank is unknown.
    """
    axis = int(attribute(node, "axis", default)) % len(static_shape(input_of(node)))
    if axis == 0:
        raise ValueError("it works along the batch")
    return axis
