"""sise-ort demo: export the built-in steel model, explain its sample strips, show what came out."""

from __future__ import annotations

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
    """One class that the network sees in a strip.

    Attributes
    ----------
    strip : str
        Name of the strip.
    drawn : list of str
        Defects that were drawn in it.
    result : Explanation
        Why the network sees the class.
    mask : bool [256, 800] or None
        Where the defect of that class was drawn, if it was.
    """

    strip: str
    drawn: list[str]
    result: Any
    mask: Any

    @property
    def on_defect(self) -> float:
        """Share of the heat map that lies on the drawn defect; NaN where none was drawn."""
        from sise_ort.metrics import energy_pointing_game

        return math.nan if self.mask is None else energy_pointing_game(self.result.frame_heatmap, self.mask)

    def row(self) -> list[str]:
        """Return the cells of the table's row; see `HEADERS`."""
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
    from sise_ort.outputs import OutputFolder

    started = time.perf_counter()
    out = Path(folder)
    outputs = OutputFolder(out)
    outputs.prepare()
    _require_own(out / "steel.sise")
    say("exporting steel.onnx …")
    sise_ort.export(
        STEEL / "steel.onnx", out / "steel.sise", mean=MEAN, std=STD, labels=STEEL / "labels.txt", force=True
    )
    explainer = sise_ort.load(out / "steel.sise")
    verdicts = []
    for strip, drawn in json.loads((STEEL / "strips.json").read_text(encoding="utf-8")).items():
        for verdict in _explain(explainer, strip, drawn):
            verdict.result.save(outputs, f"{strip}.{verdict.result.label}")
            say(f"{strip}: {verdict.result.caption}")
            verdicts.append(verdict)
    print_table(HEADERS, [v.row() for v in verdicts], right=(3, 4, 5, 6, 7))
    page = outputs.write_page("index", ".html", _page(verdicts))
    say(f"{time.perf_counter() - started:.0f} s in all; open the page:")
    click.echo(page)


def _explain(explainer: Any, strip: str, drawn: list[str]) -> list[Verdict]:
    """Explain every class over 0.5, or the most likely one where there is none."""
    from sise_ort.cli.console import progress_bar

    path = STEEL / "strips" / f"{strip}.png"
    with progress_bar(strip) as progress:
        results = explainer.explain(path, "positive", progress=progress) or [explainer.explain(path)]
    return [Verdict(strip, drawn, r, _mask(strip, r.label) if r.label in drawn else None) for r in results]


def _require_own(bundle: Path) -> None:
    """Raise OutputError where a bundle that the demo did not export stands in its bundle's place."""
    from sise_ort.errors import OutputError, option

    try:
        facts = json.loads((bundle / "manifest.json").read_bytes())
        shown = facts["preprocessing"]["mean"], facts["preprocessing"]["std"], facts["origin"]["file"]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # nothing, or what the export itself refuses to replace
        return
    if shown != ([*MEAN], [*STD], "steel.onnx"):
        raise OutputError(f"'{bundle}' is a bundle of your own; name another folder with {option('out')}")


def _mask(strip: str, kind: str) -> Any:
    """bool [256, 800]: where the defect was drawn."""
    from sise_ort.frame import read_frame

    return read_frame(STEEL / "strips" / f"{strip}.{kind}.mask.png")[:, :, 0] > 127


def _page(verdicts: list[Verdict]) -> bytes:
    """The page with all pictures in it."""
    from sise_ort.pages import Section, render

    sections = []
    for strip, group in itertools.groupby(verdicts, key=lambda v: v.strip):
        several = list(group)
        figures = [_figure(_outlined(several), _drawn_words(several[0]))]
        for v in several:
            words = f"why “{v.result.caption}”: {sum(v.result.mask_counts)} masks"
            if v.mask is not None:
                words += f", {100 * v.on_defect:.0f} % of the heat on the defect"
            figures.append(_figure(v.result.overlay(), words))
        sections.append(Section(strip, tuple(figures)))
    table = (HEADERS, [v.row() for v in verdicts])
    return render("demo.html", title="Why were these strips rejected?", table=table, sections=sections)


def _drawn_words(verdict: Verdict) -> str:
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


def _figure(picture: Any, words: str) -> Any:
    from sise_ort.drawing import as_rgb, encode_jpeg
    from sise_ort.pages import Figure, data_uri

    return Figure(data_uri(encode_jpeg(as_rgb(picture))), words)
