"""The axes of an evaluation's plots."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sise_ort.cli.evaluation.plots import MOST_TICKS, log_ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.3, 9, [0.5, 1, 2, 5]),
        (0.01, 30, [0.01, 0.1, 1, 10]),
        (0.01, 0.02, [0.01, 0.015, 0.02]),
        (0.001, 1000, [0.001, 0.1, 10, 1000]),
    ],
)
def test_ticks_of_an_axis(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-4, 4), st.floats(0.2, 6))
def test_ticks_are_few_and_apart(start: float, width: float) -> None:
    """On an axis of factor 1.6 and more there are two numbers or more, none close to the next."""
    low, high = 10**start, 10 ** (start + width)
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= MOST_TICKS and all(low <= tick <= high for tick in ticks)
    steps = [math.log10(b / a) for a, b in itertools.pairwise(ticks)]
    assert min(steps) > 0.05 * width
