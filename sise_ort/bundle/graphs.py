"""What an ONNX file holds, read from its bytes before onnxruntime sees them, and refused where it is not plain.

The numbers of the fields are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3). A bundle's
graph has no functions, no sparse tensors, no operators of unknown domains, and weights outside the file only as
initializers of its main graph, in a file that the manifest lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sise_ort.bundle.wire import BYTES, VARINT, Field, WireError, fields, integers, message, signed, text

DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Domains of operators that a graph may use: those that onnxruntime brings along."""
OPENS_FILES = frozenset(("EPContext",))
"""Operators that name a file of their own."""
DEEPEST = 16
"""Graphs inside graphs."""
BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip
"""Bits of an element by ONNX's number of its type; texts (8) are not taken."""
NUMPY_TYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8",
}  # fmt: skip
"""Types of weights that may stand outside of the file."""
FLOAT, UINT8, INT64 = 1, 2, 7


class GraphError(ValueError):
    """A file is no ONNX graph, or not one that a bundle may hold."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes
    ----------
    name : str
        Its name.
    dtype : int
        ONNX's number of its type, such as FLOAT.
    shape : tuple of int or None, or None
        Its lengths; None where a length, or the number of dimensions, is open.
    """

    name: str
    dtype: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class ExternalTensor:
    """A weight that stands in another file.

    Attributes
    ----------
    name : str
        The initializer's name.
    dtype : int
        ONNX's number of its type.
    shape : tuple of int
        Its lengths.
    file : str
        The file's name.
    offset, length : int
        Where it lies in the file, in bytes.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class GraphFacts:
    """What is known of an ONNX file without running it: inputs, outputs, and the weights outside it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    external: tuple[ExternalTensor, ...]


@dataclass
class _Walk:
    """What one walk over a file collects.

    sizes : bytes of the files that weights may stand in. largest : bytes of the largest tensor.
    """

    sizes: Mapping[str, int]
    largest: int
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    external: list[ExternalTensor] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)


def read_graph(content: bytes | bytearray | memoryview, sizes: Mapping[str, int], largest: int) -> GraphFacts:
    """Read an ONNX file's inputs, outputs and external weights, and look at everything else in it.

    Parameters
    ----------
    content : bytes
        The file.
    sizes : mapping of str to int
        Bytes of the files in which its weights may stand.
    largest : int
        Bytes that a tensor may have.

    Returns
    -------
    GraphFacts

    Raises
    ------
    GraphError
        The file is no ONNX file, or holds something that a bundle's graphs never hold; says what.
    """
    walk = _Walk(sizes, largest)
    try:
        _model(walk, memoryview(content))
    except GraphError:
        raise
    except (WireError, UnicodeDecodeError) as error:
        raise GraphError(f"is no ONNX file ({error})") from error
    for kind, found in (("inputs", walk.inputs), ("outputs", walk.outputs)):
        if len({spec.name for spec in found}) < len(found):
            raise GraphError(f"has two {kind} of one name")
    return GraphFacts(tuple(walk.inputs), tuple(walk.outputs), tuple(walk.external))


def _model(walk: _Walk, model: memoryview) -> None:
    graph: memoryview | None = None
    for part in fields(model):
        if part.number == 7:
            graph = _only(graph, part, "graph")
        elif part.number in (20, 25):
            raise GraphError("holds functions or training, which no bundle has")
        elif part.number == 8:
            for entry in fields(message(part)):
                if entry.number == 1:
                    _domain(entry)
    if graph is None:
        raise GraphError("is no ONNX file (it has no graph)")
    _graph(walk, graph, 0)


def _graph(walk: _Walk, graph: memoryview, depth: int) -> None:
    if depth > DEEPEST:
        raise GraphError(f"nests more than {DEEPEST} graphs")
    for part in fields(graph):
        if part.number == 1:
            _node(walk, message(part), depth)
        elif part.number == 5:
            _tensor(walk, message(part), main=depth == 0)
        elif part.number in (11, 12, 13):
            spec = _value(walk, message(part))
            if depth == 0 and part.number != 13:
                (walk.inputs if part.number == 11 else walk.outputs).append(spec)
        elif part.number == 15:
            raise GraphError("holds sparse tensors, which no bundle has")


def _node(walk: _Walk, node: memoryview, depth: int) -> None:
    for part in fields(node):
        if part.number == 5:
            _attribute(walk, message(part), depth)
        elif part.number == 7:
            _domain(part)
        elif part.number == 4 and text(part) in OPENS_FILES:
            raise GraphError(f"holds the operator {text(part)}, which reads further files")


def _domain(part: Field) -> None:
    name = text(part)
    if name not in DOMAINS:
        raise GraphError(
            f"uses operators of the domain '{name[:80]}', which onnxruntime does not bring along"
        )


def _attribute(walk: _Walk, attribute: memoryview, depth: int) -> None:
    tensor: memoryview | None = None
    graph: memoryview | None = None
    for part in fields(attribute):
        if part.number == 5:
            tensor = _only(tensor, part, "tensor")
        elif part.number == 6:
            graph = _only(graph, part, "graph")
        elif part.number == 10:
            _tensor(walk, message(part), main=False)
        elif part.number == 11:
            _graph(walk, message(part), depth + 1)
        elif part.number in (22, 23):
            raise GraphError("holds sparse tensors, which no bundle has")
    if tensor is not None:
        _tensor(walk, tensor, main=False)
    if graph is not None:
        _graph(walk, graph, depth + 1)


def _only(before: memoryview | None, part: Field, what: str) -> memoryview:
    """A message that may stand there once: of two, protobuf would make one."""
    if before is not None:
        raise GraphError(f"says twice what a {what} is")
    return message(part)


def _tensor(walk: _Walk, tensor: memoryview, *, main: bool) -> None:
    """Check a constant's size and where its values stand."""
    shape: list[int] = []
    dtype, name, raw, values, location = 0, "", -1, 0, 0
    outside: dict[str, str] = {}
    for part in fields(tensor):
        if part.number == 1:
            shape += integers(part)
        elif part.number == 2:
            dtype = part.integer
        elif part.number == 3:
            raise GraphError("holds a tensor in segments, which no bundle has")
        elif part.number == 8:
            name = text(part)
        elif part.number == 9:
            raw = len(message(part))
        elif part.number in (4, 5, 6, 7, 10, 11):
            values += len(part.data) if part.kind == BYTES else 8
        elif part.number == 13:
            key, value = _entry(message(part))
            if key in outside:
                raise GraphError(f"says twice where the weight '{name[:80]}' lies")
            outside[key] = value
        elif part.number == 14:
            location = part.integer
    if main:
        walk.initializers.add(name)
    if dtype not in BITS or len(shape) > 64 or any(length < 0 for length in shape):
        raise GraphError(f"holds a tensor '{name[:80]}' of an unknown type or shape")
    count = math.prod(shape)
    size = -(-count * BITS[dtype] // 8)
    if size > walk.largest:
        raise GraphError(
            f"declares a tensor '{name[:80]}' of {size} bytes, more than the limit of {walk.largest}"
        )
    if location == 1 or outside:
        if not main or location != 1 or raw >= 0 or values:
            raise GraphError("has weights outside the file that are no initializers of its main graph")
        walk.external.append(_external(walk, name, dtype, tuple(shape), size, outside))
    elif raw != size if raw >= 0 else count > values:
        raise GraphError(f"holds a tensor '{name[:80]}' that declares another size than it has")


def _external(
    walk: _Walk, name: str, dtype: int, shape: tuple[int, ...], size: int, outside: Mapping[str, str]
) -> ExternalTensor:
    file = outside.get("location", "")
    if dtype not in NUMPY_TYPES:
        raise GraphError(
            f"has a weight '{name[:80]}' outside of the file whose type ({dtype}) must stand inside"
        )
    if file not in walk.sizes:
        raise GraphError(f"takes weights from '{file[:80]}', which is no file of the bundle")
    unknown = set(outside) - {"location", "offset", "length", "checksum"}
    numbers = [outside.get("offset", "0"), outside.get("length", str(size))]
    if unknown or not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
        raise GraphError(f"does not say where the weight '{name[:80]}' lies")
    offset, length = map(int, numbers)
    if length != size or offset + length > walk.sizes[file]:
        raise GraphError(f"takes the weight '{name[:80]}' from outside of '{file}'")
    return ExternalTensor(name, dtype, shape, file, offset, length)


def _entry(entry: memoryview) -> tuple[str, str]:
    found = {part.number: text(part) for part in fields(entry) if part.number in (1, 2)}
    return found.get(1, ""), found.get(2, "")


def _value(walk: _Walk, value: memoryview) -> TensorSpec:
    """A ValueInfoProto; types other than dense tensors have the type 0."""
    name, kind = "", None
    for part in fields(value):
        if part.number == 1:
            name = text(part)
        elif part.number == 2:
            kind = _only(kind, part, "type")
    tensor: memoryview | None = None
    others = 0
    for part in fields(kind) if kind is not None else ():
        if part.number == 1:
            tensor = _only(tensor, part, "tensor type")
        elif part.number in (4, 5, 8, 9):
            others += 1
    if tensor is None or others:
        return TensorSpec(name, 0, None)
    dtype, dims = 0, None
    for part in fields(tensor):
        if part.number == 1:
            dtype = part.integer
        elif part.number == 2:
            dims = _only(dims, part, "shape")
    shape = None if dims is None else tuple(_dims(dims))
    if shape is not None:
        least = math.prod(length for length in shape if length is not None) * BITS.get(dtype, 8) // 8
        if least > walk.largest:
            raise GraphError(
                f"declares '{name[:80]}' with {least} bytes, more than the limit of {walk.largest}"
            )
    return TensorSpec(name, dtype, shape)


def _dims(shape: memoryview) -> Iterator[int | None]:
    for part in fields(shape):
        if part.number != 1:
            continue
        lengths = [f for f in fields(message(part)) if f.number in (1, 2)]
        if len(lengths) > 1:
            raise GraphError("says twice how long a dimension is")
        if not lengths or lengths[0].number == 2:
            yield None
        elif lengths[0].kind != VARINT or signed(lengths[0].integer) < 0:
            raise GraphError("declares a dimension of negative length")
        else:
            yield lengths[0].integer
