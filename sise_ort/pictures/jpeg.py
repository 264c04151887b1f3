"""Whether a JPEG file is whole: decoders fill what is missing or damaged and say nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sise_ort.errors import FrameError
from sise_ort.pictures.huffman import Block, Table, find_damage
from sise_ort.pictures.size import check_size

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header."""
_BETWEEN_SCANS = frozenset([0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)])
FOLLOWED = 1 << 19
"""Bytes of coded data that are followed code by code; in larger pictures this would take seconds."""


@dataclass
class Jpeg:
    """What the markers of a JPEG file say.

    Attributes
    ----------
    width, height : int
        Size in pixels as stored.
    exif : bytes
        The EXIF block, empty where there is none.
    baseline : bool
        Blocks are coded one after another, so that missing data leaves gray blocks at the end.
    scan_end : int
        Where the coded data of the last scan ends.
    """

    width: int = 0
    height: int = 0
    exif: bytes = b""
    baseline: bool = False
    scan_end: int = 0
    interval: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    tables: dict[int, Table] = field(default_factory=dict)


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
        The end is missing, or the coded data is damaged: a marker that cannot
        stand there, missing restart markers, or (baseline files with up to 512 KiB of data) codes that make up more or fewer blocks than the picture has.
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
            _read_sizes(found, marker, content)
            check_size((found.height, found.width), name)
        elif marker == 0xE1 and content.startswith(b"Exif\0\0") and not found.exif:
            found.exif = content
        elif marker == 0xDD:
            found.interval = int.from_bytes(content[:2], "big")
        elif marker == 0xC4:
            _read_tables(found, content)
        elif marker == 0xDA:
            end = _scan_end(data, place, name)
            _check_scan(found, data, place, end, content, name)
            found.scan_end = place = end


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


def _read_sizes(found: Jpeg, marker: int, content: bytes) -> None:
    found.height = int.from_bytes(content[1:3], "big")
    found.width = int.from_bytes(content[3:5], "big")
    found.baseline = marker in (0xC0, 0xC1)
    for number in range(content[5]):
        kind, sampling = content[6 + 3 * number], content[7 + 3 * number]
        found.sampling[kind] = (sampling >> 4, sampling & 15)


def _read_tables(found: Jpeg, content: bytes) -> None:
    place = 0
    while place + 17 <= len(content):
        counts = content[place + 1 : place + 17]
        end = place + 17 + sum(counts)
        found.tables[content[place]] = (counts, content[place + 17 : end])
        place = end


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


def _check_scan(found: Jpeg, data: bytes, start: int, end: int, header: bytes, name: str) -> None:
    """Refuse restart markers that are missing or out of order, and codes that do not make up the picture's blocks."""
    restarts = [m[1][0] - 0xD0 for m in _RESTART.finditer(data, start, end)]
    if any(number != place % 8 for place, number in enumerate(restarts)):
        raise FrameError(f"{name} is damaged: the restart markers in its data are out of order")
    if found.interval and found.height and header:
        expected = -(-_units(found, header) // found.interval) - 1
        if len(restarts) not in (expected, expected + 1):
            raise FrameError(
                f"{name} is damaged: {len(restarts)} of {expected} restart markers are in its data"
            )
    blocks = _blocks(found, header) if found.baseline and end - start <= FOLLOWED else []
    if blocks:
        words = find_damage(data[start:end], _units(found, header), found.interval, blocks)
        if words:
            raise FrameError(f"{name} is damaged: {words}")


def _blocks(found: Jpeg, header: bytes) -> list[Block]:
    """The code tables of the blocks of a scan's unit; none where a table is missing, as in frames of Motion JPEG, whose
    decoders take the standard's."""
    blocks: list[Block] = []
    try:
        for number in range(header[0]):
            kind, tables = header[1 + 2 * number], header[2 + 2 * number]
            h, v = found.sampling[kind] if header[0] > 1 else (1, 1)
            blocks += [(found.tables[tables >> 4], found.tables[0x10 | tables & 15])] * (h * v)
    except (KeyError, IndexError):
        return []
    return blocks


def _units(found: Jpeg, header: bytes) -> int:
    """How many coded units (MCU) a scan has."""
    kinds = [header[1 + 2 * i] for i in range(header[0])]
    across = max((h for h, _ in found.sampling.values()), default=1)
    down = max((v for _, v in found.sampling.values()), default=1)
    if len(kinds) == 1 and kinds[0] in found.sampling:
        h, v = found.sampling[kinds[0]]
        width, height = -(-found.width * h // across), -(-found.height * v // down)
        return -(-width // 8) * -(-height // 8)
    return -(-found.width // (8 * across)) * -(-found.height // (8 * down))
