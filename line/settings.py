"""How a line works: what it looks for, what it may cost, what happens when there is too much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sise_ort.errors import ParameterError, option, shown
from sise_ort.levels import Range, check_levels
from sise_ort.line.regions import RegionSettings
from sise_ort.runtime.checking import Checks

if TYPE_CHECKING:
    from sise_ort.line.sinks import Sink

POLICIES = {
    "oldest": "the rejects that wait keep their places; a new one gets no map",
    "newest": "the newest reject is explained first; the one that has waited longest gets no map",
    "no-passes": "a new reject gets a map at once, without scoring masks, before further frames are classified",
}
"""What happens to a reject where the queue of rejects is full."""
KEPT_FRAMES = ("all", "rejects", "none")
"""Of which parts the picture itself is kept as evidence."""


@dataclass(frozen=True)
class LineSettings:
    """How a line works.

    Parameters
    ----------
    queue : int
        Frames that may wait to be classified; a further one gets the decision "unclassified".
    rejects : int
        Rejects that may wait to be explained; `policy` says what happens to a further one.
    policy : {"oldest", "newest", "no-passes"}
        See `POLICIES`.
    parameters : mapping
        Parameters of SISE, such as ``{"mu": 0.3}`` or ``{"passes": 64}``.
    frames : {"all", "rejects", "none"}
        Of which parts the picture itself is kept as evidence.
    overlays : bool
        Draw the overlay of each map, too.
    regions : RegionSettings or None
        What counts as a hot region of a map, and which zones the frame has.
    sinks : sequence of Sink
        Who is told about each part (`sise_ort.line.sinks`); needs evidence, whose database holds what is still to be told.
    spool : path or None
        Folder in which records wait while the database is away; without one, they wait in memory.
    unkept : int
        Parts that may wait in memory to be written; where the store takes nothing for longer, further ones are not recorded,
        and `Result.kept` says so by an error.
    color : {"rgb", "bgr"}
        Channel order of frames that are arrays.
    levels : number or pair of numbers
        The pixel value of white, or of black and white, where they are not 0 and 255.
    alarm : callable or None
        Called with (kind, message) when a part is lost to the line: "unclassified", "dropped", "failed" or "unkept".
    checks : bool or Checks
        Check whether each map is to be trusted (docs/trust.md); the time that takes is kept free of the deadline.
    close_seconds : float
        How long `Line.close` waits for a store that takes nothing.

    Raises
    ------
    ParameterError
        A value is out of its range.
    """

    queue: int = 64
    rejects: int = 16
    policy: str = "oldest"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    frames: str = "rejects"
    overlays: bool = True
    regions: RegionSettings | None = None
    sinks: Sequence[Sink] = ()
    spool: Path | None = None
    unkept: int = 256
    color: str = "rgb"
    levels: Range = None
    alarm: Callable[[str, str], None] | None = None
    checks: bool | Checks = False
    close_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("queue", "rejects", "unkept"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
                raise ParameterError(f"{option(name)} is {shown(value)}; a whole number from 1 is needed")
        for name, choices in (
            ("policy", tuple(POLICIES)),
            ("frames", KEPT_FRAMES),
            ("color", ("rgb", "bgr")),
        ):
            if (value := getattr(self, name)) not in choices:
                raise ParameterError(f"{option(name)} is {shown(value)}; choose from {', '.join(choices)}")
        check_levels(self.levels)
        Checks.of(self.checks)
        if self.spool is not None:
            object.__setattr__(self, "spool", Path(self.spool))
        names = [sink.name for sink in self.sinks]
        if len(set(names)) != len(names):
            raise ParameterError(f"{option('sinks')}: two have the same name: {', '.join(sorted(names))}")

    def said(self) -> dict[str, Any]:
        """What a record says of them."""
        return {
            "policy": self.policy,
            "queue": self.queue,
            "rejects": self.rejects,
            "parameters": dict(self.parameters),
        }


def check_threshold(threshold: Any, bounded: bool) -> float:
    """The threshold as a number.

    Raises
    ------
    ParameterError
        It is no number, or outside of [0, 1] where confidences lie there.
    """
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, (int, float))
        or not math.isfinite(threshold)
        or (bounded and not 0 <= threshold <= 1)
    ):
        kind = "a number in [0, 1]" if bounded else "a finite number"
        raise ParameterError(f"{option('threshold')} is {shown(threshold)}; {kind} is needed")
    return float(threshold)
