"""Ranges of values in pictures and arrays: 8 and 16 bits, floats, and levels that are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoded_pictures import COLOR, encoded

from sise_ort.errors import FrameError, ParameterError, on_command_line
from sise_ort.frame import read, read_frame


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
