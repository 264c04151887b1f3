"""What a line has done so far, in numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sise_ort.line.jobs import DECISIONS, IN_TIME, OUTCOMES, Result

Observer = Callable[[Result], None]


class Counts:
    """Counts parts, safely from several threads.

    Notes
    -----
    ``parts = accepted + rejected + unclassified + failed`` as soon as no part is on its way; ``rejected = explained_in_time +
    explained_late + explained_dropped + explained_failed``; ``without_passes`` are among those explained.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        names = [
            "submitted",
            *DECISIONS,
            *(f"explained_{name.replace(' ', '_')}" for name in OUTCOMES),
            "without_passes",
            "kept",
            "spooled",
            "unkept",
        ]
        self._numbers = dict.fromkeys(names, 0)

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._numbers[name] += 1

    def finished(self, result: Result) -> None:
        """Count a part whose way is over."""
        with self._lock:
            self._numbers[result.decision] += 1
            if result.explained:
                self._numbers[f"explained_{result.explained.replace(' ', '_')}"] += 1
            if result.without_passes:
                self._numbers["without_passes"] += 1

    def snapshot(self) -> dict[str, int]:
        """All numbers of one moment."""
        with self._lock:
            return dict(self._numbers)


def share_in_time(counts: dict[str, int]) -> float:
    """The share of rejects whose explanation came within the deadline; 1 where there was no reject.

    Parameters
    ----------
    counts : dict
        From `Counts.snapshot`.
    """
    rejects = sum(counts[f"explained_{name.replace(' ', '_')}"] for name in OUTCOMES)
    return counts[f"explained_{IN_TIME.replace(' ', '_')}"] / rejects if rejects else 1.0
