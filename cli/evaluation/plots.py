"""Plots of an evaluation: a metric against its price, and what μ does."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

from sise_ort.files import write_file
from sise_ort.pages.colors import SERIES
from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.evaluation.summary import Line, Summary

MOST_TICKS = 5
"""Numbers on a logarithmic axis."""


def write_plots(summary: Summary, folder: Path) -> list[Path]:
    """Write metric_against_seconds.png, and mu.png where SISE was run with several μ.

    Parameters
    ----------
    summary : Summary
        What is plotted.
    folder : Path
        Where to write.

    Returns
    -------
    list of Path
        The files; none where no heat map was judged.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    OutputError
        A file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    )
    found = []
    lines = [line for line in summary.lines if line.n]
    shown = [m for m in summary.metrics if any(line.metrics[m].n for line in lines)]
    if lines and shown:
        found.append(_save(plt, _against_seconds(plt, lines, shown), folder / "metric_against_seconds.png"))
    sise = _that_differ_in_mu(lines)
    if len(sise) > 1 and shown:
        found.append(_save(plt, _mu(plt, sise, shown), folder / "mu.png"))
    return found


def _against_seconds(plt: Any, lines: list[Line], shown: list[str]) -> Any:
    """Draw one panel per metric, methods numbered as in the legend, SISE in a colour of its own; better is up."""
    from matplotlib import ticker

    columns = min(3, len(shown) + 1)
    rows = -(-(len(shown) + 1) // columns)  # the last place is the legend's
    figure, axes = plt.subplots(rows, columns, figsize=(3.9 * columns, 2.9 * rows), squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for place, line in enumerate(lines):
        height = 1 - place / max(len(lines), 12)
        axes.flat[len(shown)].text(
            0, height, f"{place + 1}  {line.title}", va="top", fontsize=8, color=_color(line)
        )
    for axis, metric in zip(axes.flat, shown, strict=False):
        for number, line in enumerate(lines):
            value = line.metrics[metric]
            if not value.n:
                continue
            color = _color(line)
            error = [[value.mean - value.low], [value.high - value.mean]]
            axis.errorbar(line.seconds, value.mean, yerr=error, fmt="o", ms=4, color=color, lw=1, alpha=0.55)
            axis.annotate(
                str(number + 1),
                (line.seconds, value.mean),
                textcoords="offset points",
                xytext=(5, 3),
                color=color,
            )
        low, high = (edge(line.seconds for line in lines) for edge in (min, max))
        axis.set_xscale("log")
        axis.set_xlim(low / 1.35, high * 1.5)  # room for the last number
        axis.xaxis.set_major_locator(ticker.FixedLocator(log_ticks(low / 1.35, high * 1.5)))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.grid(alpha=0.25)
        axis.set_title(METRICS[metric].heading + ("" if METRICS[metric].higher else ", axis turned"))
        if not METRICS[metric].higher:
            axis.invert_yaxis()
        axis.set_xlabel("← seconds per picture (median)")
    for row in axes:
        row[0].set_ylabel("per cent")
    figure.tight_layout()
    return figure


def log_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers between two positive ones: as many as fit side by side under a narrow panel.

    Parameters
    ----------
    low, high : float
        Ends of a logarithmic axis, low below high.

    Returns
    -------
    list of float
        At most `MOST_TICKS`, ascending; empty where no number of two digits lies between the ends.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100))):
        ticks = [float(f"{digit}e{k}") for k in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > MOST_TICKS:
            thinned = ticks[:: -(-len(ticks) // MOST_TICKS)]
            return found if len(found) > 1 else thinned
        found = ticks
    return found


def _that_differ_in_mu(lines: list[Line]) -> list[Line]:
    """The first variants of SISE that differ in nothing else; none where a plot by μ would show a single one."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        if line.mu is not None:
            rest = " ".join(word for word in line.variant.split() if not word.startswith("mu="))
            groups.setdefault(rest, []).append(line)
    return next((group for group in groups.values() if len(group) > 1), [])


def _color(line: Line) -> str:
    return SERIES[0] if line.method == "sise" else SERIES[1]


def _mu(plt: Any, lines: list[Line], shown: list[str]) -> Any:
    """Draw the metrics by μ on the left and the price on the right; Ada-SISE stands at the right edge."""
    numbers = sorted(
        (line for line in lines if isinstance(line.mu, float)), key=lambda line: float(line.mu or 0)
    )
    adaptive = [line for line in lines if not isinstance(line.mu, float)]
    ordered = numbers + adaptive
    names = [f"{line.mu:g}" if isinstance(line.mu, float) else "adaptive" for line in ordered]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
    places = list(range(len(ordered)))
    split = len(numbers)
    for metric, color in zip(shown, SERIES, strict=False):
        values = [line.metrics[metric] for line in ordered]
        means = [v.mean for v in values]
        title = METRICS[metric].heading
        left.plot(places[:split], means[:split], "o-", ms=3, lw=1.2, color=color, label=title)
        error = [[v.mean - v.low for v in values], [v.high - v.mean for v in values]]
        left.errorbar(places, means, yerr=error, fmt="o", ms=3, lw=0.8, color=color, alpha=0.6)
    left.set_ylabel("per cent")
    left.set_title("quality by μ (↑ higher, ↓ lower is better)")
    left.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    right.plot(places[:split], [line.seconds for line in numbers], "o-", ms=4, color=SERIES[1])
    right.plot(places[split:], [line.seconds for line in adaptive], "o", ms=4, color=SERIES[1])
    for place, line in zip(places, ordered, strict=True):
        words = f"{line.forward_passes:.0f} passes"
        right.annotate(words, (place, line.seconds), textcoords="offset points", xytext=(5, 6), fontsize=8)
    right.set_title("seconds per picture by μ ↓")
    right.set_ylim(0, 1.15 * max(line.seconds for line in ordered))
    left.margins(x=0.12)
    right.margins(x=0.2)
    for axis in (left, right):
        axis.set_xticks(places, names)
        axis.grid(alpha=0.25)
        axis.set_xlabel("μ")
    figure.tight_layout()
    return figure


def _save(plt: Any, figure: Any, path: Path) -> Path:
    data = BytesIO()
    figure.savefig(data, dpi=130, format="png")
    plt.close(figure)
    return write_file(path, data.getvalue())
