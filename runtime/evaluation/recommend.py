"""Which method to choose, at which price, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.evaluation.run import Evaluation
from sise_ort.runtime.evaluation.summary import Interval, Line, Summary, interval, passes, seconds

DECISIVE = ("ebpg", "insertion", "drop", "miou", "bbox", "increase", "deletion")
"""The first of these metrics that has values decides."""

FEW = 30
"""Pictures below which a recommendation says that it rests on few."""


@dataclass(frozen=True)
class Choice:
    """What a recommendation rests on.

    Attributes
    ----------
    metric : str
        Name of the metric that decided.
    best, chosen : Line
        The method with the best mean, and the cheapest one that is not worse for sure.
    behind : Interval
        By how much the chosen one is better than the best, in the metric's own direction, on pictures that both have;
        0 where both are the same.
    """

    metric: str
    best: Line
    chosen: Line
    behind: Interval


def choose(evaluation: Evaluation, summary: Summary) -> Choice | None:
    """Choose the cheapest method whose paired 95 % interval to the best one holds 0.

    Parameters
    ----------
    evaluation, summary : Evaluation, Summary
        Rows and their summary.

    Returns
    -------
    Choice or None
        None where fewer than two methods have values.
    """
    for metric in DECISIVE:
        lines = [line for line in summary.lines if metric in line.metrics and line.metrics[metric].n]
        if len(lines) > 1:
            break
    else:
        return None
    sign = 1 if METRICS[metric].higher else -1
    values = {line.variant: sign * _column(evaluation, line.variant, metric) for line in lines}
    best = max(lines, key=lambda line: sign * line.metrics[metric].mean)
    for line in sorted(lines, key=lambda line: line.seconds):
        difference = values[line.variant] - values[best.variant]
        behind = interval(difference, len(difference))
        if line is best or (behind.n > 1 and behind.high >= 0):
            return Choice(metric, best, line, behind)
    raise AssertionError("the best method is one of them")


def recommend(evaluation: Evaluation, summary: Summary) -> str:
    """Say which method to choose for this network, at which price, and how sure that is.

    Parameters
    ----------
    evaluation, summary : Evaluation, Summary
        Rows and their summary.

    Returns
    -------
    str
        One to three sentences.
    """
    choice = choose(evaluation, summary)
    if choice is None:
        return "No recommendation: two methods with values on the same pictures are needed."
    line, best, title = choice.chosen, choice.best, METRICS[choice.metric].title
    value = line.metrics[choice.metric]
    price = (
        f"{seconds(line.seconds)} s and {passes(line.forward_passes, line.backward_passes)} passes a picture"
    )
    words = [f"Choose {line.title}: {price}, {title} {value} on {value.n} pictures."]
    others = [other for other in summary.lines if other is not line and other.metrics[choice.metric].n]
    if line is best:
        words.append(_ahead(evaluation, choice, others))
    else:
        more = best.seconds / line.seconds if line.seconds else math.nan
        words.append(
            f"The best mean has {best.title} ({best.metrics[choice.metric]}), at {more:.1f} times the seconds; the "
            f"difference from it, {choice.behind}, may be chance."
        )
    if value.n < FEW:
        words.append(f"{value.n} pictures are few: more of them may change this.")
    return " ".join(words)


def _ahead(evaluation: Evaluation, choice: Choice, others: list[Line]) -> str:
    """How far the best method is ahead of the next one, and whether for sure."""
    sign = 1 if METRICS[choice.metric].higher else -1
    second = max(others, key=lambda line: sign * line.metrics[choice.metric].mean)
    columns = [_column(evaluation, line.variant, choice.metric) for line in (choice.chosen, second)]
    lead = interval(sign * (columns[0] - columns[1]), len(columns[0]))
    sure = (
        "the interval leaves out 0"
        if lead.low > 0
        else "which may be chance, but none that is not worse is cheaper"
    )
    return f"It has the best mean, {lead} ahead of {second.title}: {sure}."


def _column(
    evaluation: Evaluation, variant: str, metric: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A variant's values by picture, in per cent; NaN where it has none."""
    found = {row["sample"]: 100 * row[metric] for row in evaluation.rows if row["variant"] == variant}
    return np.array([found.get(sample.name, math.nan) for sample in evaluation.samples], np.float64)
