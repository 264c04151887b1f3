"""Damaged pictures are reported, and healthy ones that look odd are read."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from encoded_pictures import COLOR, NEW_OPENCV, encoded, pil
from PIL import Image

from sise_ort.errors import FrameError
from sise_ort.frame import read_frame


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
