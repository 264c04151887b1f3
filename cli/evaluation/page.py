"""The page of an evaluation: the table, the plots, and every method's heat map of the same picture side by side."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import quote

from sise_ort.datasets import Sample
from sise_ort.errors import FrameError
from sise_ort.frame import read_frame
from sise_ort.pages import Figure, Section, render
from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.evaluation.plan import file_key
from sise_ort.runtime.evaluation.recommend import recommend
from sise_ort.runtime.evaluation.run import Evaluation
from sise_ort.runtime.evaluation.store import GALLERY, Row
from sise_ort.runtime.evaluation.summary import Summary, left_out

WIDE = 2.5
"""Pictures wider than this times their height take more room."""


def page(evaluation: Evaluation, summary: Summary, folder: Path, plots: list[Path], title: str) -> bytes:
    """Render the page of an evaluation.

    Parameters
    ----------
    evaluation, summary : Evaluation, Summary
        What is shown.
    folder : Path
        Folder of the page; pictures are linked from the gallery in it.
    plots : list of Path
        Plots in the same folder.
    title : str
        Heading of the page.

    Returns
    -------
    bytes
        HTML in UTF-8.
    """
    rows: dict[str, list[Row]] = {}
    for row in evaluation.rows:
        rows.setdefault(row["sample"], []).append(row)
    sections = (
        _section(evaluation, folder, sample, rows.get(sample.name, [])) for sample in evaluation.samples
    )
    return render(
        "evaluation.html",
        title=title,
        table=summary.cells(),
        legend=summary.legend,
        recommendation=recommend(evaluation, summary) if len(summary.lines) > 1 else None,
        differences=summary.differences() if len(summary.lines) > 1 else None,
        statements=[*summary.statements, *left_out(summary)],
        plots=[Figure(quote(path.name), path.stem.replace("_", " ")) for path in plots],
        sections=[section for section in sections if section is not None],
        problems=summary.problems,
    )


def _section(evaluation: Evaluation, folder: Path, sample: Sample, rows: list[Row]) -> Section | None:
    """One picture with its truth, then each method's overlay; None where no pictures were kept."""
    words = "the picture, with the truth outlined" if sample.regions else "the picture"
    first = _figure(folder / GALLERY / f"{file_key(sample.name)}.jpg", words)
    if first is None or not rows:
        return None
    titles = {variant.name: variant.title for variant in evaluation.plan.variants}
    figures = [first]
    for row in rows:
        path = folder / GALLERY / f"{file_key(sample.name + ' ' + row['variant'])}.jpg"
        caption = f"{titles[row['variant']]} · {row['seconds']:.2g} s"
        overlay = _figure(path, caption, _values(evaluation.plan.metrics, row))
        if overlay is not None:
            figures.append(overlay)
    title = f"{sample.name}: {rows[0]['label']}, confidence {rows[0]['confidence']:.3g}"
    return Section(title, tuple(figures))


def _values(metrics: tuple[str, ...], row: Row) -> str:
    """The row's metrics in words, without those that have no value."""
    return ", ".join(f"{METRICS[m].title} {100 * row[m]:.0f}" for m in metrics if not math.isnan(row[m]))


def _figure(path: Path, caption: str, details: str = "") -> Figure | None:
    """A picture of the gallery; None where it is missing or damaged."""
    try:
        height, width = read_frame(path).shape[:2]
    except FrameError:
        return None
    return Figure(quote(f"{GALLERY}/{path.name}"), caption, details, width > WIDE * height)
