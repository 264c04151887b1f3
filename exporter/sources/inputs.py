"""How an ONNX file takes its picture: which input it is, what its axes and its numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import SourceError
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.ops import Ops, attribute, constant_array
from sise_ort.exporter.sources.cutting import require_one_input

PICTURES, CHANNELS, ROWS, COLUMNS = range(4)
Axes = tuple[int | None, int | None, int | None, int | None]
"""Where pictures, channels, rows and columns lie in the file's input; None where it has no such axis."""

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolutions, and which of their inputs are the weights [outputs, inputs / group, rows, columns]."""
_REAL = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
WHOLE = frozenset(
    getattr(ir.DataType, name) for name in "INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64".split()
)
"""Types of whole numbers."""
_PLACE_WISE = frozenset(
    """Add BatchNormalization Cast Clip DequantizeLinear Div Dropout Identity InstanceNormalization Mul Neg Pad
    QuantizeLinear Relu Resize Sub""".split()
)
"""Operators that leave axes and channels as they are."""
_REARRANGING = frozenset("Concat Gather Slice Split".split())
"""Operators that leave the axes as they are, but perhaps not the number of channels."""


@dataclass(frozen=True)
class FileInput:
    """The input of an ONNX file that takes the picture.

    Attributes
    ----------
    name : str
    dtype : onnx_ir.DataType
        Type of its elements.
    axes : Axes
        Where pictures, channels, rows and columns lie.
    batch : int or None
        Number of pictures that the file fixes; None where it is free.
    """

    name: str = "x"
    dtype: ir.DataType = ir.DataType.FLOAT
    axes: Axes = (0, 1, 2, 3)
    batch: int | None = None

    @property
    def defaults(self) -> dict[str, tuple[float, ...]]:
        """Mean and std where the type says them: bytes are pixels as they are."""
        return {"mean": (0.0,) * 3, "std": (1.0,) * 3} if self.dtype == ir.DataType.UINT8 else {}

    def arrange(self, picture: NDArray[np.float32]) -> NDArray[Any]:
        """One picture as the file takes it, repeated where the file fixes its batch.

        Parameters
        ----------
        picture : numpy.ndarray, float32 [C, H, W]
            An input of the cleaned network.

        Returns
        -------
        numpy.ndarray
            Of the file's own type and rank.

        Raises
        ------
        SourceError
            The file takes whole numbers, and these are none.
        """
        order = sorted((at, axis) for axis, at in enumerate(self.axes) if at is not None)
        absent = tuple(axis for axis, at in enumerate(self.axes) if at is None)
        array = picture[None].squeeze(absent)
        kept = [axis for axis in range(4) if axis not in absent]
        array = array.transpose([kept.index(axis) for _, axis in order])
        if self.batch is not None and self.axes[PICTURES] is not None:
            array = np.repeat(array, self.batch, axis=self.axes[PICTURES])
        if self.dtype in WHOLE:
            limits, whole = np.iinfo(self.dtype.numpy()), np.rint(array)
            if np.abs(whole - array).max() > 1e-3 or whole.min() < limits.min or whole.max() > limits.max:
                raise SourceError(
                    f"input '{self.name}' takes whole numbers ({self.dtype.name.lower()}), but this mean and std make pixels "
                    f"of {array.min():g} to {array.max():g}: pass others, or normalize none"
                )
            array = whole
        return np.ascontiguousarray(array.astype(self.dtype.numpy()))


def find_input(graph: ir.Graph) -> ir.Value:
    """The graph's only input that is used, and leave it alone.

    Raises
    ------
    SourceError
        There are several or none, or it cannot hold a picture.
    """
    used, possible = _candidates(graph)
    pictures = [v for v in possible if v.dtype in _REAL and v.shape is not None and len(v.shape) == 4]
    if len(pictures) == 1:
        require_one_input(pictures[0], [v for v in used if v is not pictures[0]])
    if len(used) != 1 or len(possible) != 1:
        raise _no_picture(used)
    graph.inputs[:] = used
    return used[0]


def require_picture(graph: ir.Graph) -> None:
    """Refuse a network none of whose inputs can be a picture, before anything is asked about its outputs.

    Raises
    ------
    SourceError
    """
    used, possible = _candidates(graph)
    problems = []
    for value in possible:
        try:
            read_input(value)
        except SourceError as error:
            problems.append(error)
        else:
            return
    raise problems[0] if len(used) == 1 and problems else _no_picture(used)


def _candidates(graph: ir.Graph) -> tuple[list[ir.Value], list[ir.Value]]:
    """The inputs that are used, and those among them whose type and rank a picture may have."""
    used = [v for v in graph.inputs if v.uses()]
    return used, [
        v for v in used if v.dtype in _REAL | WHOLE and (v.shape is None or len(v.shape) in (2, 3, 4))
    ]


def _no_picture(used: Sequence[ir.Value]) -> SourceError:
    listed = ", ".join(f"{v.name} {v.dtype} {v.shape}" for v in used) or "none"
    return SourceError(
        f"the model must have one input that is a picture, such as [n, C, H, W] or [n, H, W, C]; it has: {listed}"
    )


def read_input(image: ir.Value) -> tuple[FileInput, int, tuple[int | None, int | None]]:
    """Read from an input and the network behind it how the file takes a picture.

    The first convolution tells which axis holds the channels and how many there are, where it can be reached by
    operators that keep places apart; otherwise the axis of length 1 or 3 does.

    Parameters
    ----------
    image : onnx_ir.Value

    Returns
    -------
    file_input : FileInput
    channels : int
        1 or 3.
    size : (int or None, int or None)
        Height and width, None where they are free.

    Raises
    ------
    SourceError
        The axes or channels cannot be told, or are not those of a gray or colour picture.
    """
    dims = _declared(image)
    found = _at_first_convolution(image, dims)
    axes = found[0] if found is not None else _axes_by_length(dims)
    if axes is None:
        raise SourceError(
            f"input '{image.name}' {image.shape if dims is not None else '(shape unknown)'} does not tell which axis holds "
            "the channels; it must be a picture such as [n, C, H, W] or [n, H, W, C] with 1 or 3 channels"
        )

    def length(axis: int) -> int | None:
        at = axes[axis]
        return 1 if at is None else None if dims is None else dims[at]

    channels = length(CHANNELS) or (found[1] if found is not None else None)
    if channels not in (1, 3):
        raise SourceError(
            f"input '{image.name}' {image.shape} has {channels or 'an unknown number of'} channels; "
            "networks on gray (1) or colour (3) pictures can be explained"
        )
    if 1 in (length(ROWS), length(COLUMNS)):
        raise SourceError(
            f"input '{image.name}' {image.shape} is no picture: its height or width is 1 (a vector, from which a decoder or a "
            "generator starts?)"
        )
    assert image.dtype is not None
    batch = None if axes[PICTURES] is None else length(PICTURES)
    return FileInput(str(image.name), image.dtype, axes, batch), channels, (length(ROWS), length(COLUMNS))


def _declared(image: ir.Value) -> list[int | None] | None:
    if image.shape is None:
        return None
    return [d if isinstance(d, int) and d > 0 else None for d in image.shape.dims]


def _axes_by_length(dims: Sequence[int | None] | None) -> Axes | None:
    if dims is None or len(dims) not in (3, 4):
        return None
    front: int | None = 0 if len(dims) == 4 else None
    first = len(dims) - 3
    if dims[first] not in (1, 3) and dims[-1] in (1, 3):
        return front, first + 2, first, first + 1
    return front, first, first + 1, first + 2


def _at_first_convolution(
    image: ir.Value, dims: Sequence[int | None] | None
) -> tuple[Axes, int | None] | None:
    """The input's axes as the first convolution takes them, and the channels that it takes (None: others than the input's)."""
    start = None if dims is None else tuple(range(len(dims)))
    waiting: list[tuple[ir.Value, tuple[int | None, ...] | None, bool]] = [(image, start, True)]
    seen: set[ir.Value] = set()
    while waiting:
        value, axes, same = waiting.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for node, place in value.uses():
            if node.op_type in CONVOLUTIONS and place == 0:
                if (result := _as_taken(node, axes, same)) is not None:
                    return result
                continue
            after = _axes_after(node, axes, dims)
            if after != ():
                waiting += [(v, after, same and node.op_type not in _REARRANGING) for v in node.outputs]
    return None


def _as_taken(
    node: ir.Node, axes: tuple[int | None, ...] | None, same: bool
) -> tuple[Axes, int | None] | None:
    weights = node.inputs[CONVOLUTIONS[node.op_type]]
    while weights is not None and weights.shape is None and weights.const_value is None:
        before = weights.producer()
        weights = before.inputs[0] if before is not None and before.inputs else None
    shape = None if weights is None else weights.shape or getattr(weights.const_value, "shape", None)
    if shape is not None and len(shape) != 4:
        count = "1 axis" if len(shape) == 3 else f"{len(shape) - 2} axes"
        raise SourceError(
            f"the first convolution, {describe(node)}, slides along {count}, not over rows and columns: the input is "
            "no picture (sound or a series with 1 axis, a volume or a film with 3)"
        )
    axes = (0, 1, 2, 3) if axes is None else axes
    if shape is None or len(shape) != 4 or len(axes) != 4 or axes[0] not in (0, None):
        return None
    per_group = shape[1]
    if not isinstance(per_group, int):
        return None
    pictures, channels, rows, columns = axes
    return (pictures, channels, rows, columns), per_group * attribute(node, "group", 1) if same else None


def _axes_after(
    node: ir.Node, axes: tuple[int | None, ...] | None, dims: Sequence[int | None] | None
) -> tuple[int | None, ...] | None:
    """Which axis of the input each axis of the node's result is; () where that cannot be told."""
    if node.op_type == "Transpose":
        order = attribute(node, "perm")
        before = axes if axes is not None else tuple(range(len(order or ())))
        order = order if order is not None else range(len(before))[::-1]
        return tuple(before[i] for i in order) if len(before) == len(order) else ()
    if node.op_type in ("Unsqueeze", "Squeeze", "Reshape"):
        given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or given is None:
            return ()
        if node.op_type == "Reshape":
            return _axes_reshaped(axes, dims, [int(d) for d in given])
        rank = len(axes) + (given.size if node.op_type == "Unsqueeze" else 0)
        places = {int(i) % rank for i in given.ravel()}
        if node.op_type == "Squeeze":
            return tuple(a for i, a in enumerate(axes) if i not in places)
        rest = iter(axes)
        return tuple(None if i in places else next(rest) for i in range(rank))
    if node.op_type not in _PLACE_WISE | _REARRANGING:
        return ()
    if axes is not None and node.op_type in ("Add", "Div", "Mul", "Sub"):
        ranks = [len(c.shape) for v in node.inputs if v is not None and (c := constant_array(v)) is not None]
        return (None,) * (max([len(axes), *ranks]) - len(axes)) + axes
    return axes


def _axes_reshaped(
    axes: tuple[int | None, ...], dims: Sequence[int | None] | None, target: Sequence[int]
) -> tuple[int | None, ...]:
    """A Reshape to [n, C, H, W] that only adds, drops or moves axes of length 1."""
    if dims is None or None in axes or len(target) != 4 or min(target[1:]) < 1:
        return ()
    long = [a for a in axes if a is not None and (dims[a] or 0) > 1]
    front = axes[0] if axes[0] not in long else None
    single = iter(a for a in axes if a is not None and a not in long and a != front)
    if [dims[a] for a in long] != [d for d in target[1:] if d > 1]:
        return ()
    rest = iter(long)
    return (front, *(next(rest) if d > 1 else next(single, None) for d in target[1:]))


def put_input(graph: ir.Graph, image: ir.Value, axes: Axes, shape: Sequence[int | str | None]) -> None:
    """Give a network an input "x" [n, C, H, W] in the place of its own.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place.
    image : onnx_ir.Value
        Its input.
    axes : Axes
        Of that input. Where it has no axis of pictures, the network takes one at a time.
    shape : sequence of int, str or None
        Of the new one.
    """
    for value in (*graph.initializers.values(), *(v for node in graph for v in node.outputs)):
        if value.name == "x":
            value.name = "x/inside"
    order = [axis for _, axis in sorted((at, axis) for axis, at in enumerate(axes) if at is not None)]
    if order == [0, 1, 2, 3]:
        image.name, image.shape = "x", ir.Shape(list(shape))
        return
    op = Ops(graph, prefix="layout")
    first = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(list(shape)))
    value = first
    absent = [axis for axis, at in enumerate(axes) if at is None]
    if absent:
        value = op.Squeeze(value, op.constant(absent))
    kept = sorted(order)
    if order != kept:
        value = op.Transpose(value, perm=[kept.index(axis) for axis in order])
    image.replace_all_uses_with(value)
    graph.inputs[:] = [first]
    graph.sort()
