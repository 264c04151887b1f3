"""Estimates of times: hiccups, drifts and steps on a clock that only moves when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from sise_ort.runtime.pace import KEPT, Pace


class Clock:
    """Seconds that only pass in `work`."""

    def __init__(self) -> None:
        self.now = 50.0

    def work(self, pace: Pace, seconds: float) -> None:
        began = self.now
        self.now += seconds
        pace.note("work", self.now - began)


def warm(level: float = 0.01, count: int = KEPT) -> tuple[Pace, Clock]:
    """A pace after a slow first piece of work and some usual ones."""
    pace, clock = Pace(), Clock()
    for seconds in (9.0, *[level] * count):
        clock.work(pace, seconds)
    return pace, clock


def test_nothing_is_known_before_the_second_time() -> None:
    pace = Pace()
    assert pace.cautious("work", 7.0) == pace.typical("work", 7.0) == 7.0
    pace.note("work", 100.0)
    assert pace.cautious("work", 7.0) == 7.0
    pace.note("work", 2.0)
    assert pace.cautious("work", 7.0) == pace.typical("work", 7.0) == 2.0
    assert pace.cautious("other work", 7.0) == 7.0


@pytest.mark.parametrize("later", range(2 * KEPT))
def test_one_hiccup_changes_nothing(later: int) -> None:
    """Whenever it came: no estimate after it is longer than the usual time."""
    pace, clock = warm()
    clock.work(pace, 60.0)
    for _ in range(later):
        clock.work(pace, 0.01)
    assert pace.cautious("work", 7.0) == pytest.approx(0.01)
    assert pace.typical("work", 7.0) == pytest.approx(0.01)


def test_two_hiccups_apart_change_nothing() -> None:
    pace, clock = warm()
    for seconds in (60.0, 0.01, 0.01, 45.0, 0.01):
        clock.work(pace, seconds)
        assert pace.cautious("work", 7.0) == pytest.approx(0.01)


def test_a_step_is_followed_after_two() -> None:
    pace, clock = warm()
    clock.work(pace, 0.03)
    assert pace.cautious("work", 7.0) == pytest.approx(0.01)
    clock.work(pace, 0.031)
    assert pace.cautious("work", 7.0) == pytest.approx(0.03)
    for _ in range(4):
        clock.work(pace, 0.03)
    assert pace.typical("work", 7.0) == pytest.approx(0.03)
    for _ in range(KEPT):  # and back again
        clock.work(pace, 0.01)
    assert pace.cautious("work", 7.0) == pytest.approx(0.01)


def test_a_drift_is_followed() -> None:
    """Times that grow by 2 % each: the estimate is at most two measurements behind."""
    pace, clock = warm()
    seconds = 0.01
    for _ in range(60):
        seconds *= 1.02
        clock.work(pace, seconds)
    assert seconds / 1.02**2 <= pace.cautious("work", 7.0) * (1 + 1e-9) <= seconds * (1 + 1e-6)


def test_usual_spread_is_covered() -> None:
    """Of log-normal times with accidents among them, nine of ten stay below the estimate and a tenth."""
    rng = np.random.default_rng(4)

    def times() -> Iterator[float]:
        for _ in range(2000):
            yield 0.01 * float(np.exp(rng.normal(0, 0.1))) * (50 if rng.random() < 0.02 else 1)

    pace, clock = warm()
    late, estimates = 0, []
    for seconds in times():
        estimates.append(pace.cautious("work", 7.0))
        late += seconds > 1.1 * estimates[-1]
        clock.work(pace, seconds)
    assert late < 200
    assert np.quantile(estimates, 0.99) < 0.015


def test_the_longest_is_forgotten() -> None:
    pace = Pace()
    for seconds in (9.0, 0.01, 5.0):
        pace.note("work", seconds)
    pace.forget("work")
    assert pace.typical("work", 7.0) == 0.01
    pace.forget("work")
    pace.forget("work")
    assert pace.typical("work", 7.0) == 7.0
    pace.forget("work of no kind")


def test_threads_share_it() -> None:
    pace = Pace()

    def work() -> None:
        for i in range(2000):
            pace.note("work", 0.01)
            pace.cautious("work", 7.0)
            if i % 3 == 0:
                pace.forget("work")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pace.cautious("work", 0.01) == 0.01
