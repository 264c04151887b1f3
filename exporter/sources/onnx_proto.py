"""An .onnx file's content, looked at before anything of it is believed: sizes, weights outside the file, names."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import google.protobuf.message
import onnx
import onnx.external_data_helper

from sise_ort.errors import SourceError
from sise_ort.exporter.sources.translation import translated

LARGEST_FILE = 1 << 31
"""Bytes of an .onnx file: more cannot be parsed."""
LARGEST_WEIGHTS = 1 << 34
"""Bytes of all weights together, as the file declares them."""
GIT_LFS = b"version https://git-lfs.github.com/spec/"
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
          (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip
_BITS = {
    onnx.TensorProto.COMPLEX128: 128, onnx.TensorProto.INT64: 64, onnx.TensorProto.UINT64: 64, onnx.TensorProto.DOUBLE: 64,
    onnx.TensorProto.COMPLEX64: 64, onnx.TensorProto.FLOAT: 32, onnx.TensorProto.INT32: 32, onnx.TensorProto.UINT32: 32,
    onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.BFLOAT16: 16, onnx.TensorProto.INT16: 16, onnx.TensorProto.UINT16: 16,
    onnx.TensorProto.UINT4: 4, onnx.TensorProto.INT4: 4,
    **{getattr(onnx.TensorProto, name): bits for name, bits in (("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
       if hasattr(onnx.TensorProto, name)},
}  # fmt: skip
"""Bits of an element; 8 where it is not listed."""


def regular_file(path: Path, what: str) -> os.stat_result | None:
    """The facts of a file that can be read like a file; None where there is nothing of that name.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, for the error: "model file".

    Raises
    ------
    SourceError
        The name is impossible, what it names cannot be reached, or it is a folder, a pipe or a device.
    """
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"the {what} '{path}' cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # NUL, lone surrogates
        raise SourceError(f"'{path}' cannot be the name of a {what}: {error}") from error
    if not stat.S_ISREG(facts.st_mode):
        kind = next((words for test, words in _KINDS if test(facts.st_mode)), "no regular file")
        raise SourceError(f"'{path}' is {kind}; a {what} is needed")
    return facts


def refuse_pointer(path: Path, start: bytes) -> None:
    """Refuse what Git leaves in a file's place where Git LFS is not set up.

    Raises
    ------
    SourceError
    """
    if start.startswith(GIT_LFS):
        raise SourceError(
            f"'{path}' is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`, or download it"
        )


def read_proto(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read an .onnx file and its external weights.

    Parameters
    ----------
    path : Path

    Returns
    -------
    model : onnx.ModelProto
        With all weights inside.
    digest : str
        SHA-256 of the file itself.

    Raises
    ------
    SourceError
        It is missing, truncated, a pointer or no ONNX file; it declares more than can be true; its external weights
        are missing or lie outside its folder.
    """
    facts = regular_file(path, "model file")
    if facts is None:
        raise SourceError(f"there is no model file '{path}'")
    if facts.st_size >= LARGEST_FILE:
        raise SourceError(
            f"'{path}' has {facts.st_size / 2**30:.1f} GiB; an .onnx file has less than 2 GiB, and keeps larger weights in "
            "files beside it"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read: {error.strerror or error}") from error
    refuse_pointer(path, content[:100])
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except google.protobuf.message.DecodeError as error:
        raise SourceError(f"'{path}' is not an ONNX model, or it is truncated: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    del content
    if not proto.graph.node:
        raise SourceError(f"'{path}' holds no graph: it is not an ONNX model, or it is empty or truncated")
    with translated(f"'{path}' cannot be read as an ONNX model", SourceError):
        check_names(proto, path)
        outside = check_tensors(proto, path)
        if outside:
            onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
    return proto, digest


def check_names(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse names that other libraries cut off.

    Raises
    ------
    SourceError
    """
    for graph in graphs_of(proto):
        for node in graph.node:
            for name in (node.name, node.op_type, node.domain, *node.input, *node.output):
                if "\0" in name:
                    raise SourceError(f"'{path}': the name '{name}' holds a NUL character; rename it")


def check_tensors(proto: onnx.ModelProto, path: Path) -> list[onnx.TensorProto]:
    """Compare what every tensor declares with what is there; return those that stand in other files.

    Raises
    ------
    SourceError
        A size is negative, too large or not that of the data; weights outside the file are missing, too short, or not
        in the model's folder.
    """
    total, outside = 0, []
    for tensor in tensors_of(proto):
        name = f"'{path}': the tensor '{tensor.name}'"
        if any(d < 0 for d in tensor.dims) or len(tensor.dims) > 64:
            raise SourceError(f"{name} declares the impossible shape {list(tensor.dims)[:8]}")
        elements = math.prod(tensor.dims)
        size = (elements * _BITS.get(tensor.data_type, 8) + 7) // 8
        total += size
        if total > LARGEST_WEIGHTS:
            raise SourceError(
                f"{name} of shape {list(tensor.dims)} makes {total / 2**30:,.0f} GiB of weights; at most "
                f"{LARGEST_WEIGHTS >> 30} GiB are read"
            )
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_outside(tensor, size, path)
            outside.append(tensor)
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise SourceError(
                f"{name} declares {size:,} bytes {list(tensor.dims)}, but holds {len(tensor.raw_data):,}"
            )
        elif not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
            _check_values(tensor, elements, name)
    return outside


def _check_values(tensor: onnx.TensorProto, elements: int, name: str) -> None:
    held = max(
        len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data),
        len(tensor.uint64_data),
    )  # fmt: skip
    if held > elements * 2 or held * 8 < elements:  # complex numbers are pairs; small integers are packed
        raise SourceError(f"{name} declares {elements:,} values {list(tensor.dims)[:8]}, but holds {held:,}")


def _check_outside(tensor: onnx.TensorProto, size: int, path: Path) -> None:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    name = f"'{path}': the weights of '{tensor.name}' in '{location}'"
    folder, target = path.parent.resolve(), (path.parent / location).resolve()
    if not location or not target.is_relative_to(folder) or Path(location).is_absolute():
        raise SourceError(f"{name} lie outside the model's folder; external weights must lie beside the file")
    found = regular_file(target, "file of external weights")
    if found is None:
        raise SourceError(f"{name}: its external weights are missing; put '{location}' beside it")
    with target.open("rb") as file:
        refuse_pointer(target, file.read(100))
    offset, length = int(facts.get("offset") or 0), int(facts.get("length") or size)
    if offset < 0 or length != size or offset + length > found.st_size:
        raise SourceError(
            f"{name} should be {size:,} bytes from {offset:,} on, but the file has {found.st_size:,} bytes (declared length "
            f"{length:,}); is it truncated, or another model's?"
        )


def graphs_of(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The main graph, the functions, and every graph inside their nodes."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the file holds: initializers, and attributes of nodes.

    Raises
    ------
    SourceError
        There are sparse tensors.
    """
    for graph in graphs_of(proto):
        if isinstance(graph, onnx.GraphProto):
            if graph.sparse_initializer:
                raise SourceError(
                    "the model has sparse weights, which are not read; export it with dense ones"
                )
            yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                    raise SourceError(
                        "the model has sparse constants, which are not read; export it with dense ones"
                    )
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
