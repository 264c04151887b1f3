"""Frames on their way in: files, bytes, open files, PIL pictures and arrays become one checked array."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError, option
from sise_ort.fitting import Placement, fit_frame, place_back, resize, to_channels
from sise_ort.levels import Levels, Range, check_levels
from sise_ort.pictures import MAX_PIXELS, check_size, decode, read_bytes, read_stream

__all__ = [
    "MAX_PIXELS", "Frame", "Placement", "fit_frame", "place_back", "read", "read_frame", "resize", "to_channels",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame as it was read, and what was done in reading it.

    Attributes
    ----------
    pixels : array [H, W, 1 or 3], uint8 or float32 in 0 to 255
        RGB or gray, upright; it shares no memory with what it was read from.
    source : str
        The file's path; empty for what is no file.
    notes : tuple of str
        What was taken, put on a background or mapped.
    levels : (float, float) or None
        Values that were mapped to 0 and 255, where they were others.
    """

    pixels: NDArray[Any]
    source: str = ""
    notes: tuple[str, ...] = ()
    levels: tuple[float, float] | None = None


def read_frame(source: Any, color: str = "rgb", levels: Range | Levels = None) -> NDArray[Any]:
    """Read a frame's pixels; see `read` for what can be read.

    Parameters
    ----------
    source : path, bytes, open binary file, PIL image, or array
        As for `read`.
    color : {"rgb", "bgr", "gray"}
        As for `read`.
    levels : float or (float, float), optional
        As for `read`.

    Returns
    -------
    array [H, W, 1 or 3], uint8 or float32 in 0 to 255
        RGB or gray.

    Raises
    ------
    FrameError, ParameterError
        As `read`.
    """
    return read(source, color, levels).pixels


def read(source: Any, color: str = "rgb", levels: Range | Levels = None) -> Frame:
    """Read a frame.

    Parameters
    ----------
    source : path, bytes, open binary file, PIL image, or array [H, W], [H, W, 1] or [H, W, 3]
        A picture file in one of these forms, or pixels: uint8, or float32 with values 0 to 255; with `levels` any
        whole or floating-point numbers.
    color : {"rgb", "bgr", "gray"}
        Channel order of an array; files and PIL images know their own.
    levels : float or (float, float), optional
        The pixel value of white, such as 4095 for 12 bits (black is 0), or the values of black and white, where values
        outside are cut. The frame is then float32, ``(value - low) / (high - low) * 255``.

    Returns
    -------
    Frame

    Raises
    ------
    FrameError
        The picture is missing, unreadable, damaged, empty, too large, not finite, or of a shape, dtype or range of
        values that cannot be explained as it is.
    ParameterError
        `color` or `levels` is none of these.
    """
    if not isinstance(color, str) or color not in ("rgb", "bgr", "gray"):
        raise FrameError(f'{option("color")} is {color!r}; frames are "rgb", "bgr" or "gray"')
    wanted = check_levels(levels)
    try:
        return _read(source, color, wanted)
    except MemoryError as error:
        raise FrameError("there is not enough memory to read the frame; scale it down first") from error


def _read(source: Any, color: str, wanted: Levels | None) -> Frame:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _from_file(read_bytes(path), f"picture '{path}'", str(path), wanted)
    if isinstance(source, (bytes, bytearray)) or (isinstance(source, memoryview) and source.ndim == 1):
        return _from_file(read_stream(BytesIO(bytes(source)), "the picture"), "the picture", "", wanted)
    if hasattr(source, "read") and not hasattr(source, "__array__"):
        return _from_file(read_stream(source, "the open file"), "the open file", "", wanted)
    if _is_pil(source):
        pixels, notes = _from_pil(source)
        return _finished(pixels, "the picture", "", wanted, notes)
    pixels = _from_array(source)
    if color == "bgr" and pixels.shape[2] == 3:
        pixels = pixels[:, :, ::-1]
    return _finished(pixels, "the frame", "", wanted, ())


def _from_file(data: bytes, name: str, source: str, levels: Levels | None) -> Frame:
    found = decode(data, name)
    if levels is None and found.highest:  # the file itself declares its range
        levels = Levels(0.0, float(found.highest))
    return _finished(found.pixels, name, source, levels, found.notes, owned=True)


def _from_array(source: Any) -> NDArray[Any]:
    """An array [H, W, 1 or 3] of whole or floating-point numbers."""
    try:
        pixels = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors on a GPU
        raise FrameError(f"a {type(source).__name__} cannot be read as a frame: {error}") from error
    if pixels.dtype.kind not in "iuf":
        what = f"dtype {pixels.dtype}" if isinstance(source, np.ndarray) else f"type {type(source).__name__}"
        raise FrameError(
            f"the frame has {what}; a path, bytes, an open file, or an array of uint8 or float32 is needed"
        )
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        hint = "; drop the alpha channel" if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else ""
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
            hint = "; transpose [C, H, W] to [H, W, C]"
        raise FrameError(f"the frame has shape {list(pixels.shape)}; [H, W, 3] or [H, W] is needed{hint}")
    return pixels


# PIL's pictures: PIL is never imported, its objects say everything themselves -----------------------


def _is_pil(source: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(source).__mro__)


def _from_pil(image: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Pixels of a PIL image, as its file would be read: upright, without palette and transparency."""
    from sise_ort.pictures.decoding import on_white, upright

    notes: list[str] = []
    check_size((image.size[1], image.size[0]), "the picture")
    try:
        image.load()  # before its orientation is asked for: Pillow turns TIFF files itself in loading
        orientation = image.getexif().get(274, 1)
        if getattr(image, "n_frames", 1) > 1:
            notes.append(f"picture {image.tell() + 1} of {image.n_frames} in the file is explained")
        clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
            image.mode in ("1", "L", "P", "RGB")
            and "transparency" in image.info  # others would be cut to 8 bits
        )
        if clear:
            image = image.convert("RGBA")
        elif image.mode in ("1", "P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise FrameError(f"the picture cannot be decoded: {error}") from error
    if clear:
        pixels, note = on_white(pixels)
        notes += [note] if note else []
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return upright(_from_array(pixels), orientation), tuple(notes)


# What all have in common ----------------------------------------------------------------------------


def _finished(
    pixels: NDArray[Any],
    name: str,
    source: str,
    levels: Levels | None,
    notes: tuple[str, ...],
    owned: bool = False,
) -> Frame:
    """Check size and values, map them where levels say so, and copy what belongs to the caller."""
    check_size(pixels.shape[:2], name)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise FrameError(f"{name} has {int((~np.isfinite(pixels)).sum())} values that are NaN or infinite")
    if levels is not None and not (pixels.dtype == np.uint8 and (levels.low, levels.high) == (0, 255)):
        mapped, note = levels.apply(pixels, name)
        return Frame(mapped, source, (*notes, note), (levels.low, levels.high))
    if pixels.dtype.kind == "f":
        _check_range(pixels, name)
        return Frame(np.array(pixels, np.float32, order="C"), source, notes)
    if pixels.dtype != np.uint8:
        bits = "12 bits have 4095, 16 bits 65535"
        raise FrameError(
            f"{name} has {pixels.dtype} pixels from {pixels.min()} to {pixels.max()}; uint8, or the value of white "
            f"is needed: {option('levels', 4095)} ({bits})"
        )
    return Frame(pixels if owned else np.array(pixels, order="C"), source, notes)


def _check_range(pixels: NDArray[Any], name: str) -> None:
    """Refuse floating-point pixels that are not in 0 to 255; up to 1 they are taken for 0 to 1, unless all are 0."""
    least, most = float(pixels.min()), float(pixels.max())
    if least < 0 or most > 255:
        raise FrameError(
            f"{name} has values from {least:g} to {most:g}; 0 to 255 is needed. Say which values are black and white, "
            f"such as {option('levels', _likely_range(least, most))}"
        )
    if 0 < most <= 1:
        raise FrameError(
            f"{name} has values from {least:g} to {most:g}; 0 to 255 is needed. If they are 0 to 1, pass "
            f"{option('levels', 1)}; if the picture is as dark as that, {option('levels', 255)}"
        )


def _likely_range(least: float, most: float) -> int | list[int]:
    """An example of levels that floating-point pixels fit into."""
    if least >= 0:
        return next((white for white in (4095, 65535) if most <= white), math.ceil(most))
    if least >= -1 and most <= 1:
        return [-1, 1]
    return [math.floor(least), math.ceil(most)]
