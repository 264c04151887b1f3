"""Frames in: every form of a picture, and everything that is none."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from io import BytesIO, RawIOBase, StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from sise_ort.errors import FrameError, ParameterError, on_command_line
from sise_ort.frame import MAX_PIXELS, read, read_frame

NEW_OPENCV = pytest.mark.skipif(
    not hasattr(cv2, "IMWRITE_GIF_LOOP"), reason="older OpenCV reads no GIF, no animation"
)
GIF = pytest.param("GIF", marks=NEW_OPENCV)
COLOR = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(picture: Any, ending: str = ".png") -> bytes:
    done, data = cv2.imencode(ending, picture)
    assert done
    return data.tobytes()


def pil(image: Image.Image, form: str, **options: Any) -> bytes:
    data = BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


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


# Ranges of values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            COLOR / 255,
            r"values from 0 to 1; 0 to 255 is needed. If they are 0 to 1, pass levels=1; .*levels=255$",
        ),
        (COLOR.astype(np.float32) / 256, "values from 0 to 0.996"),
        (COLOR.astype(np.float32) - 1, r"values from -1 to 254; .*levels=\[-1, 254\]"),
        (COLOR.astype(np.float32) * 2, "values from 0 to 510"),
        (COLOR.astype(np.uint16) * 16, r"uint16 pixels from 0 to 4080; .*levels=4095 \(12 bits"),
        (COLOR.astype(np.int64), "int64 pixels from 0 to 255"),
        (COLOR > 3, "dtype bool"),
    ],
)
def test_ranges_that_are_not_0_to_255(array: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words) as caught:
        read_frame(array)
    assert "--levels" in on_command_line(caught.value) or "bool" in words


@pytest.mark.parametrize("values", [0.0, 1.5, 255.0])
def test_floats_that_are_fine(values: float) -> None:
    frame = np.full((4, 5, 3), values)
    found = read_frame(frame)
    assert found.dtype == np.float32 and (found == values).all()


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32, np.float64])
def test_a_declared_range(kind: Any) -> None:
    values = (np.arange(600).reshape(20, 30) * 6).astype(kind)
    found = read(values, levels=4095)
    np.testing.assert_allclose(
        found.pixels[:, :, 0], np.arange(600).reshape(20, 30) * 6 / 4095 * 255, rtol=1e-6
    )
    assert found.levels == (0, 4095) and found.pixels.dtype == np.float32
    assert found.notes == ("pixel values 0 to 4095 were taken as 0 to 255",)
    with pytest.raises(FrameError, match="values from 0 to 3594, outside 0 to 3000"):
        read(values, levels=3000)
    window = read(values, levels=(600, 3000))
    assert window.pixels.min() == 0 and window.pixels.max() == 255
    below, above = np.mean(values < 600), np.mean(values > 3000)
    assert window.notes[0] == f"pixel values 600 to 3000 were taken as 0 to 255; {100 * (below + above):.2g} % of the values lay outside and were cut"  # fmt: skip


@pytest.mark.parametrize("ending", [".png", ".tiff", ".pgm"])
def test_files_of_16_bits(ending: str, tmp_path: Path) -> None:
    values = (np.arange(600).reshape(20, 30) * 6).astype(np.uint16)
    path = tmp_path / f"deep{ending}"
    path.write_bytes(encoded(values, ending))
    expected = values[:, :, None] / 65535 * 255
    np.testing.assert_allclose(read_frame(path, levels=65535), expected, rtol=1e-5)
    if ending == ".pgm":  # it says that white is 65535
        np.testing.assert_allclose(read_frame(path), expected, rtol=1e-5)
        return
    with pytest.raises(FrameError, match=r"has uint16 pixels from 0 to 3594; .* levels=4095"):
        read_frame(path)


def test_color_files_of_16_bits_are_rgb() -> None:
    deep = COLOR.astype(np.uint16) * 257
    np.testing.assert_allclose(read_frame(encoded(deep[:, :, ::-1]), levels=65535), COLOR, atol=1e-4)


@pytest.mark.parametrize("highest", [1, 15, 255, 4095, 65535])
@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_pnm_files_declare_their_white(highest: int, kind: bytes, rng: np.random.Generator) -> None:
    values = rng.integers(0, highest + 1, (4, 6, 3 if kind == b"P6" else 1))
    values[0, 0] = highest
    pixels = values.astype(">u2" if highest > 255 else np.uint8).tobytes()
    found = read(kind + b" # by hand\n6 4\n%d\n" % highest + pixels)
    np.testing.assert_allclose(found.pixels, values / highest * 255, rtol=1e-6)
    assert found.levels == (None if highest == 255 else (0, highest))
    with pytest.raises(FrameError, match=r"truncated|damaged"):
        read(kind + b"\n6 4\n%d\n" % highest + pixels[:-3])


def test_levels_of_8_bits() -> None:
    assert read_frame(COLOR, levels=255).dtype == np.uint8
    with pytest.raises(FrameError, match=r"uint8 pixels, which cannot reach 4095: levels=4095.0 is not"):
        read_frame(COLOR, levels=4095)
    np.testing.assert_allclose(read_frame(COLOR, levels=(0, 4095)), COLOR / 4095 * 255, rtol=1e-5)


@pytest.mark.parametrize("levels", ["4095", True, (1,), (1, 2, 3), (2, 1), (1, 1), 0, -5, float("inf"), float("nan"), [None, 3], {}])  # fmt: skip
def test_levels_that_are_none(levels: Any) -> None:
    with pytest.raises(ParameterError, match="levels="):
        read_frame(COLOR, levels=levels)


# What is no frame -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, I am text", "not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is truncated"),
        (b"\xff\xd8\xff\xd9", "no picture in its JPEG|truncated"),
        (b"GIF89a", "truncated"),
        (b"II*\0", "truncated"),
        (b"BM", "truncated"),
        (b"RIFF\xff\0\0\0WEBP", "truncated"),
        (b"P5 3 3 999999999 ", "highest pixel value is 999999999"),
        (b"P5 99999999999", "header is not whole"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=words):
        read_frame(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 5, 3), np.uint8), "is empty"),
        (np.zeros((4, 5, 4), np.uint8), "drop the alpha"),
        (np.zeros((3, 40, 50), np.uint8), "transpose"),
        (np.full((4, 5, 3), np.nan, np.float32), "60 values that are NaN"),
        (np.array([[[np.inf, 0, 0]]]), "NaN or infinite"),
        (np.broadcast_to(np.uint8(0), (1 << 15, (1 << 13) + 1)), f"more than {MAX_PIXELS}"),
        (np.zeros((4, 5, 3), complex), "dtype complex128"),
        (None, "type NoneType"),
        ([[1, 2], [3]], "cannot be read as a frame"),
        (object(), "type object"),
        (StringIO("text"), 'opened as text: open it with mode "rb"'),
        (BytesIO(b""), "is empty"),
    ],
)
def test_what_is_no_frame(array: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        read_frame(array)


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("sise_ort.frame._finished", refuse)
    with pytest.raises(FrameError, match="not enough memory"):
        read_frame(COLOR)


def test_levels_of_any_size() -> None:
    huge = np.array([[-1e308, 0, 1e308]])
    assert read_frame(huge, levels=(-1, 1)).ravel().tolist() == [0, 127.5, 255]
    with pytest.raises(ParameterError, match="levels="):
        read_frame(huge, levels=(-1e308, 1e308))


def test_a_color_that_does_not_exist() -> None:
    with pytest.raises(FrameError, match="color= is 'xyz'"):
        read_frame(COLOR, "xyz")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(20 << 30)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "it is a folder"),
        (fifo, "it is a named pipe"),
        (listening, "cannot be read"),
        (sparse, "21474836480 bytes, more than 1073741824"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    ],
)
def test_paths_that_are_no_files(make: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    make(path)
    with pytest.raises(FrameError, match=words):
        read_frame(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(COLOR))
    path.chmod(0)
    with pytest.raises(FrameError, match="Permission denied"):
        read_frame(path)


@pytest.mark.parametrize("name", ["a\0b.png", "a\ud800.png", "a\udc80.png", "n" * 5000, "\x1b[31m.png"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(FrameError, match="cannot be read") as caught:
        read_frame(name)
    assert len(str(caught.value)) <= 500
    str(caught.value).encode()


# Sizes that are refused before anything is allocated ------------------------------------------------


def bombs() -> dict[str, bytes]:
    wide = (60_000).to_bytes
    png = bytearray(encoded(COLOR[:, :, 0]))
    png[16:24] = wide(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    jpeg = bytearray(encoded(COLOR, ".jpg"))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = wide(2, "big") * 2
    gif = bytearray(pil(Image.fromarray(COLOR), "GIF"))
    gif[6:10] = wide(2, "little") * 2
    bmp = bytearray(encoded(COLOR, ".bmp"))
    bmp[18:26] = wide(4, "little") * 2
    webp = bytearray(pil(Image.fromarray(COLOR).convert("RGBA"), "WEBP", exif=b"Exif\0\0II"))
    webp[24:30] = (59_999).to_bytes(3, "little") * 2
    tiff = bytearray(pil(Image.new("1", (300, 300)), "TIFF", compression="group4"))
    for tag in (256, 257):  # LONG values
        place = tiff.index(tag.to_bytes(2, "little"), 8)
        tiff[place : place + 12] = tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + wide(4, "little")
    jp2 = bytearray(pil(Image.fromarray(COLOR), "JPEG2000"))
    place = jp2.index(b"\xff\x4f\xff\x51")
    jp2[place + 8 : place + 16] = wide(4, "big") * 2
    avif = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1\0\0\0\x14ispe\0\0\0\0" + wide(4, "big") * 2
    return {
        "png": bytes(png), "jpeg": bytes(jpeg), "gif": bytes(gif), "bmp": bytes(bmp), "webp": bytes(webp),
        "tiff": bytes(tiff), "jp2": bytes(jp2), "avif": avif, "pnm": b"P5 60000 60000 255 " + bytes(99),
    }  # fmt: skip


def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    several = bombs()
    for name, data in several.items():
        (tmp_path / name).write_bytes(data)
    code = """
        import resource, sys
        from pathlib import Path
        import cv2
        from sise_ort.errors import FrameError
        from sise_ort.frame import read_frame
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for path in sorted(Path(sys.argv[1]).iterdir()):
            try:
                read_frame(path)
            except FrameError as error:
                print(path.name, "60000" in str(error) and "more than" in str(error))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )
    *lines, grown = done.stdout.splitlines()
    assert lines == [f"{name} True" for name in sorted(several)]
    assert int(grown) < 100_000  # KiB


def test_files_of_many_channels_are_refused() -> None:
    jp2 = bytearray(pil(Image.fromarray(COLOR), "JPEG2000"))
    place = jp2.index(b"\xff\x4f\xff\x51") + 40
    assert jp2[place : place + 2] == b"\0\3"
    jp2[place : place + 2] = b"\x40\0"
    tiff = bytearray(pil(Image.fromarray(COLOR), "TIFF"))
    place = tiff.index((277).to_bytes(2, "little"), 8)
    assert tiff[place + 8] == 3
    tiff[place + 8 : place + 10] = b"\0\x40"
    for data in (jp2, tiff):
        with pytest.raises(FrameError, match="has 16384 channels; 1 to 4"):
            read_frame(data)


@pytest.mark.parametrize("rows", [0, 10, 19])
def test_png_with_too_few_rows(rows: int) -> None:
    def part(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    head = part(b"IHDR", (30).to_bytes(4, "big") + (20).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0]))
    pixels = zlib.compress((b"\0" + bytes(range(30))) * rows)
    data = b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", pixels) + part(b"IEND", b"")
    with pytest.raises(FrameError, match="cannot decode"):
        read_frame(data)


# Damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending", [".png", ".jpg", ".bmp", pytest.param(".gif", marks=NEW_OPENCV), ".webp", ".tiff", ".ppm"]
)
def test_truncated_files(ending: str) -> None:
    data = pil(Image.fromarray(COLOR), "GIF") if ending == ".gif" else encoded(COLOR, ending)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(FrameError):
            read_frame(data[: int(len(data) * share)])
    if ending != ".tiff":  # its directory stands at the end
        appended = bytes(np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8)) + b"\xff\xda"
        np.testing.assert_array_equal(read_frame(data + appended), read_frame(data))


def natural(rng: np.random.Generator) -> Any:
    """A picture [128, 160, 3] with gradients, edges and some noise."""
    rows, columns = np.mgrid[0:128, 0:160]
    waves = 128 + 90 * np.sin(rows / 9)[..., None] * np.cos(columns[..., None] / np.array([7, 11, 17]))
    waves[40:80, 50:90] = (200, 60, 20)
    return np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def coded_part(data: bytes) -> tuple[int, int]:
    start = data.rindex(b"\xff\xda") + 14
    return start, data.rindex(b"\xff\xd9")


JPEGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "many restarts": {"restart_marker_blocks": 3},
    "4:4:4": {"subsampling": 0},
    "high quality": {"quality": 100},
    "low quality": {"quality": 5},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_healthy_jpegs_are_read(options: Any, mode: str, rng: np.random.Generator) -> None:
    for picture in (
        natural(rng),
        np.full((67, 131, 3), 128, np.uint8),
        np.zeros((300, 500, 3), np.uint8),
        COLOR,
    ):
        data = pil(Image.fromarray(picture).convert(mode), "JPEG", **options)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        expected = expected if mode == "L" else expected[:, :, ::-1]
        np.testing.assert_array_equal(read_frame(data), expected.reshape(*expected.shape[:2], -1))
        np.testing.assert_array_equal(read_frame(data + b"\xff\xda motion photo"), read_frame(data))


@pytest.mark.parametrize("kind", ["plain", "restarts", "progressive", "optimized"])
def test_damaged_jpegs_are_reported(kind: str, rng: np.random.Generator) -> None:
    data = pil(Image.fromarray(natural(rng)), "JPEG", **JPEGS[kind])
    start, end = coded_part(data)
    middle = (start + end) // 2
    damaged = {
        "a part is missing": data[:middle] + data[middle + (end - start) // 4 :],
        "the last part is missing": data[:middle] + data[end:],
        "zeros": data[:middle] + bytes(512) + data[middle + 512 :],
        "a marker": data[:middle] + b"\xff\xc0" + data[middle + 2 :],
        "a part is there twice": data[:middle] + data[middle - 300 : end] + data[end:],
    }
    for name, content in damaged.items():
        assert content.endswith(b"\xff\xd9")
        with pytest.raises(FrameError, match="is damaged"):
            read_frame(content)
            pytest.fail(name)


def test_frames_of_motion_jpeg_without_tables_are_read(rng: np.random.Generator) -> None:
    data = pil(Image.fromarray(natural(rng)), "JPEG")  # the standard's tables
    bare = data
    while (place := bare.find(b"\xff\xc4")) >= 0:
        bare = bare[:place] + bare[place + 2 + int.from_bytes(bare[place + 2 : place + 4], "big") :]
    assert len(bare) < len(data) - 400
    np.testing.assert_array_equal(read_frame(bare), read_frame(data))


def test_jpegs_with_spare_bytes_are_read(rng: np.random.Generator) -> None:
    data = pil(Image.fromarray(natural(rng)), "JPEG")
    _, end = coded_part(data)
    for spare in (b"\0", b"\0\x12", bytes(300)):
        np.testing.assert_array_equal(read_frame(data[:end] + spare + data[end:]), read_frame(data))


def test_png_with_a_wrong_checksum() -> None:
    data = bytearray(encoded(COLOR))
    place = data.index(b"IDAT") + 40
    data[place] ^= 1
    with pytest.raises(FrameError, match=r"damaged: the checksum of a part \(IDAT\)"):
        read_frame(bytes(data))
