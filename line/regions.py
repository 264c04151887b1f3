"""Hot regions of a heat map, and the heat per zone of the frame: from a picture to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import ParameterError, option, shown
from sise_ort.line.evidence.record import Region

LONGEST_ZONE = 100
"""Characters of a zone's name."""


@dataclass(frozen=True)
class RegionSettings:
    """What counts as a region, and which zones the frame has.

    Parameters
    ----------
    level : float
        A pixel is hot from this share of the map's largest value on, in (0, 1].
    least_share : float
        Regions with a smaller share of the whole heat are left out, in [0, 1).
    most : int
        How many regions at most, those with the largest share.
    corner_error : float
        How far the polygon may lie from the outline, in pixels.
    mm_per_pixel : float, (float, float) or None
        Millimetres per pixel, or per row and per column.
    grid : (int, int) or None
        Rows and columns of equal zones, named "row 1, column 1" and so on.
    zones : mapping of str to tuple of float
        Named zones: top, left, bottom and right in pixels of the frame.

    Raises
    ------
    ParameterError
        A value is out of its range.
    """

    level: float = 0.5
    least_share: float = 0.01
    most: int = 20
    corner_error: float = 0.5
    mm_per_pixel: float | tuple[float, float] | None = None
    grid: tuple[int, int] | None = None
    zones: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("level", 1e-6, 1.0),
            ("least_share", 0.0, 0.999),
            ("corner_error", 0.0, 1e4),
        ):
            if not _number(value := getattr(self, name), low, high):
                raise ParameterError(
                    f"{option(name)} is {shown(value)}; a number from {low:g} to {high:g} is needed"
                )
        if not isinstance(self.most, int) or not 1 <= self.most <= 1000:
            raise ParameterError(f"{option('most')} is {shown(self.most)}; 1 to 1000 regions can be listed")
        if self.mm_per_pixel is not None and not all(_number(v, 1e-9, 1e6) for v in _pair(self.mm_per_pixel)):
            raise ParameterError(
                f"{option('mm_per_pixel')} is {shown(self.mm_per_pixel)}; a positive number is needed"
            )
        if self.grid is not None and not (
            len(self.grid) == 2 and all(isinstance(n, int) and 1 <= n <= 100 for n in self.grid)
        ):
            raise ParameterError(
                f"{option('grid')} is {shown(self.grid)}; rows and columns of 1 to 100 are needed"
            )
        for name, box in self.zones.items():
            check_zone(name, box)


def check_zone(name: Any, box: Any) -> None:
    """Refuse what is no zone.

    Raises
    ------
    ParameterError
        The name is no printable text of 1 to 100 characters, or the box is not top, left, bottom, right.
    """
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ZONE or not name.isprintable():
        raise ParameterError(
            f"a zone is named {shown(name)}; printable text of 1 to {LONGEST_ZONE} characters is needed"
        )
    good = isinstance(box, Sequence) and len(box) == 4 and all(_number(v, -1e6, 1e6) for v in box)
    if not good or not (box[0] < box[2] and box[1] < box[3]):
        raise ParameterError(
            f"the zone {name!r} is {shown(box)}; top, left, bottom and right in pixels are needed"
        )


def hot_regions(heatmap: NDArray[np.float32], settings: RegionSettings | None = None) -> tuple[Region, ...]:
    """Find the connected hot regions of a heat map.

    Parameters
    ----------
    heatmap : float32, [H, W]
        Values in [0, 1] at the frame's size, such as `Explanation.frame_heatmap`.
    settings : RegionSettings, optional
        What counts as one.

    Returns
    -------
    tuple of Region
        The largest share of the heat first; none for an empty map.

    Notes
    -----
    Hot pixels are those with ``value >= level · max``; pixels that touch by a side or a corner belong together. The share of
    a region is the sum of its values over the sum of all values of the map, hot or not. The polygon runs through the centres
    of the outermost pixels, holes filled (Suzuki and Abe 1985), with corners left out where that moves it by `corner_error`
    at most (Douglas and Peucker 1973).
    """
    wanted = settings or RegionSettings()
    peak = float(heatmap.max(initial=0.0))
    if not peak > 0:
        return ()
    hot = (heatmap >= np.float32(wanted.level * peak)).astype(np.uint8)
    found: Any = cv2.connectedComponentsWithStats(hot, connectivity=8)
    count, labels, stats, _ = found
    heat = np.bincount(labels.ravel(), heatmap.ravel().astype(np.float64), count)
    shares = heat / heat.sum()
    order = [int(i) for i in np.argsort(-shares, kind="stable") if i and shares[i] >= wanted.least_share]
    return tuple(
        _region(heatmap, labels, stats[i], i, float(shares[i]), wanted) for i in order[: wanted.most]
    )


def zone_shares(heatmap: NDArray[np.float32], settings: RegionSettings) -> dict[str, float]:
    """Share of the whole heat in each zone.

    Parameters
    ----------
    heatmap : float32, [H, W]
        As for `hot_regions`.
    settings : RegionSettings
        Its grid and zones.

    Returns
    -------
    dict of str to float
        Per zone, in [0, 1]; those of a grid add up to 1. Empty for an empty map. A pixel belongs to the zone that its centre
        lies in.
    """
    whole = float(heatmap.sum(dtype=np.float64))
    if not whole > 0:
        return {}
    height, width = heatmap.shape
    boxes = dict(settings.zones)
    if settings.grid is not None:
        rows, columns = settings.grid
        for i in range(rows):
            for j in range(columns):
                boxes[f"row {i + 1}, column {j + 1}"] = (
                    i * height / rows, j * width / columns, (i + 1) * height / rows, (j + 1) * width / columns,
                )  # fmt: skip
    found = {}
    for name, (top, left, bottom, right) in boxes.items():
        inside = heatmap[_pixels(top, bottom), _pixels(left, right)]
        found[name] = float(inside.sum(dtype=np.float64)) / whole
    return found


def _region(
    heatmap: NDArray[np.float32],
    labels: NDArray[np.int32],
    stats: NDArray[np.int32],
    number: int,
    share: float,
    settings: RegionSettings,
) -> Region:
    left, top, width, height, area = map(int, stats[:5])
    part = slice(top, top + height), slice(left, left + width)
    mine = labels[part] == number
    values = np.where(mine, heatmap[part], -1.0)
    row, column = divmod(int(values.argmax()), width)
    outlines, _ = cv2.findContours(mine.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = cv2.approxPolyDP(outlines[0], settings.corner_error, True)[:, 0]
    millimetres: dict[str, Any] = {}
    if settings.mm_per_pixel is not None:
        down, across = _pair(settings.mm_per_pixel)
        millimetres["box_mm"] = (top * down, left * across, (top + height) * down, (left + width) * across)
        millimetres["area_mm2"] = area * down * across
    return Region(
        box=(top, left, top + height, left + width),
        polygon=tuple((float(y + top), float(x + left)) for x, y in corners),
        share=share,
        peak=float(values.max()),
        peak_at=(top + row, left + column),
        area=area,
        **millimetres,
    )


def _pixels(low: float, high: float) -> slice:
    """Pixels whose centres lie from `low` on and before `high`."""
    return slice(max(0, math.ceil(low - 0.5)), max(0, math.ceil(high - 0.5)))


def _pair(value: float | tuple[float, float]) -> tuple[float, float]:
    return (value[0], value[1]) if isinstance(value, Sequence) else (value, value)


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
