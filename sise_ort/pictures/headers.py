"""What a picture file says about itself before it is decoded: its format, size, orientation and further pictures.

Sizes are read here, so that a small file that declares terabytes is refused before anything is allocated; so is the
orientation, which decoders apply to some kinds of pictures only.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sise_ort.errors import FrameError
from sise_ort.pictures.jpeg import check_jpeg
from sise_ort.pictures.size import MAX_PIXELS

FORMATS = "PNG, JPEG, BMP, TIFF, WebP, GIF, PNM, JPEG 2000, AVIF"
"""Formats that are read."""
MOST_CHANNELS = 4
"""Channels that a file may declare: each takes memory, even where it is thrown away."""


@dataclass(frozen=True)
class Header:
    """What a picture file says about itself.

    Attributes
    ----------
    format : str
        Name of the format, such as ``"PNG"``.
    width, height : int
        Size in pixels as stored, before it is turned.
    orientation : int
        EXIF orientation 1 to 8 that is still to be applied; 1 for TIFF, whose decoder applies it.
    further : str
        What else the file holds, such as ``"an animation"``; empty where it holds one picture.
    highest : int
        The pixel value of white where the file declares it (PNM), 0 where it does not.
    premultiplied : bool
        Colours are decoded multiplied by their opacity already (TIFF).
    clear : int
        The gray value, as decoded, that is transparent (PNG); -1 where there is none.
    coded_end : int
        Where the coded data ends (JPEG); 0 for other formats.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    further: str = ""
    highest: int = 0
    premultiplied: bool = False
    clear: int = -1
    coded_end: int = 0


def read_header(data: bytes, name: str) -> Header:
    """Read a picture file's header, and check that the file is whole as far as its format tells.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        What the picture is called in errors.

    Returns
    -------
    Header

    Raises
    ------
    FrameError
        The file is no picture of `FORMATS`, is cut off, or its checksums are wrong.
    """
    for begins, read in _READERS:
        if re.match(begins, data, re.DOTALL):
            try:
                return read(data, name)
            except KeyError as error:
                raise FrameError(f"{name} is damaged: its header lacks tag {error}") from error
            except (IndexError, struct.error, ValueError) as error:
                if isinstance(error, FrameError):
                    raise
                raise FrameError(f"{name} is truncated: its end is missing") from error
    if data.startswith(b"version https://git-lfs"):
        raise FrameError(f"{name} is a Git LFS pointer, not the picture: fetch it with `git lfs pull`")
    raise FrameError(f"{name} is not a picture that can be read ({FORMATS})")


def _cut(name: str) -> FrameError:
    return FrameError(f"{name} is truncated: its end is missing")


def _numbers(form: str, data: bytes, place: int) -> tuple[int, ...]:
    return struct.unpack_from(form, data, place)


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block (a small TIFF file); 1 where it says nothing sensible."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        return next((v for tag, v in _tags(exif)[0] if tag == 274 and 1 <= v <= 8), 1)
    except (IndexError, struct.error, ValueError):
        return 1


# PNG ------------------------------------------------------------------------------------------------


def _png(data: bytes, name: str) -> Header:
    width, height = _numbers(">II", data, 16)
    bits, color = data[24], data[25]
    orientation, further, clear, place, kind = 1, "", -1, 8, b""
    while kind != b"IEND":  # whatever stands behind it is not part of the picture
        (length,) = _numbers(">I", data, place)
        kind = data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            raise _cut(name)
        if kind[:1].isupper():  # a chunk that decoding needs
            (checksum,) = _numbers(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != checksum:
                raise FrameError(
                    f"{name} is damaged: the checksum of a part ({kind.decode('latin-1')}) is wrong"
                )
        elif kind == b"eXIf":
            orientation = _orientation(data[place + 8 : end - 4])
        elif kind == b"tRNS" and color == 0:
            (value,) = _numbers(">H", data, place + 8)
            clear = value * 255 // (2**bits - 1) if bits < 8 else value
        elif kind == b"acTL" and _numbers(">I", data, place + 8)[0] > 1:
            further = "an animation"
        place = end
    return Header("PNG", width, height, orientation, further, clear=clear)


# JPEG -----------------------------------------------------------------------------------------------


def _jpeg(data: bytes, name: str) -> Header:
    found = check_jpeg(data, name)
    return Header("JPEG", found.width, found.height, _orientation(found.exif), coded_end=found.scan_end)


# BMP ------------------------------------------------------------------------------------------------


def _bmp(data: bytes, name: str) -> Header:
    offset, length = _numbers("<II", data, 10)
    if length == 12:  # OS/2
        width, height, _, bits = _numbers("<HHHH", data, 18)
        packed = 0
    else:
        width, height, _, bits, packed = _numbers("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    whole = offset + (width * bits + 31) // 32 * 4 * height
    if packed in (0, 3) and whole > len(data) + 4 and width * height <= MAX_PIXELS:
        raise _cut(name)
    return Header("BMP", width, height)


# GIF ------------------------------------------------------------------------------------------------


def _gif(data: bytes, name: str) -> Header:
    width, height, flags = _numbers("<HHB", data, 6)
    place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    pictures = 0
    while data[place] != 0x3B and pictures < 2:
        if data[place] == 0x2C:
            pictures += 1
            local = data[place + 9]
            place += 11 + (3 << ((local & 7) + 1) if local & 0x80 else 0)
        elif data[place] == 0x21:
            place += 2
        else:
            raise FrameError(f"{name} is damaged: byte {place} is no part of a GIF")
        while data[place]:
            place += 1 + data[place]
        place += 1
    return Header("GIF", width, height, further="an animation" if pictures > 1 else "")


# TIFF -----------------------------------------------------------------------------------------------


def _tags(data: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Tags of a TIFF's first picture with their first values, and whether there is a second one."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no TIFF")
    large = _numbers(f"{order}H", data, 2)[0] == 43
    pointer, count_form, entry, inside = ("Q", "Q", 20, 12) if large else ("I", "H", 12, 8)
    (place,) = _numbers(order + pointer, data, 8 if large else 4)
    (count,) = _numbers(order + count_form, data, place)
    place += struct.calcsize(f"={count_form}")
    found = []
    for number in range(min(count, 4096)):
        tag, kind = _numbers(f"{order}HH", data, place + number * entry)
        form = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if form is not None:
            (values,) = _numbers(order + pointer, data, place + number * entry + 4)
            where = place + number * entry + inside
            if values * struct.calcsize(f"={form}") > entry - inside:
                (where,) = _numbers(order + pointer, data, where)
            found.append((tag, _numbers(order + form, data, where)[0]))
    return found, _numbers(order + pointer, data, place + count * entry)[0] != 0


def _tiff(data: bytes, name: str) -> Header:
    found, more = _tags(data)
    tags = dict(found)
    for side in (322, 323):  # tiles are decoded whole, whatever the picture's size
        if tags.get(side, 0) > 1 << 16:
            raise FrameError(f"{name} has tiles of {tags[side]} pixels; scale it down first")
    if tags.get(277, 1) > MOST_CHANNELS:
        raise FrameError(f"{name} has {tags[277]} channels; 1 to {MOST_CHANNELS} can be read")
    if tags.get(258, 1) > 8 and tags.get(262, 1) not in (1, 2):  # decoded as if they were gray or RGB
        kind = {0: "white as 0", 3: "a palette", 5: "CMYK"}.get(tags[262], f"colours of kind {tags[262]}")
        raise FrameError(
            f"{name} is a TIFF file of {tags[258]} bits with {kind}, which cannot be read: save it as gray or RGB"
        )
    if 338 in tags and tags.get(277) == 2:
        raise FrameError(f"{name} is gray with transparency, which is not read from TIFF: save it as PNG")
    alpha = 338 in tags
    return Header(
        "TIFF", tags[256], tags[257], further="several pages" if more else "", premultiplied=alpha
    )  # fmt: skip


# WebP -----------------------------------------------------------------------------------------------


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Chunks of a RIFF file: kind, place of the content, its length."""
    place = 12
    while place + 8 <= end:
        (length,) = _numbers("<I", data, place + 4)
        yield data[place : place + 4], place + 8, length
        place += 8 + length + length % 2


def _webp(data: bytes, name: str) -> Header:
    end = _numbers("<I", data, 4)[0] + 8
    if end > len(data):
        raise _cut(name)
    size: tuple[int, int] | None = None
    orientation, further = 1, ""
    for kind, place, length in _chunks(data, end):
        if kind == b"VP8X":
            further = "an animation" if data[place] & 2 else ""
            size = (
                1 + int.from_bytes(data[place + 4 : place + 7], "little"),
                1 + int.from_bytes(data[place + 7 : place + 10], "little"),
            )
        elif kind == b"VP8L" and size is None:
            bits = int.from_bytes(data[place + 1 : place + 5], "little")
            size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind == b"VP8 " and size is None:
            width, height = _numbers("<HH", data, place + 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"EXIF":
            orientation = _orientation(data[place : place + length])
    if size is None:
        raise FrameError(f"{name} is damaged: there is no picture in its WebP file")
    return Header("WebP", *size, orientation, further)


# PNM, JPEG 2000, AVIF -------------------------------------------------------------------------------

_WORD = re.compile(rb"(?:\s|#[^\n]*\n)*(\d+)")


def _pnm(data: bytes, name: str) -> Header:
    numbers, place = [], 2
    for _ in range(2 if data[1:2] in b"14" else 3):
        word = _WORD.match(data[: place + 4096], place)
        if word is None or len(word[1]) > 9:
            raise FrameError(f"{name} is damaged: its PNM header is not whole")
        numbers.append(int(word[1]))
        place = word.end()
    highest = numbers[2] if len(numbers) == 3 else 255
    if not 1 <= highest <= 65535:
        raise FrameError(f"{name} is damaged: its highest pixel value is {highest}")
    return Header("PNM", numbers[0], numbers[1], highest=0 if highest == 255 else highest)


def _jpeg_2000(data: bytes, name: str) -> Header:
    place = data.find(b"\xff\x4f\xff\x51")
    if place < 0:
        raise _cut(name)
    right, bottom, left, top = _numbers(">IIII", data, place + 8)
    (channels,) = _numbers(">H", data, place + 40)
    if channels > MOST_CHANNELS:
        raise FrameError(f"{name} has {channels} channels; 1 to {MOST_CHANNELS} can be read")
    return Header("JPEG 2000", right - left, bottom - top)


def _avif(data: bytes, name: str) -> Header:
    head = data[:65536]
    sizes = [_numbers(">II", head, m.end() + 4) for m in re.finditer(b"ispe", head)]
    if not sizes:
        raise _cut(name)
    if b"irot" in head or b"imir" in head:
        raise FrameError(f"{name} is an AVIF picture that is stored turned: save it as PNG")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header("AVIF", width, height, further="an animation" if head[8:12] == b"avis" else "")


_READERS: tuple[tuple[bytes, Callable[[bytes, str], Header]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"GIF8[79]a", _gif),
    (rb"II[*+]\0|MM\0[*+]", _tiff),
    (rb"RIFF....WEBP", _webp),
    (rb"BM", _bmp),
    (rb"P[1-6]\s", _pnm),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _jpeg_2000),
    (rb"....ftypavi[fs]", _avif),
)
