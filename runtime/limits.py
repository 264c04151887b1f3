"""Limits of loading a bundle and of running its graphs: seconds and bytes."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sise_ort.errors import ParameterError, option, shown

GRANULARITY = 0.5
"""Seconds between two looks at the runs in progress."""
MOST_SECONDS, MOST_BYTES = 10**9, 1 << 62
"""Limits beyond these, infinity for one, are none."""


@dataclass(frozen=True)
class Limits:
    """What loading a bundle, and each run of one of its graphs, may take; infinity is no limit.

    Parameters
    ----------
    load_seconds : float
        Seconds of opening one graph. onnxruntime looks between its steps only, not while it folds constants, and old
        versions never; a longer opening then ends in an error, late. Of an untrusted bundle, its whole trial.
    load_memory : int or None
        Bytes of the bundle's files together, and of each tensor that its graphs declare; None takes three quarters of
        the machine's memory. Of an untrusted bundle, what its first loading and running may allocate altogether.
    run_seconds : float
        Seconds of one run of a graph. It ends at the next operator, within about a second; an operator that is running
        is not interrupted.

    Raises
    ------
    ParameterError
        A limit is not positive.
    """

    load_seconds: float = 120.0
    load_memory: int | None = None
    run_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in ("load_seconds", "run_seconds", "load_memory"):
            value = getattr(self, name)
            if value is None and name == "load_memory":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and value > 0):  # NaN is not
                raise ParameterError(
                    f"{option('limits')} has {name} {shown(value)}; it must be a positive number"
                )
            if name == "load_memory":
                value = int(min(max(value, 1), MOST_BYTES))
            else:
                value = float(value) if value <= MOST_SECONDS else math.inf
            object.__setattr__(self, name, value)

    @property
    def bytes(self) -> int:
        """`load_memory`, or three quarters of the machine's memory."""
        return int(self.load_memory or memory_of_machine() * 3 // 4)


def checked(limits: Limits | None, trusted: bool) -> Limits:
    """The limits of a loading, the defaults where none were given.

    Raises
    ------
    ParameterError
        `limits` or `trusted` is of another type.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise ParameterError(f"{option('limits')} is {shown(limits)}; it must be a sise_ort.Limits")
    if not isinstance(trusted, bool):
        raise ParameterError(f"{option('trusted')} is {shown(trusted)}; it must be True or False")
    return limits or Limits()


def memory_of_machine() -> int:
    """Bytes of memory that this machine, or the container that we are in, has."""
    found = 1 << 40
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            found = min(found, int(Path(file).read_text()))
    return found


class Watch:
    """Calls a function when something has taken too long; one thread looks at all of them, twice a second.

    Notes
    -----
    The thread is a daemon, and is started anew in a process that was forked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a process that was forked must: its parent's threads are not in it."""
        # `with` a Condition runs Python code, in which KeyboardInterrupt would leave the lock taken for ever
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._running: dict[object, tuple[float, Callable[[], None]]] = {}
        self._started = False
        self._asleep = False

    @contextlib.contextmanager
    def limit(self, seconds: float, stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
        """Call `stop` once, from another thread, if the block takes longer.

        Parameters
        ----------
        seconds : float
            How long it may take; infinity for any time.
        stop : callable
            Makes the block end.

        Yields
        ------
        callable
            Whether `stop` was called.

        Raises
        ------
        Exception
            What `stop` raised, where the block itself ended well.
        """
        stopped = False
        failed: Exception | None = None

        def run_out() -> None:
            nonlocal stopped, failed
            stopped = True
            try:
                stop()
            except Exception as error:  # noqa: BLE001 - the thread that runs this watches over others, too
                failed = error

        key = object()
        if seconds < math.inf:
            with self._guard:
                if not self._started:
                    threading.Thread(target=self._look, name="sise-ort limits", daemon=True).start()
                    self._started = True
                self._running[key] = self._clock() + seconds, run_out
                if self._asleep:
                    self._changed.notify()
        try:
            yield lambda: stopped
        finally:
            with self._guard:
                self._running.pop(key, None)
        if failed is not None:
            raise failed

    def _look(self) -> None:
        idle = 0
        while True:
            with self._guard:
                idle = 0 if self._running else idle + 1
                # while runs follow each other it looks by itself, so that starting one wakes nobody
                self._asleep = idle >= 10
                self._changed.wait(None if self._asleep else GRANULARITY)
                self._asleep = False
                now = self._clock()
                late = [key for key, (end, _) in self._running.items() if end <= now]
                calls = [self._running.pop(key)[1] for key in late]
            for call in calls:
                call()


WATCH = Watch()
"""The process's watch over loading and running."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WATCH.forget)
