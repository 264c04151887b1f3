"""Tensors of the V2 protocol (Open Inference Protocol): as JSON, and as bytes behind the JSON (binary tensor extension)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import shown
from sise_ort.line.server.pictures import from_base64
from sise_ort.line.server.refusal import Refusal
from sise_ort.outputs import to_json

HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
MOST_AXES = 8


class Tensor(msgspec.Struct):
    """An input as a request holds it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class Wanted(msgspec.Struct):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(msgspec.Struct):
    """An inference request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] | None = None


def split(body: bytes, header: str | None) -> tuple[InferBody, memoryview]:
    """A request's JSON, and the bytes behind it.

    Parameters
    ----------
    body : bytes
    header : str or None
        The header that says how long the JSON is; None where it is all.

    Raises
    ------
    Refusal
        With status 400: the length or the JSON is wrong.
    """
    length = len(body)
    if header is not None:
        if not (header.isascii() and header.isdecimal() and len(header) < 19 and int(header) <= length):
            raise Refusal(400, f"{HEADER_LENGTH} is {shown(header)}; the body has {length} bytes")
        length = int(header)
    view = memoryview(body)
    try:
        return msgspec.json.decode(view[:length], type=InferBody), view[length:]
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the body is no inference request: {error}") from error


def arrays(body: InferBody, behind: memoryview) -> dict[str, Any]:
    """The inputs by name: arrays, or for BYTES a list of bytes.

    Raises
    ------
    Refusal
        With status 400: shape, datatype and data of an input do not agree.
    """
    found: dict[str, Any] = {}
    for tensor in body.inputs:
        count = _count(tensor)
        if tensor.name in found:
            raise Refusal(400, f"the input {shown(tensor.name)} stands there twice", tensor.name)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            found[tensor.name] = _from_json(tensor, count)
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(behind):
            raise Refusal(
                400,
                f"binary_data_size of {shown(tensor.name)} is {shown(size)}; {len(behind)} bytes are left",
                tensor.name,
            )
        found[tensor.name], behind = _from_bytes(tensor, count, behind[:size]), behind[size:]
    if len(behind):
        raise Refusal(400, f"{len(behind)} bytes stand behind the last tensor")
    return found


def _count(tensor: Tensor) -> int:
    if tensor.datatype not in DATATYPES and tensor.datatype != "BYTES":
        raise Refusal(400, f"datatype of {shown(tensor.name)} is {shown(tensor.datatype)}; it is one of "
                      f"{', '.join(DATATYPES)}, BYTES", tensor.name)  # fmt: skip
    if len(tensor.shape) > MOST_AXES or any(not 0 <= length < 1 << 31 for length in tensor.shape):
        raise Refusal(400, f"shape of {shown(tensor.name)} is {shown(tensor.shape)}", tensor.name)
    return math.prod(tensor.shape)


def _from_bytes(tensor: Tensor, count: int, data: memoryview) -> Any:
    if tensor.datatype == "BYTES":
        return _strings(tensor, count, data)
    dtype = np.dtype(DATATYPES[tensor.datatype])
    if count * dtype.itemsize != len(data):
        raise Refusal(
            400,
            f"{shown(tensor.name)} has {len(data)} bytes; {count * dtype.itemsize} belong to {tensor.shape} of "
            f"{tensor.datatype}",
            tensor.name,
        )
    return np.frombuffer(data, dtype).reshape(tensor.shape)


def _strings(tensor: Tensor, count: int, data: memoryview) -> list[bytes]:
    """Strings of bytes, each behind its length as four bytes."""
    found: list[bytes] = []
    while len(data) >= 4 and len(found) < count:
        length = int.from_bytes(data[:4], "little")
        if length > len(data) - 4:
            break
        found.append(bytes(data[4 : 4 + length]))
        data = data[4 + length :]
    if len(found) != count or len(data):
        raise Refusal(
            400,
            f"the bytes of {shown(tensor.name)} are not {count} strings behind their lengths",
            tensor.name,
        )
    return found


def _from_json(tensor: Tensor, count: int) -> Any:
    data = tensor.data
    if not isinstance(data, list):
        raise Refusal(400, f"data of {shown(tensor.name)} is {shown(data)}; a list is needed", tensor.name)
    if tensor.datatype == "BYTES":
        if len(data) != count:
            raise Refusal(
                400, f"{shown(tensor.name)} has {len(data)} elements, its shape {count}", tensor.name
            )
        return [from_base64(one, tensor.name) for one in data]
    try:
        array = np.asarray(data)
        if array.dtype.kind not in "iufb" or array.size != count:
            raise ValueError(f"it has {array.size} elements, its shape {count}")
        dtype = np.dtype(DATATYPES[tensor.datatype])
        cast = array.astype(dtype)
        if dtype.kind in "iu" and not np.array_equal(cast, array):
            raise ValueError(f"its numbers are not all of {tensor.datatype}")
        return cast.reshape(tensor.shape)
    except (ValueError, OverflowError, TypeError) as error:
        raise Refusal(400, f"data of {shown(tensor.name)}: {error}", tensor.name) from error


def joined(
    answer: dict[str, Any], outputs: dict[str, NDArray[Any] | list[bytes]], binary: Sequence[str]
) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON where bytes stand behind it.

    Parameters
    ----------
    answer : dict
        What the JSON says besides the outputs.
    outputs : dict
        Arrays, or lists of UTF-8 texts as bytes.
    binary : sequence of str
        Names of those that stand behind the JSON.
    """
    rows, behind = [], []
    for name, value in outputs.items():
        datatype, shape = datatype_of(value), list(np.shape(value))
        row: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
        if name in binary:
            data = _to_bytes(value)
            behind.append(data)
            row["parameters"] = {"binary_data_size": len(data)}
        elif isinstance(value, list):
            row["data"] = [one.decode() for one in value]
        else:
            row["data"] = value.ravel().tolist()
        rows.append(row)
    head = to_json({**answer, "outputs": rows}).encode()
    return b"".join([head, *behind]), len(head) if behind else None


def datatype_of(value: NDArray[Any] | list[bytes]) -> str:
    """The protocol's name of an output's type."""
    if isinstance(value, list):
        return "BYTES"
    return next(name for name, code in DATATYPES.items() if np.dtype(code) == value.dtype)


def _to_bytes(value: NDArray[Any] | list[bytes]) -> bytes:
    if isinstance(value, list):
        return b"".join(len(one).to_bytes(4, "little") + one for one in value)
    return np.ascontiguousarray(value).tobytes()
