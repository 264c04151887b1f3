"""How long pieces of work take here, estimated so that one accident changes nothing."""

from __future__ import annotations

import threading
from collections import deque
from itertools import pairwise
from statistics import median

KEPT = 8
"""Measurements of each kind that an estimate looks at."""


class Pace:
    """Seconds that pieces of work took lately, by kind; several threads may use it.

    The first measurement of each kind is not counted: it warms up.

    Notes
    -----
    Times on a shared machine have a steady level, rare accidents that are tens of times as long (another process, a page
    fault, a garbage collection) and steps to another level (a clock rate, another program that stays). `cautious` is
    the larger of two estimates over the last 8 measurements t_1 … t_8:

    - the upper quartile, the sixth in order of size: it covers the usual spread, and two accidents do not reach it;
    - max of min(t_i, t_{i+1}), the longest time that was reached twice in a row: it follows a step after two
      measurements, where a median needs five, and no single accident can raise it.

    A mean and a standard deviation, or the longest of the last measurements, are as large as the last accident. A median
    with a multiple of the median absolute deviation calls the first measurements after a step accidents, too.
    """

    def __init__(self) -> None:
        self._lately: dict[str, deque[float]] = {}
        self._guard = threading.Lock()

    def note(self, kind: str, seconds: float) -> None:
        """Remember how long one took."""
        with self._guard:
            if kind not in self._lately:
                self._lately[kind] = deque(maxlen=KEPT)
            else:
                self._lately[kind].append(seconds)

    def cautious(self, kind: str, otherwise: float) -> float:
        """Seconds that one more is unlikely to exceed; `otherwise` before anything is known."""
        lately = self._measured(kind)
        if not lately:
            return otherwise
        quartile = sorted(lately)[3 * (len(lately) - 1) // 4]
        return max([quartile, *(min(pair) for pair in pairwise(lately))])

    def typical(self, kind: str, otherwise: float) -> float:
        """Median seconds; `otherwise` before anything is known."""
        return median(self._measured(kind) or (otherwise,))

    def forget(self, kind: str) -> None:
        """Take the longest back: work that is never tried because it seems too long is never measured again."""
        with self._guard:
            if lately := self._lately.get(kind):
                lately.remove(max(lately))

    def _measured(self, kind: str) -> list[float]:
        with self._guard:
            return list(self._lately.get(kind, ()))
