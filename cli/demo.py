"""sise-ort demo: export the built-in steel model, explain its sample strips, show what came out."""

from __future__ import annotations

import base64
import html
import itertools
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

STEEL = Path(__file__).parent / "steel"
MEAN, STD = (128.0,), (64.0,)


@dataclass(frozen=True)
class Verdict:
    """One strip, one class that the network sees in it, and how much of the heat map lies on the drawn defect.

    mask : where the defect of that class was drawn, None if there is none.
    """

    strip: str
    drawn: list[str]
    result: Any
    mask: Any

    @property
    def on_defect(self) -> float:
        from sise_ort.metrics import energy_pointing_game

        return math.nan if self.mask is None else energy_pointing_game(self.result.frame_heatmap, self.mask)

    def row(self) -> list[str]:
        drawn = " + ".join(self.drawn) or "nothing (sound)"
        seen = self.result.caption if self.result.confidence > 0.5 else f"sound (most: {self.result.caption})"
        masks, time_spent = str(sum(self.result.mask_counts)), f"{self.result.timings['total']:.1f}"
        if self.mask is None:
            return [self.strip, drawn, seen, "–", "–", "–", masks, time_spent]
        share = float(self.mask.mean())
        ratio = f"{self.on_defect / share:.0f} ×"
        return [
            self.strip,
            drawn,
            seen,
            f"{100 * self.on_defect:.1f} %",
            f"{100 * share:.1f} %",
            ratio,
            masks,
            time_spent,
        ]


HEADERS = ["strip", "drawn", "network says", "heat on defect", "defect's area", "ratio", "masks", "seconds"]


@click.command("demo")
@click.option(
    "-o",
    "--out",
    "folder",
    default="demo-out",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder to write.",
)
def command(folder: str) -> None:
    """Explain steel strips with the built-in model.

    Exports a small CNN (steel.onnx, in this package) to a bundle, explains every defect that it sees in sample
    strips, prints how much of each heat map lies on the defect as drawn, and writes index.html with all pictures.
    """
    import sise_ort
    from sise_ort.cli.console import print_table, say
    from sise_ort.files import write_file

    started = time.perf_counter()
    out = Path(folder)
    say("exporting steel.onnx …")
    sise_ort.export(
        STEEL / "steel.onnx", out / "steel.sise", mean=MEAN, std=STD, labels=STEEL / "labels.txt", force=True
    )
    explainer = sise_ort.load(out / "steel.sise")
    verdicts = []
    for strip, drawn in json.loads((STEEL / "strips.json").read_text(encoding="utf-8")).items():
        for verdict in _explain(explainer, strip, drawn):
            verdict.result.save(out, f"{strip}.{verdict.result.label}")
            say(f"{strip}: {verdict.result.caption}")
            verdicts.append(verdict)
    print_table(HEADERS, [v.row() for v in verdicts], right=(3, 4, 5, 6, 7))
    page = write_file(out / "index.html", _page(verdicts).encode())
    say(f"{time.perf_counter() - started:.0f} s in all; open the page:")
    click.echo(page)


def _explain(explainer: Any, strip: str, drawn: list[str]) -> list[Verdict]:
    """Every class over 0.5, or the most likely one where there is none."""
    from sise_ort.cli.console import progress_bar

    path = STEEL / "strips" / f"{strip}.png"
    with progress_bar(strip) as progress:
        results = explainer.explain(path, "positive", progress=progress) or [explainer.explain(path)]
    return [Verdict(strip, drawn, r, _mask(strip, r.label) if r.label in drawn else None) for r in results]


def _mask(strip: str, kind: str) -> Any:
    """bool [256, 800]: where the defect was drawn."""
    from sise_ort.frame import read_frame

    return read_frame(STEEL / "strips" / f"{strip}.{kind}.mask.png")[:, :, 0] > 127


def _page(verdicts: list[Verdict]) -> str:
    from sise_ort import __version__

    def cells(tag: str, values: list[str]) -> str:
        return "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values)

    table = f"<tr>{cells('th', HEADERS)}</tr>" + "".join(f"<tr>{cells('td', v.row())}</tr>" for v in verdicts)
    sections = ""
    for strip, group in itertools.groupby(verdicts, key=lambda v: v.strip):
        several = list(group)
        sections += f"<section><h2>{html.escape(strip)}</h2>{_figure(_outlined(several), _told(several[0]))}"
        for v in several:
            words = f"why “{v.result.caption}”: {sum(v.result.mask_counts)} masks"
            if v.mask is not None:
                words += f", {100 * v.on_defect:.0f} % of the heat on the defect"
            sections += _figure(v.result.overlay(), words)
        sections += "</section>"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>sise-ort: why were these strips rejected?</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1d2329; }}
 h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }} h2 span {{ color: #5a6672; font-weight: 400; }}
 table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #dde2e7; }}
 th:nth-child(-n+3), td:nth-child(-n+3) {{ text-align: left; }}
 figure {{ margin: .4rem 0; }} img {{ width: 100%; display: block; border-radius: 4px; }} figcaption {{ color: #5a6672; font-size: .85rem; }}
 .scroll {{ overflow-x: auto; }}
</style>
<h1>Why were these strips rejected?</h1>
<p>A small CNN with one sigmoid per defect judged each strip; SISE shows the evidence for every defect that it sees:
the redder, the stronger, and where the strip is left in gray there is none. “Heat on defect” is the share of the heat
map that lies on the defect as it was drawn; beside it stands what a blind guess would reach, the defect's share of the
strip. In the sound strip no defect is over 50 %; what speaks for the most likely one is shown all the same. Strips and
model are synthetic. sise-ort {html.escape(__version__)}.</p>
<div class="scroll"><table>{table}</table></div>
{sections}
</html>
"""


def _told(verdict: Verdict) -> str:
    if not verdict.drawn:
        return "the strip; no defect was drawn"
    return f"the strip; drawn and outlined: {' and '.join(verdict.drawn)}"


def _outlined(verdicts: list[Verdict]) -> Any:
    from sise_ort.drawing import outlined

    picture = verdicts[0].result.frame
    for verdict in verdicts:
        if verdict.mask is not None:
            picture = outlined(picture, verdict.mask)
    return picture


def _figure(picture: Any, words: str) -> str:
    return f"<figure>{_picture(picture)}<figcaption>{html.escape(words)}</figcaption></figure>"


def _picture(picture: Any) -> str:
    from sise_ort.drawing import as_rgb, encode_jpeg

    data = base64.b64encode(encode_jpeg(as_rgb(picture))).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'
