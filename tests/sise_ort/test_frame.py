"""Frames in: every form of a picture, and everything that is none."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import zlib
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoded_pictures import COLOR, NEW_OPENCV, encoded, pil
from PIL import Image, ImageOps

from sise_ort.errors import FrameError
from sise_ort.frame import read, read_frame

GIF = pytest.param("GIF", marks=NEW_OPENCV)


# Forms ----------------------------------------------------------------------------------------------


def test_one_picture_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(COLOR[:, :, ::-1]))
    data = path.read_bytes()
    forms: list[Any] = [
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        memoryview(np.repeat(np.frombuffer(data, np.uint8), 2).tobytes())[::2],
        BytesIO(data),
        COLOR,
        COLOR.tolist(),
    ]
    for form in forms[:-1]:
        np.testing.assert_array_equal(read_frame(form), COLOR)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(read_frame(stream), COLOR)
    for image in (Image.open(path), Image.fromarray(COLOR), Image.open(path).convert("RGBA")):
        np.testing.assert_array_equal(read_frame(image), COLOR)
    np.testing.assert_array_equal(read_frame(path, "bgr"), COLOR)  # a file knows its own order
    np.testing.assert_array_equal(read_frame(COLOR[:, :, ::-1], "bgr"), COLOR)
    assert read(path).source == str(path) and read(COLOR).source == read(data).source == ""
    assert read(path).notes == read(COLOR).notes == ()


def test_gray_stays_gray() -> None:
    gray = COLOR[:, :, 0]
    for form in (encoded(gray), encoded(gray, ".bmp"), gray, gray[:, :, None], Image.fromarray(gray)):
        np.testing.assert_array_equal(read_frame(form), gray[:, :, None])


def test_a_frame_owns_its_pixels() -> None:
    for given in (COLOR.copy(), COLOR[:, :, 0].copy(), COLOR.astype(np.float32)):
        for color in ("rgb", "bgr"):
            before = read_frame(given, color)
            kept = before.copy()
            given[:] = 7
            np.testing.assert_array_equal(before, kept)
            assert before.flags.c_contiguous and not np.shares_memory(before, given)


def test_importing_needs_no_pil() -> None:
    code = "import sys, sise_ort.frame; print([m for m in ('PIL', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Palettes, orientation, transparency, several pictures ----------------------------------------------


@pytest.mark.parametrize("form", ["PNG", GIF, "BMP", "TIFF"])
@pytest.mark.parametrize("colors", [2, 4, 16, 256])
def test_palettes_are_expanded(form: str, colors: int) -> None:
    image = Image.fromarray(COLOR).quantize(colors)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_frame(pil(image, form)), expected)
    np.testing.assert_array_equal(read_frame(image), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_holds_for_every_kind(mode: str, form: str, orientation: int) -> None:
    if form == "JPEG" and mode == "RGBA":
        mode = "CMYK"
    image = Image.fromarray(COLOR).convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    data = pil(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("L" if opened.mode == "L" else "RGB"))
        again = read_frame(opened)
    found = read_frame(data)
    if expected.ndim == 2:
        expected = expected[:, :, None]
    assert found.shape == expected.shape
    # JPEG decoders differ by a few levels; a wrong turn by far more
    assert np.abs(found.astype(int) - expected).max() <= (
        40 if mode == "CMYK" else 3 if form == "JPEG" else 0
    )
    np.testing.assert_array_equal(again, expected)


def test_tiff_is_turned_once_before_it_is_loaded() -> None:
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(BytesIO(pil(Image.fromarray(COLOR), "TIFF", exif=exif))) as image:
        found = read_frame(image)
    np.testing.assert_array_equal(found, np.rot90(COLOR, -1))


def tiff(values: Any, kind: int) -> bytes:
    """A TIFF file of gray values, whose photometric interpretation is `kind`."""
    height, width = values.shape
    tags = [
        (256, width),
        (257, height),
        (258, 8 * values.itemsize),
        (259, 1),
        (262, kind),
        (273, 8),
        (277, 1),
    ]
    tags += [(278, height), (279, values.nbytes)]
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<4sI", b"II*\0", 8 + values.nbytes) + values.tobytes()
    return start + struct.pack("<H", len(tags)) + listed + struct.pack("<I", 0)


def test_tiff_with_white_as_0_is_never_read_as_its_negative() -> None:
    gray = COLOR[:, :, 0]
    np.testing.assert_array_equal(read_frame(tiff(gray, 0))[:, :, 0], 255 - gray)
    deep = gray.astype("<u2") * 257
    np.testing.assert_array_equal(read_frame(tiff(deep, 1), levels=65535)[:, :, 0], gray)
    with pytest.raises(FrameError, match="a TIFF file of 16 bits with white as 0"):
        read_frame(tiff(deep, 0), levels=65535)


def png(values: Any, bits: int, clear: int) -> bytes:
    """A gray PNG file with a transparent value."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(
        ">IIBBBBB", values.shape[1] * 8 // bits * values.itemsize, len(values), bits, 0, 0, 0, 0
    )
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", head),
            chunk(b"tRNS", struct.pack(">H", clear)),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def test_the_transparent_value_of_a_gray_png_is_put_on_white() -> None:
    gray = COLOR[:, :, 0] // 16
    found = read(png(gray, 8, 3))
    np.testing.assert_array_equal(found.pixels[:, :, 0], np.where(gray == 3, 255, gray))
    assert found.notes[0].startswith("transparent pixels (")
    assert read(png(gray, 8, 77)).notes == ()
    halves = (gray[:, ::2] << 4) | gray[:, 1::2]  # 4 bits a pixel
    np.testing.assert_array_equal(read_frame(png(halves, 4, 3))[:, :, 0], np.where(gray == 3, 255, gray * 17))


def test_pil_pictures_of_16_bits_are_not_cut_to_8() -> None:
    deep = COLOR[:, :, 0].astype(">u2") * 257
    data = png(deep, 16, 7)
    for source in (data, Image.open(BytesIO(data))):
        np.testing.assert_array_equal(read_frame(source, levels=65535)[:, :, 0], COLOR[:, :, 0])
    with pytest.raises(FrameError, match="transparent uint16 pixels"):
        read_frame(png(deep, 16, int(deep[0, 0])), levels=65535)


def test_unbuffered_pipes_are_read_to_their_end() -> None:
    data = encoded(COLOR)

    class Pipe(RawIOBase):
        rest = data

        def read(self, size: int = -1) -> bytes:
            part, self.rest = self.rest[:100], self.rest[100:]
            return part

    np.testing.assert_array_equal(read_frame(Pipe()), COLOR[:, :, ::-1])


@pytest.mark.parametrize(
    ("low", "high", "way_out"),
    [(-1, 1, "[-1, 1]"), (0, 4000, "4095"), (0, 60_000, "65535"), (-2.2, 2.7, "[-3, 3]"), (0, 7e4, "70000")],
)
def test_the_way_out_for_other_ranges_works(low: float, high: float, way_out: str) -> None:
    frame = np.linspace(low, high, 12, dtype=np.float32).reshape(3, 4)
    with pytest.raises(FrameError, match=re.escape(f"levels={way_out}") + "$"):
        read(frame)
    assert "cut" not in read(frame, levels=json.loads(way_out)).notes[0]


def test_transparent_pixels_are_put_on_white() -> None:
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:5] = np.arange(30) * 8
    image = Image.fromarray(np.dstack([COLOR, alpha]))
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(int)
    for form in (pil(image, "PNG"), pil(image, "WEBP", lossless=True, exact=True), pil(image, "TIFF"), image):
        found = read(form)
        assert found.notes == ("transparent pixels (25.0 %) were put on white",)
        assert np.abs(found.pixels - expected).max() <= 1
        np.testing.assert_array_equal(found.pixels[5:], COLOR[5:])
    gray = image.convert("LA")
    assert read_frame(pil(gray, "PNG"))[0, 0].tolist() == [255, 255, 255]
    with pytest.raises(FrameError, match="save it as PNG"):
        read_frame(pil(gray, "TIFF"))
    deep = np.dstack([COLOR, alpha]).astype(np.uint16) * 257
    with pytest.raises(FrameError, match="transparent uint16 pixels"):
        read_frame(encoded(deep), levels=65535)
    deep[:, :, 3] = 65535
    np.testing.assert_allclose(read_frame(encoded(deep), levels=65535), COLOR[:, :, ::-1], atol=1e-4)


@pytest.mark.parametrize(("form", "words"), [pytest.param("GIF", "an animation", marks=NEW_OPENCV), pytest.param("WEBP", "an animation", marks=NEW_OPENCV), ("PNG", "an animation"), ("TIFF", "several pages")])  # fmt: skip
def test_the_first_of_several_pictures_is_taken(form: str, words: str) -> None:
    first, second = Image.new("RGB", (8, 6), (250, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 250))
    options: dict[str, Any] = {"save_all": True, "append_images": [second]}
    found = read(pil(first, form, **options, **({"lossless": True} if form == "WEBP" else {})))
    assert found.notes[0].endswith(f"file holds {words}: its first picture is explained")
    np.testing.assert_array_equal(found.pixels, np.asarray(first))
    assert read(pil(first, form)).notes == ()


def test_pil_images_in_the_middle_of_a_file() -> None:
    first, second = Image.new("RGB", (8, 6), (250, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 250))
    with Image.open(BytesIO(pil(first, "TIFF", save_all=True, append_images=[second]))) as image:
        image.seek(1)
        found = read(image)
    assert found.notes == ("picture 2 of 2 in the file is explained",)
    np.testing.assert_array_equal(found.pixels, np.asarray(second))
