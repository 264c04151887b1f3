"""Pictures out of requests: encoded files or pixels, never names of files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import FrameError, shown
from sise_ort.line.server.refusal import Refusal
from sise_ort.pictures import check_size, read_header
from sise_ort.runtime.preparing import Prepared, prepare

FORMS = '{"b64": "…"}, a picture file in base64, or nested lists of pixels [height][width][3]'

Source = bytes | NDArray[Any]
"""A picture's file, or its pixels."""


def from_base64(text: Any, field: str) -> bytes:
    """The bytes of a base64 text; a data URI's head is dropped.

    Raises
    ------
    Refusal
        It is none.
    """
    if not isinstance(text, str):
        raise Refusal(400, f"{field} is {shown(text)}; a picture file in base64 is needed", field)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(
            400,
            f"{field} is no base64: send the bytes of a picture file, encoded; file names are not read",
            field,
        ) from None


def from_json(value: Any, field: str) -> Source:
    """A picture as a JSON request holds it.

    Parameters
    ----------
    value : object
        ``{"b64": text}``, such an object as the only value of another (``{"image": {"b64": text}}``), or nested lists of numbers.
    field : str
        What the picture is called in errors.

    Raises
    ------
    Refusal
        It is none of these.
    """
    if isinstance(value, Mapping):
        inner = value
        if "b64" not in inner and len(inner) == 1:
            inner = next(iter(inner.values()))
        if isinstance(inner, Mapping) and set(inner) == {"b64"}:
            return from_base64(inner["b64"], field)
        if isinstance(inner, list):
            return from_json(inner, field)
        raise Refusal(400, f"{field} has the fields {shown(list(value))}; needed is {FORMS}", field)
    if not isinstance(value, list):
        raise Refusal(400, f"{field} is {shown(value)}; needed is {FORMS}", field)
    return _pixels(value, field)


def _pixels(value: list[Any], field: str) -> NDArray[Any]:
    try:
        pixels = np.asarray(value)
    except (ValueError, OverflowError):
        raise Refusal(400, f"{field} is no picture: its lists have different lengths", field) from None
    if pixels.dtype.kind not in "iuf" or not pixels.size:
        raise Refusal(400, f"{field} is no picture: its lists must hold numbers; needed is {FORMS}", field)
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    if int(pixels.min()) >= 0 and int(pixels.max()) <= 255:
        return pixels.astype(np.uint8)
    return pixels


def pixels_held(source: Source, most: int) -> int:
    """Bytes that a picture takes when it is decoded; pictures of too many pixels are refused by their header.

    Parameters
    ----------
    source : bytes or array
        The picture.
    most : int
        Pixels that are allowed.

    Raises
    ------
    FrameError, Refusal
        It is no picture, or too large (status 413).
    """
    if isinstance(source, bytes):
        header = read_header(source, "the picture")
        height, width, held = header.height, header.width, 3
    else:
        if source.ndim not in (2, 3):
            raise FrameError(f"the picture has shape {list(source.shape)}; [height, width, 3] is needed")
        height, width, held = source.shape[0], source.shape[1], 3 * source.itemsize
    check_size((height, width), "the picture")
    if height * width > most:
        raise Refusal(
            413, f"the picture has {height} × {width} pixels, more than {most}: scale it down first"
        )
    return height * width * held


def prepared(manifest: Manifest, source: Source, levels: Any) -> Prepared:
    """A picture as the graphs take it; it can be no path."""
    if not isinstance(source, (bytes, np.ndarray)):
        raise TypeError("a picture is bytes or an array")
    return prepare(manifest, source, "rgb", levels)
