"""The pixels of a picture file, by OpenCV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.pictures.headers import Header, read_header
from sise_ort.pictures.jpeg import require_undamaged
from sise_ort.pictures.size import check_size

BACKGROUND = 255
"""White, which transparent pictures are put on."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded picture file.

    Attributes
    ----------
    pixels : array [H, W, 1 or 3]
        RGB or gray, of the file's own type (uint8, uint16, int32, float32…), upright.
    notes : tuple of str
        What was taken of the file where that is not all of it.
    highest : int
        The pixel value of white where the file declares it and it is not 255; else 0.
    """

    pixels: NDArray[Any]
    notes: tuple[str, ...]
    highest: int


def decode(data: bytes, name: str) -> Decoded:
    """Decode a picture file: its first picture, upright, without transparency.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        What the picture is called in errors, such as ``"picture 'a.png'"``.

    Returns
    -------
    Decoded

    Raises
    ------
    FrameError
        It is no picture, damaged, too large, or cannot be decoded.
    """
    header = read_header(data, name)
    check_size((header.height, header.width), name)
    if header.format == "JPEG":
        require_undamaged(data[: header.coded_end], name)
    picture = _values(data, header, name) if header.highest else _by_opencv(data, header, name)
    notes = []
    if header.further:
        notes.append(f"the {header.format} file holds {header.further}: its first picture is explained")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if header.clear >= 0 and picture.shape[2] == 1 and (clear := picture == header.clear).any():
        if picture.dtype != np.uint8:
            raise FrameError(f"{name} has transparent {picture.dtype} pixels; put it on a background first")
        opacity = np.where(clear, np.uint8(0), np.uint8(255))
        picture, note = on_white(np.concatenate([np.repeat(picture, 3, axis=2), opacity], axis=2))
        picture, notes = picture[:, :, :1], [*notes, note]
    if picture.shape[2] == 4:
        if picture.dtype == np.uint8:
            picture, note = on_white(picture, header.premultiplied)
            notes += [note] if note else []
        elif (picture[:, :, 3] != (np.iinfo(picture.dtype).max if picture.dtype.kind == "u" else 1)).any():
            raise FrameError(f"{name} has transparent {picture.dtype} pixels; put it on a background first")
        else:
            picture = picture[:, :, :3]
    if picture.shape[2] == 3 and not header.highest:
        picture = _rgb(picture)
    return Decoded(np.ascontiguousarray(upright(picture, header.orientation)), tuple(notes), header.highest)


def _rgb(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture in OpenCV's order, BGR, as RGB; in place where that can be."""
    import cv2

    if (
        picture.dtype in (np.uint8, np.uint16, np.float32)
        and picture.flags.c_contiguous
        and picture.flags.writeable
    ):
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)
    return picture[:, :, ::-1]


def _by_opencv(data: bytes, header: Header, name: str) -> NDArray[Any]:
    import cv2

    def decoded(content: bytes) -> NDArray[Any] | None:
        try:
            return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        except (cv2.error, MemoryError) as error:
            words = getattr(error, "err", "") or str(error) or "out of memory"
            raise FrameError(f"{name} cannot be decoded: {words}") from error

    picture = decoded(data)
    if picture is None:
        raise FrameError(
            f"{name} is a {header.format} file that OpenCV {cv2.__version__} cannot decode: it is damaged or of a rare kind"
        )
    return picture


def _values(data: bytes, header: Header, name: str) -> NDArray[Any]:
    """The values of a binary PNM file, as they stand there; OpenCV scales some and not others."""
    if data[1:2] not in b"56":
        raise FrameError(f"{name} is a PNM file of text with values to {header.highest}: save it as PNG")
    channels = 3 if data[1:2] == b"6" else 1
    head = re.match(rb"P[56](?:(?:\s|#[^\n]*\n)+\d+){3}\s", data[:65536])
    kind = np.dtype(">u2" if header.highest > 255 else np.uint8)
    count = header.height * header.width * channels
    if head is None or len(data) < head.end() + count * kind.itemsize:
        raise FrameError(f"{name} is truncated: its end is missing")
    values = np.frombuffer(data, kind, count, head.end()).astype(kind.newbyteorder("="))
    if values.max() > header.highest:
        raise FrameError(
            f"{name} is damaged: it holds {values.max()}, beyond its highest value {header.highest}"
        )
    return values.reshape(header.height, header.width, channels)


def on_white(picture: NDArray[np.uint8], premultiplied: bool = False) -> tuple[NDArray[np.uint8], str]:
    """Put a picture on a white background.

    Parameters
    ----------
    picture : uint8 [H, W, 4]
        Three colours and the opacity.
    premultiplied : bool
        The colours are multiplied by the opacity already.

    Returns
    -------
    picture : uint8 [H, W, 3]
        Untouched where it is opaque.
    note : str
        What was done, in words; empty where all is opaque.
    """
    colors, opacity = picture[:, :, :3], picture[:, :, 3:]
    share = float((opacity != 255).mean())
    if not share:
        return colors, ""
    alpha = opacity.astype(np.float32) / 255
    shown = colors.astype(np.float32) * (1 if premultiplied else alpha) + BACKGROUND * (1 - alpha)
    words = f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8), f"transparent pixels ({words}) were put on white"


def upright(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror a picture as its EXIF orientation says (CIPA DC-008).

    Parameters
    ----------
    picture : array [H, W, C]
        As stored.
    orientation : int
        1 to 8; anything else is taken as 1.

    Returns
    -------
    array [H, W, C] or [W, H, C]
    """
    if orientation in (2, 4):
        return picture[:, ::-1] if orientation == 2 else picture[::-1]
    if orientation == 3:
        return picture[::-1, ::-1]
    if orientation in (5, 6, 7, 8):
        turned = picture.transpose(1, 0, 2)
        return {5: turned, 6: turned[:, ::-1], 7: turned[::-1, ::-1], 8: turned[::-1]}[orientation]
    return picture
