"""The thread that delivers what waits in the outbox to one sink, and tries again until the sink has taken it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from sise_ort.errors import OutputError
from sise_ort.line.evidence.outbox import Outbox, Waiting

LOG = logging.getLogger("sise_ort.line")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds between two attempts to deliver a message: the first pause, doubled up to the longest."""
POLL = 0.2
"""Seconds between two looks at an outbox that was empty."""
AT_ONCE = 100
"""Messages that are read at once."""


class Sink(Protocol):
    """Somebody who is told about parts.

    Attributes
    ----------
    name : str
        Its messages wait under this name, also for the next process.
    """

    name: str

    def deliver(self, message: Waiting) -> None:
        """Hand a message over, and return when it was taken.

        Raises
        ------
        OutputError
            It was not taken; it is tried again later.
        """

    def close(self) -> None:
        """End the connection."""


class Delivery:
    """Delivers a sink's messages in their order; one that fails holds up those behind it.

    Parameters
    ----------
    outbox : Outbox
        Where they wait.
    sink : Sink

    Notes
    -----
    A message leaves the outbox after the sink has taken it, so that a process that ends in between delivers it again: at least
    once. Receivers know a message again by its line and number.
    """

    def __init__(self, outbox: Outbox, sink: Sink) -> None:
        self.sink = sink
        self._outbox = outbox
        self._failing, self._pause = "", FIRST_PAUSE
        self._stop, self._last_try = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> str:
        """Why the last attempt failed; empty where it did not."""
        return self._failing

    def close(self, seconds: float) -> None:
        """Deliver what waits, for some seconds at most; the rest stays in the outbox for the next process.

        Parameters
        ----------
        seconds : float
            Not waited for where the last attempt failed.
        """
        self._last_try.set()
        ends = time.monotonic() + seconds
        while self._thread.is_alive() and not self._failing and time.monotonic() < ends:
            self._thread.join(0.05)
        self._stop.set()
        self._thread.join(seconds)
        self.sink.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            last = self._last_try.is_set()
            try:
                waiting = self._outbox.waiting(self.sink.name, AT_ONCE)
                self._deliver(waiting)
            except Exception as error:  # noqa: BLE001 - the database is away, or a sink has a bug: neither ends the line
                self._fail(error)
                continue
            if not waiting:
                if last:
                    return
                self._stop.wait(POLL)

    def _deliver(self, waiting: list[Waiting]) -> None:
        done: list[int] = []
        try:
            for message in waiting:
                if self._stop.is_set():
                    return
                try:
                    self.sink.deliver(message)
                except OutputError as error:
                    self._outbox.delivered(done)
                    done = []
                    self._outbox.failed(message.id, str(error), self._pause)
                    raise
                done.append(message.id)
                self._pause = FIRST_PAUSE
        finally:
            self._outbox.delivered(done)
        if waiting:
            if self._failing:
                LOG.warning("the sink '%s' is reached again", self.sink.name)
            self._failing, self._pause = "", FIRST_PAUSE

    def _fail(self, error: Exception) -> None:
        if not self._failing:
            LOG.error("the sink '%s' is not reached, which is tried again: %s", self.sink.name, error)
        self._failing = str(error) or type(error).__name__
        self._stop.wait(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
