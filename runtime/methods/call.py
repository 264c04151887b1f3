"""One call of an explainer as methods see it: its clock, who hears how far it is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from sise_ort.errors import ParameterError, shown
from sise_ort.estimate import Estimate
from sise_ort.runtime.pace import Pace

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) of a piece of work: masks of a picture, samples of an evaluation.

One that has a method `expect`, too, is told the `Estimate` of a picture as soon as it is known: before the first step where
an earlier call has measured the pace, else after the second batch.
"""


class Expecting(Protocol):
    """A progress that wants to know how long a picture will take."""

    def __call__(self, done: int, steps: int) -> None: ...

    def expect(self, estimate: Estimate) -> None:
        """Take the estimate of the picture that begins."""


class Forecast:
    """Measures the steps of one picture, and tells how long all of them will take.

    Parameters
    ----------
    pace : Pace
        What steps took lately; what is measured here goes into it.
    kind : str
        Which steps those are: steps of one kind take equally long.
    unit : str
        What they are, in the plural, such as "masks".
    passes : int
        Passes of a budget that would shorten the picture, each a step; 0 where there is no such budget.

    Attributes
    ----------
    estimate : Estimate or None
        None where too few steps have been measured.

    Notes
    -----
    With a steps' time p measured, s seconds since the call began and d of n steps done, the picture takes s + (n - d) · p,
    and within a budget of m passes s₀ + m · p, where s₀ seconds had gone by before the first step. p is the median of the
    last measurements (`Pace`); the first batch of a session, which warms up, is not counted.
    """

    def __init__(self, pace: Pace, kind: str, unit: str, passes: int) -> None:
        self._pace, self._kind, self._unit, self._passes = pace, kind, unit, passes
        self._done, self._at, self._before = 0, -1.0, 0.0
        self.estimate: Estimate | None = None

    def anew(self) -> Forecast:
        """The same for another picture."""
        return Forecast(self._pace, self._kind, self._unit, self._passes)

    def begin(self, steps: int, now: float, elapsed: float) -> Estimate | None:
        """Start the clock of the first step; the estimate where the pace is known already."""
        self._done, self._at, self._before = 0, now, elapsed
        return self._estimated(0, steps, elapsed)

    def reached(self, done: int, steps: int, now: float, elapsed: float) -> Estimate | None:
        """Measure the steps since the last call; the estimate where it became known by this."""
        if self._at < 0:
            self._before = elapsed
        elif done > self._done:
            self._pace.note(self._kind, (now - self._at) / (done - self._done))
        self._done, self._at = done, now
        return self._estimated(done, steps, elapsed)

    def _estimated(self, done: int, steps: int, elapsed: float) -> Estimate | None:
        step = self._pace.typical(self._kind, -1.0)
        if self.estimate is not None or step < 0 or done >= steps:
            return None
        seconds = elapsed + (steps - done) * step
        passes = self._passes if self._passes < steps else 0
        shorter = self._before + passes * step if passes else seconds
        self.estimate = Estimate(steps, self._unit, seconds, elapsed, passes, shorter)
        return self.estimate


@dataclass(frozen=True)
class Call:
    """One call of an explainer, as far as methods need to know it.

    Attributes
    ----------
    progress : callable or None
        Called with (steps done, steps in all), and told the estimate (`Progress`).
    clock : callable
        Seconds from any moment on.
    started : float
        When the call began, on that clock; a deadline counts from here.
    forecast : Forecast or None
        Of this picture; None where its time cannot be told from its steps.
    rounds : tuple of int or None
        Sizes of the rounds in which a search within a deadline scored its masks, to do the same again, whatever the time;
        None for a search of its own.
    """

    progress: Progress | Expecting | None = None
    clock: Callable[[], float] = time.perf_counter
    started: float = field(default_factory=time.perf_counter)
    forecast: Forecast | None = None
    rounds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.progress is not None and not callable(self.progress):
            raise ParameterError(
                f"progress is {shown(self.progress)}; a function of (steps done, steps in all) is needed"
            )

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.clock() - self.started

    def picture(self, seconds: float) -> Call:
        """The part of a call for many pictures that concerns one of them, which has taken some seconds already."""
        anew = None if self.forecast is None else self.forecast.anew()
        return replace(self, started=self.clock() - seconds, forecast=anew)

    def part(self, number: int, parts: int) -> Call:
        """One of several equal parts of a call, such as the steps of one of several questions."""

        def report(done: int, steps: int) -> None:
            self.report(number * steps + done, parts * steps)

        return Call(report, self.clock, self.started)

    @property
    def estimate(self) -> Estimate | None:
        """How long the picture takes in all, where that was known before it was done."""
        return None if self.forecast is None else self.forecast.estimate

    def begin(self, steps: int) -> None:
        """Start the first of a number of steps, whose time tells how long all of them will take."""
        if self.forecast is not None:
            self._tell(self.forecast.begin(steps, self.clock(), self.elapsed()))

    def report(self, done: int, steps: int) -> None:
        """Tell the caller how far the work is."""
        if self.forecast is not None:
            self._tell(self.forecast.reached(done, steps, self.clock(), self.elapsed()))
        if self.progress is not None:
            self.progress(done, steps)

    def _tell(self, estimate: Estimate | None) -> None:
        expect = getattr(self.progress, "expect", None)
        if estimate is not None and callable(expect):
            expect(estimate)
