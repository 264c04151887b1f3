"""The gallery: every method's heat map of the same picture, side by side, with the table and the plots."""

from __future__ import annotations

import html
import math
from pathlib import Path
from urllib.parse import quote

from sise_ort import __version__
from sise_ort.frame import read_frame
from sise_ort.runtime.evaluation.measure import METRICS
from sise_ort.runtime.evaluation.plan import file_key
from sise_ort.runtime.evaluation.run import GALLERY, Evaluation
from sise_ort.runtime.evaluation.summary import Summary

STYLE = """
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 1500px; margin: 2rem auto; padding: 0 1rem; color: #1d2329; }
 h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
 table { border-collapse: collapse; font-size: .88rem; } th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #dde2e7; white-space: nowrap; }
 th:first-child, td:first-child { text-align: left; }
 .scroll { overflow-x: auto; } .plots img { max-width: 100%; }
 .row { display: flex; flex-wrap: wrap; gap: .7rem; } figure { margin: 0; width: 200px; } figure.wide { width: 600px; }
 figure img { width: 100%; display: block; border-radius: 4px; } figcaption { color: #5a6672; font-size: .8rem; line-height: 1.35; }
 li { margin: .15rem 0; }
"""


def page(evaluation: Evaluation, summary: Summary, folder: Path, plots: list[Path], title: str) -> str:
    """The whole page; pictures are linked, from the gallery beside it."""
    e = html.escape
    problems = "".join(f"<li>{e(words)}</li>" for words in summary.problems)
    sections = "".join(_section(evaluation, folder, place) for place in range(len(evaluation.samples)))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{e(title)}</title>
<style>{STYLE}</style>
<h1>{e(title)}</h1>
<div class="scroll">{_table(*summary.cells())}</div>
<p>Values in per cent with 95 % bootstrap intervals over pictures. Passes are network inputs, forward + backward, on
average; seconds are medians.</p>
{'<h2>Differences</h2><p>On the same pictures, with paired intervals.</p><div class="scroll">' + _table(*summary.differences()) + "</div>" if len(summary.lines) > 1 else ""}
<ul>{"".join(f"<li>{e(words)}</li>" for words in summary.statements)}</ul>
<div class="plots">{"".join(f'<img alt="{e(p.stem)}" src="{quote(p.name)}">' for p in plots)}</div>
<h2>Pictures</h2>
{sections}
{f"<h2>Left out</h2><ul>{problems}</ul>" if problems else ""}
<p>sise-ort {e(__version__)}</p>
</html>
"""


def _table(headers: list[str], rows: list[list[str]]) -> str:
    def cells(tag: str, values: list[str]) -> str:
        return "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values)

    return (
        f"<table><tr>{cells('th', headers)}</tr>"
        + "".join(f"<tr>{cells('td', r)}</tr>" for r in rows)
        + "</table>"
    )


def _section(evaluation: Evaluation, folder: Path, place: int) -> str:
    """One picture with its truth, then each method's overlay; nothing where no pictures were kept."""
    sample = evaluation.samples[place]
    picture = folder / GALLERY / f"{file_key(sample.name)}.jpg"
    rows = [row for row in evaluation.rows if row["sample"] == sample.name]
    if not picture.is_file() or not rows:
        return ""
    titles = {variant.name: variant.title for variant in evaluation.plan.variants}
    figures = [_figure(picture, "the picture, with the truth outlined" if sample.regions else "the picture")]
    for row in rows:
        overlay = folder / GALLERY / f"{file_key(sample.name + ' ' + row['variant'])}.jpg"
        if overlay.is_file():
            told = [
                f"{METRICS[m].title} {100 * row[m]:.0f}"
                for m in evaluation.plan.metrics
                if not math.isnan(row[m])
            ]
            figures.append(
                _figure(overlay, f"{titles[row['variant']]} · {row['seconds']:.2g} s", ", ".join(told))
            )
    label = f"{rows[0]['label']}, confidence {rows[0]['confidence']:.3g}"
    return (
        f"<h3>{html.escape(sample.name)}: {html.escape(label)}</h3><div class='row'>{''.join(figures)}</div>"
    )


def _figure(path: Path, words: str, more: str = "") -> str:
    height, width = read_frame(path).shape[:2]
    kind = ' class="wide"' if width > 2.5 * height else ""
    caption = f"{html.escape(words)}<br>{html.escape(more)}" if more else html.escape(words)
    source = quote(f"{GALLERY}/{path.name}")
    return (
        f'<figure{kind}><img loading="lazy" alt="" src="{source}"><figcaption>{caption}</figcaption></figure>'
    )
