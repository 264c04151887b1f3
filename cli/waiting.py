"""How long a command will take: said before a long wait, and kept beside its progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sise_ort.cli.console import progress_bar, say

if TYPE_CHECKING:
    from sise_ort.estimate import Estimate

LONG = 5.0
"""Seconds; of a shorter wait nothing is said."""


def about(seconds: float) -> str:
    """Seconds in words: "under 1 s", "about 75 s", "about 4 min" or "about 3 h"."""
    if seconds < 1:
        return "under 1 s"
    for length, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if round(seconds / length) < 100 or unit == "h":
            return f"about {seconds / length:.0f} {unit}"
    raise AssertionError


def sentence(estimate: Estimate, pictures: int = 1) -> str:
    """What a long run is announced by.

    Parameters
    ----------
    estimate : Estimate
        Of the first picture.
    pictures : int
        Number of pictures, each of which may take about as long.

    Returns
    -------
    str
        ``1,904 masks take about 75 s (with --passes 64: about 4 s)``; of several pictures what all of them take, too.
    """

    def words(seconds: float) -> str:
        return about(seconds) + (f", {pictures} pictures {about(pictures * seconds)}" if pictures > 1 else "")

    text = f"{estimate.steps:,} {estimate.unit} take {words(estimate.seconds)}"
    if estimate.passes:
        text += f" (with --passes {estimate.passes}: {words(estimate.passes_seconds)})"
    return text


class Waiting:
    """The progress of a run over pictures: announces a long run once, and shows the time that is left of it.

    Parameters
    ----------
    pictures : int
        Number of pictures.
    quiet : bool
        Announce nothing.
    clock : callable
        Seconds from any moment on.
    """

    def __init__(
        self, pictures: int, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pictures, self._said, self._clock = pictures, quiet, clock
        self._started = clock()
        self._title, self._finished, self._share = "", 0, 0.0
        self._update: Callable[[int, int], None] | None = None

    @contextmanager
    def picture(self, title: str) -> Iterator[None]:
        """Show the bar of one picture, on a terminal."""
        self._title = title
        with progress_bar(title, self.left) as self._update:
            yield
        self._finished += 1

    def __call__(self, done: int, steps: int) -> None:
        """Hear how far a picture is; it may be the next one already."""
        share = (self._finished + done / max(steps, 1)) / self._pictures
        self._share = max(self._share, min(share, 1.0))
        if self._update is not None:
            self._update(done, steps)

    def expect(self, estimate: Estimate) -> None:
        """Hear how long a picture takes, and announce the run where it is long."""
        left = self._pictures - self._finished
        if not self._said and left * estimate.seconds > LONG:
            self._said = True
            say(f"{self._title}: {sentence(estimate, left)}")

    def left(self) -> float | None:
        """Seconds left of the whole run at its pace so far; None before there is one."""
        if not self._share:
            return None
        return (self._clock() - self._started) * (1 - self._share) / self._share


@contextmanager
def watched(
    what: str, *, after: int = 1, quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """Follow work that is counted: announce it where it is long, then show a bar, or say a line a minute without a terminal.

    Parameters
    ----------
    what : str
        What is counted, in the plural, such as "samples".
    after : int
        How many of them must be done before the time of all is told.
    quiet : bool
        Say nothing; a bar is shown all the same.
    clock : callable
        Seconds from any moment on.

    Yields
    ------
    callable
        A function of (done, in all).
    """
    started = said = clock()

    def report(done: int, everything: int) -> None:
        nonlocal said
        now = clock()
        each, left = (now - started) / max(done, 1), everything - done
        if update is not None:
            update(done, everything)
        if quiet:
            return
        if done == after and left and each * everything > LONG:
            say(f"{everything:,} {what} take {about(each * everything)}")
        elif update is None and (now - said >= 60 or (not left and now - started > LONG)):
            said = now
            say(f"{done} of {everything} {what}" + (f", {about(each * left)} left" if left else ""))

    with progress_bar(what) as update:
        yield report
