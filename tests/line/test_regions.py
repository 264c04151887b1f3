"""Hot regions and zones: maps whose regions can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sise_ort.errors import ParameterError
from sise_ort.line.regions import RegionSettings, hot_regions, zone_shares


def two_bars() -> np.ndarray:
    """12 × 16: a bar of 2 × 5 pixels of 1, one of 3 × 2 pixels of 0.8, and one pixel of 0.4 that is not hot."""
    found = np.zeros((12, 16), np.float32)
    found[2:4, 3:8] = 1.0
    found[7:10, 11:13] = 0.8
    found[11, 0] = 0.4
    return found


def test_regions_by_hand() -> None:
    first, second = hot_regions(two_bars(), RegionSettings(mm_per_pixel=(0.5, 2.0)))
    whole = 10 * 1.0 + 6 * 0.8 + 0.4
    assert (first.box, first.area, first.peak, first.peak_at) == ((2, 3, 4, 8), 10, 1.0, (2, 3))
    assert (second.box, second.area) == ((7, 11, 10, 13), 6)
    assert second.peak == pytest.approx(0.8) and second.peak_at == (7, 11)
    assert first.share == pytest.approx(10 / whole, rel=1e-6)
    assert second.share == pytest.approx(4.8 / whole, rel=1e-6)
    assert set(first.polygon) == {(2.0, 3.0), (3.0, 3.0), (3.0, 7.0), (2.0, 7.0)}
    assert first.box_mm == (1.0, 6.0, 2.0, 16.0) and first.area_mm2 == 10.0


def test_corners_touch_and_small_regions_are_left_out() -> None:
    heatmap = np.zeros((9, 9), np.float32)
    heatmap[1, 1] = heatmap[2, 2] = heatmap[3, 3] = 1.0  # one region by its corners
    heatmap[7, 7] = 0.5
    assert [r.area for r in hot_regions(heatmap)] == [3, 1]
    assert [r.area for r in hot_regions(heatmap, RegionSettings(level=0.6))] == [3]
    assert [r.area for r in hot_regions(heatmap, RegionSettings(least_share=0.2))] == [3]
    assert [r.area for r in hot_regions(heatmap, RegionSettings(most=1))] == [3]


def test_a_ring_is_one_region_whose_polygon_has_no_hole() -> None:
    heatmap = np.zeros((20, 20), np.float32)
    heatmap[4:15, 4:15] = 1.0
    heatmap[8:11, 8:11] = 0.0
    (ring,) = hot_regions(heatmap)
    assert ring.area == 11 * 11 - 9 and len(ring.polygon) == 4 and ring.share == pytest.approx(1.0)


def test_an_empty_map_has_none() -> None:
    empty = np.zeros((5, 5), np.float32)
    assert hot_regions(empty) == () and zone_shares(empty, RegionSettings(grid=(2, 2))) == {}


def test_zones_of_a_grid_add_up(rng: np.random.Generator) -> None:
    heatmap = rng.random((13, 17)).astype(np.float32)
    shares = zone_shares(heatmap, RegionSettings(grid=(3, 4)))
    assert len(shares) == 12 and sum(shares.values()) == pytest.approx(1.0)
    slow = sum(
        float(heatmap[y, x])
        for y in range(13)
        for x in range(17)
        if y + 0.5 < 13 / 3 and 17 / 4 <= x + 0.5 < 17 / 2
    )
    assert shares["row 1, column 2"] == pytest.approx(slow / heatmap.sum(dtype=np.float64))


def test_named_zones_reach_over_the_border() -> None:
    settings = RegionSettings(
        zones={"upper edge": (-5.0, 0.0, 6.0, 99.0), "elsewhere": (50.0, 50.0, 60.0, 60.0)}
    )
    shares = zone_shares(two_bars(), settings)
    assert shares["upper edge"] == pytest.approx(10 / 15.2, rel=1e-6) and shares["elsewhere"] == 0.0


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"level": 0.0}, "level="),
        ({"level": float("nan")}, "level="),
        ({"most": 0}, "most="),
        ({"mm_per_pixel": -1.0}, "mm_per_pixel="),
        ({"grid": (0, 3)}, "grid="),
        ({"zones": {"a": (3, 3, 2, 4)}}, "the zone 'a'"),
        ({"zones": {"a\x1b[31m": (0, 0, 2, 4)}}, "a zone is named"),
        ({"zones": {"": (0, 0, 2, 4)}}, "a zone is named"),
    ],
)
def test_settings_out_of_range_are_refused(facts: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        RegionSettings(**facts)  # type: ignore[arg-type]
