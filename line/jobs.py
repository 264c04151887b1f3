"""What became of a part, and the part while it is on its way through the line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from sise_ort.explanation import Explanation
from sise_ort.runtime.asking import Asking
from sise_ort.verdicts import Verdict

ACCEPTED, REJECTED = "accepted", "rejected"
UNCLASSIFIED, FAILED = "unclassified", "failed"
DECISIONS = (ACCEPTED, REJECTED, UNCLASSIFIED, FAILED)
"""What can become of a part: no wanted class over the threshold, or one; no time to look; a picture that cannot be read."""

IN_TIME, LATE, DROPPED, BROKEN = "in time", "late", "dropped", "failed"
OUTCOMES = (IN_TIME, LATE, DROPPED, BROKEN)
"""What can become of a reject's explanation; "in time" also where there is no deadline."""

T = TypeVar("T")


def running() -> Future[T]:
    """A future that nobody can cancel: what has begun on a line is finished."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future


@dataclass(frozen=True, eq=False)
class Result:
    """What became of one part.

    Attributes
    ----------
    part_id : str
        As it was submitted.
    decision : str
        One of `DECISIONS`.
    reason : str
        Why the part is unclassified or failed, or why its reject has no map; empty otherwise.
    unreadable : bool
        Whether the frame is no picture that can be read, rather than one that the network cannot answer.
    label : str
        The class of the highest confidence among those that are looked for; empty where nothing was classified.
    confidence : float
        Its confidence; 0 where nothing was classified.
    confidences : mapping of str to float
        Of every class by its label.
    scores : tuple of float
        Raw scores of all classes.
    explanations : tuple of Explanation
        One for each class over the threshold, the surest first; empty where there is no map.
    verdicts : tuple of Verdict
        What the checks said of each explanation; empty without checks.
    explained : str
        One of `OUTCOMES` for a reject, empty for other parts.
    without_passes : bool
        Whether the maps were made without scoring masks, for lack of time.
    seconds : mapping of str to float
        Seconds in each phase: wait, classify, wait_explain, explain; and from `submit` to the end (``total``).
    submitted : datetime
        By the computer's clock, in UTC.
    meta : mapping
        As it was submitted.
    kept : Future
        Resolves when the record is safe: to the digest of its link, or to `SPOOLED`; at once to "" where no evidence is kept.
    """

    part_id: str
    decision: str
    reason: str = ""
    unreadable: bool = False
    label: str = ""
    confidence: float = 0.0
    confidences: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[float, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    explained: str = ""
    without_passes: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    submitted: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    meta: Mapping[str, Any] = field(default_factory=dict)
    kept: Future[str] = field(default_factory=running, repr=False)

    def row(self) -> dict[str, Any]:
        """The result as JSON has it, in short: no maps, no scores of other classes."""
        return {
            "part_id": self.part_id,
            "submitted": self.submitted.isoformat(),
            "decision": self.decision,
            "reason": self.reason,
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "explained": self.explained,
            "without_passes": self.without_passes,
            "classes": [one.label for one in self.explanations],
            "trust": [one.trust for one in self.verdicts],
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
        }


@dataclass(eq=False)
class Job:
    """A part that waits, or is worked on.

    Attributes
    ----------
    frame : bytes, path or array
        The picture; a file's bytes take its path's place when it is read.
    result : Result
        What is known so far.
    name : str
        Path of the file, or another name of where the frame comes from.
    key : str
        Names this look at the part, once per line; empty for a new one.
    done : callable or None
        Called with the result.
    future : Future
        The same for who waits.
    began : float
        Moment of its submission by `time.perf_counter`, which no change of the computer's clock moves.
    reached : float
        Moment at which its present phase began.
    asking : Asking or None
        The prepared picture of a reject that waits for its explanation.
    wanted : tuple of int
        Indices of the classes that are to be explained.
    """

    frame: Any
    result: Result
    name: str = ""
    key: str = ""
    done: Callable[[Result], None] | None = None
    future: Future[Result] = field(default_factory=running)
    began: float = field(default_factory=time.perf_counter)
    reached: float = 0.0
    asking: Asking | None = None
    wanted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.reached = self.began

    def learn(self, **facts: Any) -> None:
        """Add to the result."""
        self.result = replace(self.result, **facts)

    def end_phase(self, name: str) -> None:
        """Note how long a phase took, and begin the next one."""
        now = time.perf_counter()
        seconds = {**self.result.seconds, name: now - self.reached, "total": now - self.began}
        self.reached = now
        self.learn(seconds=seconds)
