"""A frame that a source hands over, and what a source is."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sise_ort.line.jobs import FAILED, Result

DONE, BAD, UNREADABLE = "done", "failed", "quarantined"
"""What became of a picture: it has a decision; the network could not answer; it is no readable picture."""


@dataclass(frozen=True, eq=False)
class Item:
    """A frame of a source.

    Attributes
    ----------
    frame : path or array [H, W, 3]
        The picture; arrays are RGB.
    part_id : str
        Name of the part.
    key : str
        Names this frame once and for all, so that a restart does not take it again; empty for a camera's.
    name : str
        Where it comes from, for the record.
    meta : mapping
        What the record says besides.
    waits : bool
        Whether the frame can wait until the line has time for it, without having missed its deadline: it is a file that was
        there before the line began, or of a video file.
    """

    frame: Any
    part_id: str
    key: str = ""
    name: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = True


class Ledger(Protocol):
    """What a line has recorded already."""

    def known(self, key: str) -> bool:
        """Whether there is a record of this key."""

    def outcome(self, key: str) -> str:
        """What became of the picture of a key that is known: "done", "failed" or "quarantined"."""


class Source(Protocol):
    """Where frames come from.

    Attributes
    ----------
    words : str
        The source in words, for messages.
    live : bool
        Whether frames come whether or not there is time for them, as from a camera.
    """

    words: str
    live: bool

    def items(self, stop: threading.Event, ledger: Ledger) -> Iterator[Item]:
        """Yield frames that have no record yet, until there are no more or `stop` is set."""

    def settle(self, item: Item, outcome: str) -> None:
        """Note that a frame's record is safe; called by a thread of the line."""


def outcome_of(result: Result) -> str:
    """What became of a picture, in the words of folders."""
    if result.decision != FAILED:
        return DONE
    return UNREADABLE if result.unreadable else BAD


def readable(path: Path | str) -> str:
    """A path as text that every record can hold, also where its bytes are no UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def short(words: str, most: int = 200) -> str:
    """The end of a text that is too long for a name."""
    return words if len(words) <= most else "…" + words[1 - most :]
