"""Is this map to be trusted? Checks of one explanation, each a number, and what they say together.

docs/trust.md tells how the limits were chosen, and how well each check tells maps that miss the object from maps that hit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # whoever builds a struct has a plain string; what is read from a file is checked
    Trust = str
else:
    Trust = Literal["", "sound", "weak", "none"]

BLACK = 10
"""Largest pixel value, of 255, of a background that counts as black."""
RIM = 0.05
"""Width of the picture's border, as a share of each side."""
HOT = 0.5
"""Share of a map's maximum from which a pixel is hot."""
SHARE = 0.15
"""Share of the pixels, the highest ones, that are hidden or kept; that of Drop % and Increase %."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a map is to be trusted.

    Attributes
    ----------
    trust : str
        "sound", "weak" or "none"; empty where it was not asked.
    reason : str
        Why, in a sentence.
    checks : mapping of str to float
        The numbers behind it, by the names of `CHECKS`; None where a check could not be made.
    """

    trust: Trust = ""
    reason: str = ""
    checks: Mapping[str, float | None] = {}

    @property
    def words(self) -> str:
        """Trust and reason as one line."""
        return f"{self.trust}: {self.reason}" if self.trust else "not checked"

    def record(self) -> dict[str, Any]:
        """Collect the verdict for JSON, numbers rounded to four places."""
        numbers = {
            name: None if value is None else round(float(value), 4) for name, value in self.checks.items()
        }
        return {"trust": self.trust, "reason": self.reason, "checks": numbers}


@dataclass(frozen=True)
class Check:
    """A number that says something about a map.

    Attributes
    ----------
    meaning : str
        What the number is.
    least, most : float or None
        Where it must lie for a sound map; both None where the number is told and judges nothing.
    doubt : str
        What is said where it does not, with ``{value}`` in per cent.
    """

    meaning: str
    least: float | None = None
    most: float | None = None
    doubt: str = ""

    def holds(self, value: float | None) -> bool | None:
        """Whether a number is that of a sound map; None where nothing can be said."""
        if value is None or (self.least is None and self.most is None):
            return None
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


CHECKS: Mapping[str, Check] = {
    "drop": Check(
        "share of the confidence that goes when the map's highest 15 % of pixels are hidden; below 0 where it grows",
        least=0.1,
        doubt="hiding what the map names takes only {value} of the confidence",
    ),
    "keep": Check(
        "share of the confidence that stays when only the map's highest 15 % of pixels are shown; over 1 where it grows",
        least=0.005,
        doubt="what the map names keeps only {value} of the confidence when it is shown alone",
    ),
    "contrast": Check("correlation of the map with that of the runner-up, the class with the next score"),
    "agreement": Check("how well the maps of halves of a budget's masks agree; none without a budget"),
    "off_part": Check(
        "share of the heat that lies off the part: outside of the part's mask, or where the frame's margin is black",
        most=0.25,
        doubt="{value} of the heat lies off the part",
    ),
    "hot": Check(
        "share of the picture where the map is at least half its maximum; 0 where it is empty, near 1 where it is flat",
    ),
    "border": Check(
        "share of the heat in the outer 5 % of each side; an even map has 0.19 there",
        most=0.15,
        doubt="{value} of the heat lies on the picture's border",
    ),
}
"""All checks, in the order in which they are told."""
FLAT = 0.75
"""Hot share from which a map is flat."""


def verdict_of(checks: Mapping[str, float | None]) -> Verdict:
    """Say whether a map is to be trusted.

    Parameters
    ----------
    checks : mapping of str to float or None
        Numbers by the names of `CHECKS`; those that are missing or None could not be made.

    Returns
    -------
    Verdict
        "none" where the map is empty or flat, or neither drop nor keep holds; "weak" where a check that judges fails, or
        nothing could be hidden; else "sound".
    """
    numbers = {name: checks.get(name) for name in CHECKS}
    hot = numbers["hot"]
    if hot == 0:
        return Verdict(
            "none", "the map is empty: nothing in the picture speaks for what is explained", numbers
        )
    if hot is not None and hot >= FLAT:
        return Verdict("none", f"the map is flat: {_percent(hot)} of the picture is hot", numbers)
    judged = {name: held for name, one in CHECKS.items() if (held := one.holds(numbers[name])) is not None}
    doubts = [
        CHECKS[name].doubt.format(value=_percent(numbers[name])) for name, held in judged.items() if not held
    ]
    if "drop" not in judged:
        doubts.append("the map was not tested by hiding what it names")
    if not doubts:
        return Verdict("sound", _sound(numbers), numbers)
    none = judged.get("drop") is False and judged.get("keep") is False
    return Verdict("none" if none else "weak", "; ".join(doubts), numbers)


def _sound(numbers: Mapping[str, float | None]) -> str:
    kept = _percent(numbers["keep"])
    return f"hiding what the map names takes {_percent(numbers['drop'])} of the confidence, showing it alone keeps {kept}"


def _percent(value: float | None) -> str:
    if value is None:
        return "nothing"
    return f"{100 * value:.0f} %" if abs(value) >= 0.01 or value == 0 else f"{100 * value:.2g} %"


def hot_share(heatmap: NDArray[Any]) -> float:
    """Share of the pixels where a map is at least half its maximum; 0 where it is 0 everywhere.

    Parameters
    ----------
    heatmap : array, [H, W]
        Not negative.
    """
    top = float(heatmap.max())
    return float((heatmap >= HOT * top).mean()) if top > 0 else 0.0


def border_share(heatmap: NDArray[Any]) -> float:
    """Share of a map's heat in the outer 5 % of each side, at least one pixel wide; 0 of an empty map.

    Parameters
    ----------
    heatmap : array, [H, W]
        Not negative.
    """
    rows, columns = (max(1, round(RIM * side)) for side in heatmap.shape)
    inner = np.zeros(heatmap.shape, bool)
    inner[rows:-rows, columns:-columns] = True
    return share_outside(heatmap, inner)


def share_outside(heatmap: NDArray[Any], part: NDArray[np.bool_]) -> float:
    """Share of a map's heat that lies outside of a mask; 0 of an empty map.

    Parameters
    ----------
    heatmap : array, [H, W]
        Not negative.
    part : bool, [H, W]
        The mask.
    """
    whole = float(heatmap.sum(dtype=np.float64))
    return float((heatmap * ~part).sum(dtype=np.float64)) / whole if whole > 0 else 0.0


def black_margin(frame: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a frame is black up to its edge: the background beside a part.

    Parameters
    ----------
    frame : array, [H, W, C]
        Values 0 to 255.

    Returns
    -------
    bool, [H, W]
        Pixels of value 10 or less in all channels that black pixels connect with the edge; black inside of the part,
        such as a hole, is not among them.
    """
    black = np.asarray((frame <= BLACK).all(axis=2))
    edges = (black[0], black[-1], black[:, 0], black[:, -1])
    if not any(edge.any() for edge in edges):
        return np.zeros(black.shape, bool)
    import cv2

    _, labels = cv2.connectedComponents(np.asarray(black, np.uint8), connectivity=4)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, touching[touching > 0]))
