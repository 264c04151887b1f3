"""The turns that threads take at something that serves one at a time: first come, first served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


class _Place:
    """A thread's place in the queue.

    Attributes
    ----------
    held : lock
        Held from before the place is taken until its thread is done with it or has given up.
    before : _Place or None
        The place in front; None from the moment at which it is this one's turn.
    """

    def __init__(self) -> None:
        self.held = threading.Lock()
        self.before: _Place | None = None


class Turns:
    """Lets one thread at a time do something, in the order in which they asked.

    `threading.Lock` promises no order: a thread that scores hundreds of batches would take it again and again before a
    thread that waits for a single one.

    Notes
    -----
    Each thread holds a lock of its own and waits for the lock in front of it (the queue of Craig, and of Landin and
    Hagersten). KeyboardInterrupt may be raised between any two steps of Python code, so nothing is handed over by Python
    code: a thread's own lock is released by its `with` statement, however it ends. One that gives up while it waits leaves
    its place's `before` in place, and whoever is behind goes on to wait for that.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: _Place | None = None

    @property
    def contended(self) -> bool:
        """Whether a thread has its turn or waits for one."""
        place = self._last
        while place is not None and not place.held.locked():
            place = place.before  # given up, or done
        return place is not None

    @property
    def waiting(self) -> int:
        """Number of threads that wait for their turn."""
        count, place = 0, self._last
        while place is not None:
            count += place.before is not None and place.held.locked()
            place = place.before
        return count

    def take(self, work: Callable[[], Answer]) -> Answer:
        """Wait for the turn, and do something in it.

        Parameters
        ----------
        work : callable
            What to do. It must not take a turn itself.

        Returns
        -------
        object
            What `work` returned.
        """
        place = _Place()
        with place.held:
            with self._guard:
                place.before = self._last
                self._last = place
            while place.before is not None:
                with place.before.held:  # it is done, or has given up
                    place.before = place.before.before
            answer = work()
        return answer
