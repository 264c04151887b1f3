"""Pictures in, heat maps back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sise_ort.bundle import Fit, InputSpec
from sise_ort.errors import FrameError
from sise_ort.frame import MAX_PIXELS, fit_frame, place_back, read_frame, resize, to_channels

COLOR = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def written(path: Path, picture: Any) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def test_color_file_is_rgb(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", COLOR[:, :, ::-1])
    np.testing.assert_array_equal(read_frame(path), COLOR)
    np.testing.assert_array_equal(read_frame(str(path), "bgr"), COLOR)  # a file knows its own order


def test_gray_alpha_and_bgr(tmp_path: Path) -> None:
    gray = COLOR[:, :, 0]
    np.testing.assert_array_equal(read_frame(written(tmp_path / "g.png", gray)), gray[:, :, None])
    opaque = np.dstack([COLOR[:, :, ::-1], np.full((20, 30), 255, np.uint8)])
    np.testing.assert_array_equal(read_frame(written(tmp_path / "o.png", opaque)), COLOR)
    opaque[3, 4, 3] = 7
    with pytest.raises(FrameError, match="transparent"):
        read_frame(written(tmp_path / "t.png", opaque))
    np.testing.assert_array_equal(read_frame(COLOR[:, :, ::-1], "bgr"), COLOR)
    assert read_frame(gray).shape == (20, 30, 1)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", np.full((20, 30, 3), 90, np.uint8))
    data = path.read_bytes()
    tag = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: turn by 90°
    exif = b"Exif\0\0" + tag
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert read_frame(path).shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, I am text", "not a picture"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is truncated"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=words):
        read_frame(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"a.{suffix}", COLOR)
    data = path.read_bytes()
    path.write_bytes(data + b"what a camera adds behind the end")
    assert read_frame(path).shape == COLOR.shape
    for share in (0.5, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(FrameError, match="is truncated"):
            read_frame(path)


def test_missing_16_bit_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="No such file"):
        read_frame(tmp_path / "none.png")
    with pytest.raises(FrameError, match="cannot be read"):
        read_frame(tmp_path)
    with pytest.raises(FrameError, match="uint16 pixels; 8 bits"):
        read_frame(written(tmp_path / "deep.png", COLOR.astype(np.uint16) * 257))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 5, 3), np.uint8), "is empty"),
        (np.zeros((4, 5, 4), np.uint8), "drop the alpha"),
        (np.zeros((3, 40, 50), np.uint8), "transpose"),
        (np.zeros((4, 5, 3), np.uint16), "dtype uint16"),
        (np.zeros((4, 5, 3), bool), "dtype bool"),
        (np.full((4, 5, 3), np.nan, np.float32), "60 values that are NaN"),
        (np.array([[[np.inf, 0, 0]]]), "NaN or infinite"),
        (np.broadcast_to(np.uint8(0), (1 << 15, (1 << 13) + 1)), f"more than {MAX_PIXELS}"),
    ],
)
def test_arrays_that_are_no_frames(array: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        read_frame(array)


def test_channels() -> None:
    gray = COLOR[:, :, :1]
    np.testing.assert_array_equal(to_channels(gray, 3), np.dstack([gray] * 3))
    expected = cv2.cvtColor(COLOR, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(to_channels(COLOR, 1)[:, :, 0].astype(int) - expected).max() <= 1


SPEC = InputSpec(40, 60, 3)


def heat(placement: Any, spot: tuple[int, int]) -> Any:
    """A heat map with one hot spot, brought back to the frame; where it lands."""
    heatmap = np.zeros((40, 60), np.float32)
    heatmap[spot[0] - 2 : spot[0] + 3, spot[1] - 2 : spot[1] + 3] = 1
    back = place_back(heatmap, placement)
    return back, np.array(
        [np.average(np.arange(back.shape[a]) + 0.5, weights=back.sum(1 - a)) for a in (0, 1)]
    )


def test_stretch(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (100, 90, 3), dtype=np.uint8)
    fitted, placement = fit_frame(frame, SPEC, Fit("stretch", (40, 60)))
    np.testing.assert_array_equal(fitted, cv2.resize(frame, (60, 40), interpolation=cv2.INTER_AREA))
    back, centre = heat(placement, (20, 30))
    assert back.shape == (100, 90)
    np.testing.assert_allclose(centre, [20.5 * 100 / 40, 30.5 * 90 / 60], atol=0.6)


def test_crop_keeps_what_it_cut_at_zero(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (100, 300, 3), dtype=np.uint8)
    fitted, placement = fit_frame(frame, SPEC, Fit("crop", (50, 75)))  # to 50 × 150, then the centre
    scaled = cv2.resize(frame, (150, 50), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(fitted, scaled[5:45, 45:105])
    back = place_back(np.ones((40, 60), np.float32), placement)
    assert back.shape == (100, 300)
    assert back[10:90, 90:210].min() == 1
    assert not back[:10].any() and not back[90:].any() and not back[:, :90].any() and not back[:, 210:].any()
    _, centre = heat(placement, (10, 50))
    np.testing.assert_allclose(centre, [(5 + 10.5) * 2, (45 + 50.5) * 2], atol=0.6)


def test_letterbox_cuts_its_border_off(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (100, 300, 3), dtype=np.uint8)
    fitted, placement = fit_frame(
        frame, SPEC, Fit("letterbox", (40, 60), (1, 2, 3))
    )  # to 20 × 60, rows 10 to 30
    assert (fitted[:10] == (1, 2, 3)).all() and (fitted[30:] == (1, 2, 3)).all()
    np.testing.assert_array_equal(fitted[10:30], cv2.resize(frame, (60, 20), interpolation=cv2.INTER_AREA))
    heatmap = np.zeros((40, 60), np.float32)
    heatmap[:10] = 1
    assert not place_back(heatmap, placement).any()
    _, centre = heat(placement, (15, 50))
    np.testing.assert_allclose(centre, [5.5 * 5, 50.5 * 5], atol=0.6)


@pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (333, 2), (40, 61), (2000, 30)])
def test_odd_sizes(mode: str, size: tuple[int, int], rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    fitted, placement = fit_frame(frame, SPEC, Fit(mode, (40, 60), (0, 0, 0)))
    assert fitted.shape == (40, 60, 3)
    assert place_back(np.ones((40, 60), np.float32), placement).shape == size


def test_network_size_is_taken_as_it_is(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    fitted, _ = fit_frame(frame, SPEC, Fit("crop", (46, 69)))
    assert fitted is frame


def test_enlarging_is_linear(rng: np.random.Generator) -> None:
    small = rng.integers(0, 256, (5, 6), dtype=np.uint8)
    np.testing.assert_array_equal(
        resize(small, (10, 12)), cv2.resize(small, (12, 10), interpolation=cv2.INTER_LINEAR)
    )
