"""The protobuf wire format, field by field: enough to look into a file before anything else parses it.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are no protobuf message, or not one that this walker takes."""


class Field(NamedTuple):
    """One field of a message.

    Attributes
    ----------
    number : int
        The field's number.
    kind : int
        Its wire type: VARINT, EIGHT_BYTES, BYTES or FOUR_BYTES.
    integer : int
        The value of a VARINT, unsigned; 0 for other kinds.
    data : memoryview
        The bytes of other kinds, not copied.
    """

    number: int
    kind: int
    integer: int
    data: memoryview


_NOTHING = memoryview(b"")


def fields(message: memoryview) -> Iterator[Field]:
    """Yield a message's fields in the file's order.

    Parameters
    ----------
    message : memoryview
        The message's bytes.

    Raises
    ------
    WireError
        A field is cut off, or of a kind that ONNX files do not have.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >> 32:
            raise WireError("a field has no number")
        if kind == VARINT:
            value, at = varint(message, at)
            yield Field(number, kind, value, _NOTHING)
            continue
        if kind == BYTES:
            length, at = varint(message, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise WireError(f"a field has the wire type {kind}")
        if length > end - at:
            raise WireError("a field is longer than its message")
        yield Field(number, kind, 0, message[at : at + length])
        at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read an unsigned number of 64 bits at most; returns it and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise WireError("a number is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise WireError("a number has more than 64 bits")


def signed(value: int) -> int:
    """The signed number of 64 bits that an unsigned one stands for."""
    return value - (1 << 64) if value >> 63 else value


def integers(field: Field) -> Iterator[int]:
    """The signed numbers of a repeated field, packed or not."""
    if field.kind == VARINT:
        yield signed(field.integer)
    elif field.kind == BYTES:
        at = 0
        while at < len(field.data):
            value, at = varint(field.data, at)
            yield signed(value)
    else:
        raise WireError("a whole number has another wire type")


def text(field: Field) -> str:
    """A field's text."""
    if field.kind != BYTES:
        raise WireError("a text has another wire type")
    return bytes(field.data).decode()  # UnicodeDecodeError is a ValueError


def message(field: Field) -> memoryview:
    """A field's message."""
    if field.kind != BYTES:
        raise WireError("a message has another wire type")
    return field.data
