"""What is no frame: files and arrays that are refused with a reason, some before anything is allocated."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoded_pictures import COLOR, encoded, pil
from PIL import Image

from sise_ort.errors import FrameError, ParameterError
from sise_ort.frame import MAX_PIXELS, read_frame


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
