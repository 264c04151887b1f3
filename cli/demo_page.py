"""The demo's page: strips with their heat maps over them, and what a blind guess would have found."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sise_ort.cli.demo import Verdict

NARROWEST = 800
"""Pixels to which a strip shrinks; narrower screens scroll it."""
HEADERS = [
    "strip",
    "defects in it",
    "network says",
    "heat on defect",
    "blind guess",
    "ratio",
    "masks",
    "seconds",
]


@dataclass(frozen=True)
class View:
    """One explained class of a strip.

    Attributes
    ----------
    caption, found : str
        What the network says; the map's maximum, and how much of the heat is on the defect.
    strip, own, common : str
        Pictures as addresses: the strip, the heat map over it on its own scale, and on the scale of all maps.
    strip_words, map_words : str
        What they show, for those who do not see them.
    peak : str
        Where the map is strongest, from 0 (left) to 1 (right).
    """

    caption: str
    found: str
    strip: str
    own: str
    common: str
    strip_words: str
    map_words: str
    peak: str


@dataclass(frozen=True)
class Strip:
    """A strip with all its views."""

    title: str
    views: tuple[View, ...]


def row(verdict: Verdict) -> list[str]:
    """Return the cells of the table's row; see `HEADERS`."""
    result = verdict.result
    seen = result.caption if result.confidence > 0.5 else f"sound (most: {result.caption})"
    cells = [verdict.strip, known_words(verdict), seen, *("–", "–", "–")]
    if verdict.mask is not None and verdict.share:
        ratio = f"{verdict.on_defect / verdict.share:.0f} ×"
        cells[3:] = [f"{100 * verdict.on_defect:.1f} %", f"{100 * verdict.share:.1f} %", ratio]
    return [*cells, str(sum(result.mask_counts)), f"{result.timings['total']:.1f}"]


def known_words(verdict: Verdict) -> str:
    """Say which defects a strip has."""
    if verdict.known is None:
        return "not known"
    return " + ".join(verdict.known) or "none (sound)"


def demo_page(verdicts: list[Verdict], origin: str) -> bytes:
    """Render the page with all pictures in it.

    Parameters
    ----------
    verdicts : list of Verdict
        In the order of the strips.
    origin : str
        A sentence on where the strips come from.

    Returns
    -------
    bytes
        HTML in UTF-8.
    """
    from sise_ort.pages import render

    strips = [
        Strip(name, tuple(view(v) for v in group))
        for name, group in itertools.groupby(verdicts, key=lambda v: v.strip)
    ]
    return render(
        "demo.html",
        title="Why were these strips rejected?",
        table=(HEADERS, [row(v) for v in verdicts]),
        strips=strips,
        origin=origin,
        narrowest=NARROWEST,
    )


def view(verdict: Verdict) -> View:
    """Draw one explained class, the defect outlined where it is known."""
    from sise_ort.drawing import overlay

    result = verdict.result
    heat = result.frame_heatmap
    place = int(np.argmax(heat.max(0))) / max(heat.shape[1] - 1, 1)
    side = "left" if place < 1 / 3 else "right" if place > 2 / 3 else "middle"
    defects = "" if verdict.mask is None else f", the {result.label} outlined"
    return View(
        caption=result.caption,
        found=found_words(verdict),
        strip=_picture(verdict, result.frame),
        own=_picture(verdict, overlay(result.frame, heat)),
        common=_picture(verdict, overlay(result.frame, np.float32(result.confidence) * heat)),
        strip_words=f"Strip {verdict.strip}; defects in it: {known_words(verdict)}{defects}.",
        map_words=f"Heat map for {result.caption}: strongest at the {side} of the strip. {found_words(verdict)}",
        peak=f"{place:.3f}",
    )


def found_words(verdict: Verdict) -> str:
    """Say what a map's maximum stands for, how much heat is on the defect, and what a blind guess would reach."""
    result = verdict.result
    words = f"The map's maximum stands for {100 * result.confidence:.1f} %"
    if not math.isnan(verdict.on_defect):
        words += f"; {100 * verdict.on_defect:.0f} % of the heat is on the defect, a blind guess reaches {100 * verdict.share:.1f} %"
    return f"{words}. {sum(result.mask_counts)} masks."


def _picture(verdict: Verdict, frame: Any) -> str:
    from sise_ort.drawing import as_rgb, encode_jpeg, outlined
    from sise_ort.pages import data_uri

    drawn = as_rgb(frame) if verdict.mask is None else outlined(frame, verdict.mask)
    return data_uri(encode_jpeg(drawn))
