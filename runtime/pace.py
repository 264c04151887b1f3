"""How long pieces of work take here."""

from __future__ import annotations

from collections import deque
from statistics import median


class Pace:
    """Seconds that pieces of work took lately, by kind. The first of each kind warms up and is not counted."""

    def __init__(self) -> None:
        self._lately: dict[str, deque[float]] = {}

    def note(self, kind: str, seconds: float) -> None:
        """Remember how long one took."""
        if kind not in self._lately:
            self._lately[kind] = deque(maxlen=5)
        else:
            self._lately[kind].append(seconds)

    def slowest(self, kind: str, otherwise: float) -> float:
        """The longest of the last five, or what to assume before there is one."""
        return max(self._lately.get(kind) or (otherwise,))

    def typical(self, kind: str, otherwise: float) -> float:
        """The median of the last five, or what to assume before there is one."""
        return median(self._lately.get(kind) or (otherwise,))

    def forget(self, kind: str) -> None:
        """Take back the longest: it may have been an accident, and work that is never tried is never measured again."""
        if lately := self._lately.get(kind):
            lately.remove(max(lately))
