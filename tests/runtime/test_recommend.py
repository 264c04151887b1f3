"""The recommendation: the cheapest method that is not worse for sure, its price, and how sure that is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sise_ort.runtime.evaluation.recommend import choose, recommend
from sise_ort.runtime.evaluation.summary import Line, Summary, interval

PRICES = {"slow": (4.0, 800.0), "middle": (1.0, 200.0), "quick": (0.05, 1.0)}


def case(metric: str = "ebpg", n: int = 100, **shifts: float) -> tuple[Any, Summary]:
    """An evaluation in which every method has the same noise plus a shift of its own, in per cent."""
    noise = np.random.default_rng(3).normal(50, 10, n)
    wobble = np.random.default_rng(4).normal(0, 1, (len(shifts), n))
    wobble -= wobble.mean(1, keepdims=True)
    values = {name: noise + shift + w for (name, shift), w in zip(shifts.items(), wobble, strict=True)}
    rows = [
        {"sample": f"s{i}", "variant": name, metric: column[i] / 100}
        for name, column in values.items()
        for i in range(n)
    ]
    lines = [
        Line(
            name,
            name.title(),
            name,
            None,
            n,
            {metric: interval(column, n)},
            {},
            PRICES[name][1],
            1.0,
            PRICES[name][0],
        )
        for name, column in values.items()
    ]
    evaluation = SimpleNamespace(rows=rows, samples=[SimpleNamespace(name=f"s{i}") for i in range(n)])
    return evaluation, Summary(lines, [metric], [], [])


def test_a_method_that_is_better_for_sure_is_worth_its_price() -> None:
    evaluation, summary = case(slow=5.0, middle=0.0, quick=-5.0)
    choice = choose(evaluation, summary)
    assert choice is not None and choice.chosen is choice.best is summary.lines[0]
    words = recommend(evaluation, summary)
    assert words.startswith("Choose Slow: 4 s and 800 + 1 passes a picture, EBPG 5")
    assert "ahead of Middle: the interval leaves out 0" in words and "few" not in words


def test_of_methods_that_cannot_be_told_apart_the_cheapest_is_chosen() -> None:
    """The shift of 0.05 is far below the wobble's standard error of 1.4 / √100; that of quick is 20 of them."""
    evaluation, summary = case(slow=0.0, middle=0.05, quick=-3.0)
    choice = choose(evaluation, summary)
    assert choice is not None and choice.chosen.variant == "middle"
    evaluation, summary = case(slow=0.2, middle=0.1, quick=0.1)
    choice = choose(evaluation, summary)
    assert (
        choice is not None
        and choice.chosen.variant == "quick"
        and choice.behind.low < 0 <= choice.behind.high
    )
    words = recommend(evaluation, summary)
    assert "Choose Quick" in words and "times the seconds" in words and "may be chance" in words


@pytest.mark.parametrize(("metric", "better"), [("insertion", "slow"), ("deletion", "quick")])
def test_each_metric_has_its_direction(metric: str, better: str) -> None:
    evaluation, summary = case(metric, slow=5.0, middle=0.0, quick=-5.0)
    choice = choose(evaluation, summary)
    assert choice is not None and (choice.metric, choice.best.variant) == (metric, better)


def test_few_pictures_and_single_methods_are_said() -> None:
    assert "12 pictures are few" in recommend(*case(n=12, slow=5.0, quick=0.0))
    assert recommend(*case(slow=1.0)).startswith("No recommendation")
