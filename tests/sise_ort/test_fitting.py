"""Frames to network size, heat maps back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from sise_ort.bundle import Fit, InputSpec
from sise_ort.fitting import fit_frame, place_back, resize, to_channels


def test_channels(rng: np.random.Generator) -> None:
    color = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    gray = color[:, :, :1]
    np.testing.assert_array_equal(to_channels(gray, 3), np.dstack([gray] * 3))
    expected = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(to_channels(color, 1)[:, :, 0].astype(int) - expected).max() <= 1


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


@pytest.mark.parametrize("size", [(30_000, 1), (1, 4_000_000)])
def test_crop_of_a_line_takes_little_memory(size: tuple[int, int]) -> None:
    """Scaled as a whole, these would have 2 and 10,000 billion pixels."""
    line = np.arange(max(size)) * 255.0 / max(size)  # brightness tells the place
    frame = np.repeat(line.astype(np.float32).reshape(*size, 1), 3, axis=2)
    spec = InputSpec(224, 224, 3, "float32")
    fitted, placement = fit_frame(frame, spec, Fit("crop", (256, 256)))
    assert fitted.shape == (224, 224, 3)
    np.testing.assert_allclose(fitted, 127.5, atol=255 / max(size) * 2)
    top, bottom, left, right = placement.frame
    assert ((top + bottom) / 2, (left + right) / 2) == pytest.approx((size[0] / 2, size[1] / 2), abs=0.01)


@pytest.mark.parametrize("size", [(500, 3), (40, 1000), (3, 170)])
def test_crop_of_surroundings_is_crop_of_the_whole(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = np.indices(size)
    frame = (40 * np.sin(rows / 5) + 40 * np.cos(columns / 7) + 128).astype(np.float32)[:, :, None]
    spec, fit = InputSpec(224, 224, 1, "float32"), Fit("crop", (256, 256))
    whole, _ = fit_frame(frame, spec, fit)
    monkeypatch.setattr("sise_ort.fitting.MOST_SCALED", 0)
    part, _ = fit_frame(frame, spec, fit)
    assert np.abs(part - whole).max() < 1
