"""From rows to a table: means over pictures, with bootstrap intervals, and differences between methods."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import printable
from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.evaluation.run import Evaluation

RESAMPLES = 10_000
"""Draws of the bootstrap."""

MOST_DRAWN = 4_000_000
"""Values drawn at once, which bounds the memory."""

SHARE = 0.95
"""Of the draws' means that the interval holds."""


@dataclass(frozen=True)
class Interval:
    """A mean over pictures with its 95 % interval.

    Attributes
    ----------
    mean, low, high : float
        In per cent.
    n : int
        Pictures that have a value.
    left_out : int
        Pictures that have none.
    """

    mean: float
    low: float
    high: float
    n: int
    left_out: int = 0

    def __str__(self) -> str:
        mean, low, high = (0.0 + round(v, 1) for v in (self.mean, self.low, self.high))  # no -0.0
        return "–" if self.n == 0 else f"{mean:.1f} [{low:.1f}, {high:.1f}]"

    @property
    def short(self) -> str:
        """The mean and half of the interval's width."""
        return "–" if self.n == 0 else f"{0.0 + round(self.mean, 1):.1f} ±{(self.high - self.low) / 2:.1f}"


@dataclass(frozen=True)
class Line:
    """One variant of the table.

    Attributes
    ----------
    variant, title, method : str
        Its name, as papers write it, and the method's name.
    mu : float, str or None
        SISE's threshold.
    n : int
        Pictures that have a heat map.
    metrics, difference : dict
        Intervals by metric; of the values, and of what they exceed the first variant's by, on pictures that both have.
    forward_passes, backward_passes : float
        Means over pictures.
    seconds : float
        Median over pictures.
    """

    variant: str
    title: str
    method: str
    mu: float | str | None
    n: int
    metrics: dict[str, Interval]
    difference: dict[str, Interval]
    forward_passes: float
    backward_passes: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """The table of an evaluation, with what was read, how, and what was left out.

    Attributes
    ----------
    lines : list of Line
        In the order of the plan.
    metrics : list of str
        Names of `METRICS`.
    statements : list of str
        What was read and how.
    problems : list of str
        What was left out, and why.
    """

    lines: list[Line]
    metrics: list[str]
    statements: list[str]
    problems: list[str]

    def cells(self, short: bool = False) -> tuple[list[str], list[list[str]]]:
        """Return headers and rows in words.

        Parameters
        ----------
        short : bool
            Give half of each interval's width.

        Returns
        -------
        headers : list of str
            An arrow shows which way is better; metrics that no method has are left out.
        rows : list of list of str
        """
        shown = self.shown
        headers = ["method", "n", *(METRICS[m].heading for m in shown), "passes ↓", "seconds ↓"]
        return headers, [
            [
                line.title,
                str(line.n),
                *(line.metrics[m].short if short else str(line.metrics[m]) for m in shown),
                passes(line.forward_passes, line.backward_passes),
                seconds(line.seconds),
            ]
            for line in self.lines
        ]

    @property
    def shown(self) -> list[str]:
        """Metrics that a method has values of; all where none has any."""
        found = [m for m in self.metrics if any(line.metrics[m].n for line in self.lines)]
        return found or list(self.metrics)

    def differences(self) -> tuple[list[str], list[list[str]]]:
        """Return headers and rows of what each method has more than the first one, on the same pictures."""
        headers = [f"beside {self.lines[0].title}", *(METRICS[m].heading for m in self.shown)]
        return headers, [
            [line.title, *(str(line.difference[m]) for m in self.shown)] for line in self.lines[1:]
        ]

    @property
    def legend(self) -> str:
        """What the numbers of the table are, in words."""
        return (
            "Values in per cent, with 95 % bootstrap intervals over pictures; ↑ higher is better, ↓ lower is better. "
            "Passes are network inputs, forward + backward, on average; seconds are medians."
        )

    def to_markdown(self) -> str:
        """Return tables and statements as Markdown; markup in names is shown as written."""
        parts = [markdown_table(*self.cells())]
        if len(self.lines) > 1:
            parts.append(
                "Differences from the first method on the same pictures (paired):\n\n"
                + markdown_table(*self.differences())
            )
        parts.append(self.legend)
        gaps = left_out(self)
        parts.append("\n".join(f"- {_markdown(words)}" for words in [*self.statements, *gaps]))
        if self.problems:
            parts.append("Left out:\n\n" + "\n".join(f"- {_markdown(words)}" for words in self.problems))
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> str:
        """Return everything as JSON, numbers unrounded, null where a value has no meaning."""
        return json.dumps(_without_nan(asdict(self)), indent=2, ensure_ascii=False) + "\n"


def summarise(evaluation: Evaluation) -> Summary:
    """Summarise an evaluation: means over pictures, intervals, and differences from the first variant.

    Parameters
    ----------
    evaluation : Evaluation
        What `evaluate` returns.

    Returns
    -------
    Summary
        The table, ready to be printed or written.
    """
    names = [sample.name for sample in evaluation.samples]
    place = {name: i for i, name in enumerate(names)}
    lines: list[Line] = []
    first: dict[str, NDArray[np.float64]] = {}
    for variant in evaluation.plan.variants:
        rows = [row for row in evaluation.rows if row["variant"] == variant.name]
        values = {m: np.full(len(names), math.nan) for m in evaluation.plan.metrics}
        for row in rows:
            for metric, column in values.items():
                column[place[row["sample"]]] = 100 * row[metric]
        first = first or values
        lines.append(
            Line(
                variant=variant.name,
                title=variant.title,
                method=variant.method,
                mu=variant.parameters.get("mu"),
                n=len(rows),
                metrics={m: interval(column, len(rows)) for m, column in values.items()},
                difference={m: interval(column - first[m], len(rows)) for m, column in values.items()},
                forward_passes=_mean([row["forward_passes"] for row in rows]),
                backward_passes=_mean([row["backward_passes"] for row in rows]),
                seconds=float(np.median([row["seconds"] for row in rows])) if rows else math.nan,
            )
        )
    problems = [str(problem) for problem in evaluation.problems]
    return Summary(lines, list(evaluation.plan.metrics), evaluation.statements, problems)


def interval(values: NDArray[np.float64], n: int) -> Interval:
    """Compute the mean and its percentile bootstrap interval (Efron 1979); the same for every run.

    Parameters
    ----------
    values : float64, [pictures]
        In per cent; NaN where a picture has none.
    n : int
        How many values there should be.

    Returns
    -------
    Interval
        Of the values that are numbers; all NaN where none is.
    """
    found = values[~np.isnan(values)]
    if len(found) == 0:
        return Interval(math.nan, math.nan, math.nan, 0, n)
    rng = np.random.default_rng(0)
    portion = max(1, min(1000, MOST_DRAWN // len(found)))
    means = np.concatenate(
        [
            found[rng.integers(0, len(found), (min(portion, RESAMPLES - start), len(found)))].mean(1)
            for start in range(0, RESAMPLES, portion)
        ]
    )
    low, high = np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(float(found.mean()), float(low), float(high), len(found), n - len(found))


def left_out(summary: Summary) -> list[str]:
    """Say which metrics miss pictures, because the map or the truth is empty; once where all methods share it."""
    found: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for line in summary.lines:
        by_count: dict[int, list[str]] = {}
        for metric, value in line.metrics.items():
            if value.left_out:
                by_count.setdefault(value.left_out, []).append(METRICS[metric].title)
        for count, titles in by_count.items():
            found.setdefault((count, tuple(titles)), []).append(line.title)
    everyone = len(summary.lines)
    return [
        f"{'all methods' if len(methods) == everyone > 1 else ', '.join(methods)}: {count} of the pictures have no "
        f"{', '.join(titles)} (no truth, an empty map, or no probability)"
        for (count, titles), methods in found.items()
    ]


def passes(forward: float, backward: float) -> str:
    """Write passes in words: ``921 + 1``; "–" for NaN."""
    if math.isnan(forward):
        return "–"
    return f"{forward:.0f} + {backward:.0f}" if backward else f"{forward:.0f}"


def seconds(value: float) -> str:
    """Write seconds to two digits; "–" for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Write a table in Markdown.

    Parameters
    ----------
    headers : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        Cells, row by row.
    numbers : bool
        Whether all columns but the first hold numbers, which stand at the right.
    """
    rule = "|".join(["---", *["---:" if numbers else "---"] * (len(headers) - 1)])
    lines = ["| " + " | ".join(headers) + " |", f"|{rule}|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _markdown(words: str) -> str:
    """Words on one line in which nothing is taken for markup or a tag."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", printable(words)).replace("&", "&amp;").replace("<", "&lt;")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
