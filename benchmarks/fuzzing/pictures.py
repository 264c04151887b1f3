"""Picture files: every format with bytes changed or cut off, bombs, absurd headers, and what is no file."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fuzzing.cases import Place, case, judge_result
from fuzzing.manifests import mutated
from fuzzing.samples import frame

AREA = "pictures"
FORMATS = (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".hdr", ".pbm", ".sr")


def explain(place: Place, path: Any) -> None:
    """Explain it and save the result; the picture stays as it is."""
    place.freeze()
    result = place.explainer(place.rng.choice(("tiny", "sigmoid"))).explain(path)
    judge_result(result)
    result.save(place.out, "result")


def encoded(place: Place, ending: str, array: Any) -> bytes:
    try:
        good, data = cv2.imencode(ending, array)
    except cv2.error:
        good = False
    return data.tobytes() if good else cv2.imencode(".png", frame(place.numbers))[1].tobytes()


@case(AREA, 6)
def bytes_changed(place: Place) -> None:
    ending = place.rng.choice(FORMATS)
    path = place.inputs / f"picture{ending}"
    path.write_bytes(mutated(place, encoded(place, ending, frame(place.numbers))))
    explain(place, path)


@case(AREA, 2)
def cut_off(place: Place) -> None:
    ending = place.rng.choice(FORMATS)
    data = encoded(place, ending, frame(place.numbers))
    path = place.inputs / f"picture{ending}"
    keep = place.rng.randrange(len(data))
    path.write_bytes(data[:keep] + (b"\xff\xd9" if place.rng.random() < 0.3 else b""))
    explain(place, path)


@case(AREA, 2)
def kinds(place: Place) -> None:
    """Gray, transparent, 16 bits, floats, palettes, several pages, turned by EXIF, by Pillow where it is installed."""
    rng, numbers = place.rng, place.numbers
    path = place.inputs / f"picture{rng.choice(FORMATS)}"
    colour = frame(numbers)
    array = rng.choice(
        (
            colour[..., 0],
            np.dstack([colour, colour[..., :1]]),
            colour.astype(np.uint16) * 16,
            colour.astype(np.float32) / 255,
            colour,
        )
    )
    path.write_bytes(encoded(place, path.suffix, array))
    try:
        from PIL import Image
    except ImportError:
        return explain(place, path)
    picture, target = Image.fromarray(colour), io.BytesIO()
    kind = rng.choice(("GIF", "PNG", "TIFF", "WEBP", "ICO", "MPO", "JPEG2000", "PDF", "JPEG"))
    mode = rng.choice(("P", "1", "L", "LA", "RGBA", "CMYK", "I;16", "F", "YCbCr", "LAB", "PA", "RGB"))
    exif = Image.Exif()
    exif[0x0112] = rng.choice((1, 3, 6, 8, 9))
    try:
        more = {"save_all": True, "append_images": [picture] * rng.randrange(3)} if rng.random() < 0.4 else {}
        picture.convert(mode).save(target, kind, exif=exif, **more)
        path.write_bytes(target.getvalue())
    except (ValueError, OSError, KeyError, TypeError, RuntimeError):
        pass  # that format has no such pictures
    return explain(place, path)


def png(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def headers(place: Place, width: int, height: int) -> dict[str, bytes]:
    """Files of a few bytes that say they are large."""
    entry = struct.pack
    tiff = b"II*\0\x08\0\0\0" + entry("<H", 8)
    for tag, kind, count, value in (
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
        (278, 4, 1, height),
    ):  # fmt: skip
        tiff += entry("<HHII", tag, kind, count, value % 2**32)
    bmp = b"BM" + entry(
        "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width % 2**31, height % 2**31, 1, 24, 0, 0, 0, 0, 0, 0
    )
    jpeg = cv2.imencode(".jpg", frame(place.numbers, 16, 16))[1].tobytes()
    at = jpeg.index(b"\xff\xc0")
    jpeg = jpeg[: at + 5] + entry(">HH", height % 65536, width % 65536) + jpeg[at + 9 :]
    return {
        "png": png(width % 2**31, height % 2**31, zlib.compress(b"\0" * 1000)),
        "tiff": tiff + b"\0" * 4,
        "bmp": bmp + b"\0" * 100,
        "jpg": jpeg,
        "ppm": b"P6 %d %d 255\n" % (width, height) + b"\0" * 100,
        "pgm": b"P5 %d %d 65535\n" % (width, height) + b"\0" * 100,
        "gif": b"GIF89a" + entry("<HH", width % 65536, height % 65536) + b"\xf0\0\0" + b"\0" * 6 + b",\0\0\0\0"
        + entry("<HH", width % 65536, height % 65536) + b"\0\x02\x02\x44\x01\0;",
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + b"\0" * 100,
    }  # fmt: skip


@case(AREA, 2, alone=True)
def absurd_header(place: Place) -> None:
    sizes = (0, 1, 5000, 20_000, 32_000, 65_535, 2**20, 2**31 - 1, 2**32, 2**40)
    found = headers(place, place.rng.choice(sizes), place.rng.choice(sizes))
    ending = place.rng.choice(sorted(found))
    path = place.inputs / f"picture.{ending}"
    path.write_bytes(found[ending])
    explain(place, path)


@case(AREA, 1, alone=True)
def bomb(place: Place) -> None:
    """Complete pictures that are small on disk and large in memory."""
    size = place.rng.choice((6_000, 6_000, 30_000))
    length = size * (1 + 3 * size)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(b"\0" * (1 << 20)) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # stands for itself, so it can be repeated
    rest = zlib.compressobj(9, wbits=-15)
    end = rest.compress(b"\0" * (length % (1 << 20))) + rest.flush()
    checksum = struct.pack(">I", (length % 65521) << 16 | 1)  # Adler-32 of zeros
    pixels = b"\x78\xda" + block * (length >> 20) + end + checksum
    path = place.inputs / "picture.png"
    path.write_bytes(png(size, size, pixels))
    explain(place, path)


@case(AREA, 1)
def strange_file(place: Place) -> None:
    path: Any = place.inputs / f"picture{place.rng.choice(FORMATS)}"
    kind = place.rng.choice(
        (
            "nothing",
            "folder",
            "fifo",
            "loop",
            "null",
            "zero",
            "sparse",
            "empty",
            "long",
            "nul",
            "text",
            "pointer",
            "svg",
        )
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind in ("null", "zero"):
        path.symlink_to(f"/dev/{kind}")
    elif kind == "sparse":
        with path.open("wb") as file:
            file.write(cv2.imencode(".png", frame(place.numbers))[1].tobytes())
            file.truncate(20 << 30)
    elif kind == "empty":
        path.touch()
    elif kind == "long":
        path = str(path) + "x" * 10_000
    elif kind == "nul":
        path = "a\0b.png"
    elif kind == "text":
        path.write_text("hello")
    elif kind == "svg":
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>')
    elif kind == "pointer":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n")
    explain(place, path)


@case(AREA, 1)
def appended(place: Place) -> None:
    """Whole pictures with something behind their end, as phones write them, are explained."""
    ending = place.rng.choice((".png", ".jpg", ".webp"))
    path = place.inputs / f"picture{ending}"
    tail = place.rng.choice((b"\0" * 9000, b"ftypmp42" * 2000, place.rng.randbytes(5000), b"\n"))
    path.write_bytes(encoded(place, ending, frame(place.numbers)) + tail)
    explain(place, path)


def copy(place: Place, name: str) -> Path:
    path = place.inputs / name
    path.write_bytes((place.samples / "pictures" / "strip.png").read_bytes())
    return path
