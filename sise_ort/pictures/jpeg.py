"""Whether a JPEG file is whole: decoders fill what is missing or damaged and say nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sise_ort.errors import FrameError
from sise_ort.pictures.size import check_size

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header."""
_BETWEEN_SCANS = frozenset([0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)])
_DAMAGE = re.compile(r"Corrupt JPEG data|Premature end", re.IGNORECASE)
"""How libjpeg-turbo's warnings of damage begin; its others are about rare kinds of files."""
_SPARE = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
SPARE_BYTES = 8
"""Bytes that some cameras leave behind the coded data; more than these must be zeros."""


@dataclass
class Jpeg:
    """What the markers of a JPEG file say.

    Attributes
    ----------
    width, height : int
        Size in pixels as stored.
    exif : bytes
        The EXIF block, empty where there is none.
    scan_end : int
        Where the coded data of the last scan ends; 0 before there is any.
    """

    width: int = 0
    height: int = 0
    exif: bytes = b""
    scan_end: int = 0


def check_jpeg(data: bytes, name: str) -> Jpeg:
    """Walk the markers of a JPEG file up to its end marker; what stands behind that is ignored.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        What the picture is called in errors.

    Returns
    -------
    Jpeg

    Raises
    ------
    FrameError
        The end is missing, there is no picture, it is too large, or a marker stands inside its data.
    """
    found = Jpeg()
    place = 2
    while True:
        marker, place = _next_marker(data, place, name)
        if marker == 0xD9:
            if not found.scan_end:
                raise FrameError(f"{name} is damaged: there is no picture in its JPEG file")
            return found
        length = int.from_bytes(data[place : place + 2], "big")
        content = data[place + 2 : place + length]
        if length < 2 or place + length > len(data):
            raise FrameError(f"{name} is truncated: its end is missing")
        place += length
        if marker in _SIZES and not found.width:
            found.height = int.from_bytes(content[1:3], "big")
            found.width = int.from_bytes(content[3:5], "big")
            check_size((found.height, found.width), name)
        elif marker == 0xE1 and content.startswith(b"Exif\0\0") and not found.exif:
            found.exif = content
        elif marker == 0xDA:
            found.scan_end = place = _scan_end(data, place, name)


def require_undamaged(data: bytes, name: str) -> None:
    """Decode the coded data once more, by libjpeg-turbo, which tells where codes do not make up the picture.

    OpenCV has the same decoder and drops what it tells. Changed bytes that happen to be codes of a picture, too, cannot
    be found: JPEG has no checksum.

    Parameters
    ----------
    data : bytes
        The file up to the end of its last scan's coded data.
    name : str
        What the picture is called in errors.

    Raises
    ------
    FrameError
        Data is missing, damaged or left over.
    """
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(
            data + b"\xff\xd9", colorspace="GRAY", fastdct=True, fastupsample=True, strict=True
        )
    except ValueError as error:  # also for kinds that it does not read: OpenCV decides about these
        words = str(error)
        if _DAMAGE.search(words) and not _only_spare_bytes(words, data):
            raise FrameError(f"{name} is damaged: {_DAMAGE.sub('its data is corrupt', words)}") from error


def _only_spare_bytes(words: str, data: bytes) -> bool:
    """Whether all that is wrong are some bytes, or zeros, between the coded data and the end marker."""
    found = _SPARE.search(words)
    if found is None:
        return False
    count = int(found[1])
    return count <= SPARE_BYTES or not any(data[-count:])


def _next_marker(data: bytes, place: int, name: str) -> tuple[int, int]:
    while place + 1 < len(data) and data[place] == 0xFF and data[place + 1] == 0xFF:
        place += 1
    if place + 1 >= len(data):
        raise FrameError(f"{name} is truncated: its end is missing")
    if data[place] != 0xFF:  # decoders skip what is no marker
        found = _MARKER.search(data, place)
        if found is None:
            raise FrameError(f"{name} is truncated: its end is missing")
        return found[1][0], found.end()
    return data[place + 1], place + 2


def _scan_end(data: bytes, place: int, name: str) -> int:
    found = _MARKER.search(data, place)
    if found is None:
        raise FrameError(f"{name} is truncated: its end is missing")
    marker = found[1][0]
    if marker != 0xD9 and marker not in _BETWEEN_SCANS:
        raise FrameError(
            f"{name} is damaged: marker ff{marker:02x} stands inside its data (byte {found.start()})"
        )
    return found.start()
