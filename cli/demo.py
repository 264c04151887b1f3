"""sise-ort demo: export the built-in steel model, explain its sample strips, show what came out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

STEEL = Path(__file__).parent / "steel"
FACTS = json.loads((STEEL / "strips.json").read_text(encoding="utf-8"))
MEAN, STD = (FACTS["mean"],), (FACTS["std"],)
"""What the network's pixels are normalised with."""
KINDS = ("pitted", "dashes", "scratches", "scabs")
"""Severstal's defects 1 to 4, as the strips of examples/steel call them."""
MOST = 12
"""Strips of a folder that are explained."""


@dataclass(frozen=True)
class Strip:
    """A picture to explain.

    Attributes
    ----------
    name : str
        As the page calls it.
    path : Path
        Its file.
    masks : dict of str to Any, or None
        By kind, where its defects are: a function of height and width that returns bool [H, W]. None where it is not
        known whether there are any.
    """

    name: str
    path: Path
    masks: dict[str, Any] | None


@dataclass(frozen=True)
class Verdict:
    """One class that the network sees in a strip.

    Attributes
    ----------
    strip : str
        Name of the strip.
    known : list of str or None
        Defects that are in it; None where that is not known.
    result : Explanation
        Why the network sees the class.
    mask : bool [H, W] or None
        Where the defect of that class is, if there is one.
    """

    strip: str
    known: list[str] | None
    result: Any
    mask: Any

    @property
    def on_defect(self) -> float:
        """Share of the heat map that lies on the defect; NaN where none is known."""
        from sise_ort.metrics import energy_pointing_game

        return math.nan if self.mask is None else energy_pointing_game(self.result.frame_heatmap, self.mask)

    @property
    def share(self) -> float:
        """The defect's share of the strip, which is what a blind guess reaches; NaN where none is known."""
        return math.nan if self.mask is None else float(self.mask.mean())


@click.command("demo")
@click.option(
    "--strips",
    "strips_folder",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Explain strips of yours: a folder of pictures, or Severstal's with train.csv and train_images.",
)
@click.option(
    "-o",
    "--out",
    "folder",
    default="demo-out",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder to write.",
)
def command(strips_folder: str | None, folder: str) -> None:
    """Explain steel strips with the built-in model.

    Exports a small CNN (steel.onnx, in this package) to a bundle, explains every defect that it sees in sample
    strips, prints how much of each heat map lies on the defect, and writes index.html with all pictures. The CNN
    learned from drawn strips alone: on real ones (--strips) it shows what it learned, and it can be wrong.
    """
    import sise_ort
    from sise_ort.cli.console import print_table, say
    from sise_ort.cli.demo_page import HEADERS, demo_page, row
    from sise_ort.outputs import OutputFolder

    started = time.perf_counter()
    strips = drawn_strips() if strips_folder is None else own_strips(Path(strips_folder))
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
    for strip in strips:
        for verdict in _explain(explainer, strip):
            verdict.result.save(outputs, f"{strip.name}.{verdict.result.label}")
            say(f"{strip.name}: {verdict.result.caption}")
            verdicts.append(verdict)
    print_table(HEADERS, [row(v) for v in verdicts], right=(3, 4, 5, 6, 7))
    origin = "The strips are drawn, and so is all that the network learned from."
    if strips_folder is not None:
        origin = "The network learned from drawn strips alone; on real ones it can be wrong."
    page = outputs.write_page("index", ".html", demo_page(verdicts, origin))
    say(f"{time.perf_counter() - started:.0f} s in all; open the page:")
    click.echo(page)


def drawn_strips() -> list[Strip]:
    """List the strips of this package."""
    return [
        Strip(
            name,
            STEEL / "strips" / f"{name}.png",
            {kind: _drawn_mask(STEEL / "strips" / f"{name}.{kind}.mask.png") for kind in kinds},
        )
        for name, kinds in FACTS["strips"].items()
    ]


def _drawn_mask(path: Path) -> Any:
    from sise_ort.frame import read_frame

    return lambda height, width: read_frame(path)[:, :, 0] > 127


def own_strips(folder: Path) -> list[Strip]:
    """List at most `MOST` strips of a user's folder; of Severstal's, as many of each class as of the sound ones.

    Raises
    ------
    DatasetError
        The folder has no pictures.
    """
    from sise_ort.datasets.reading import pictures_in
    from sise_ort.errors import DatasetError

    if (folder / "train.csv").is_file():
        return list(_severstal(folder))
    strips = [Strip(path.stem, path, None) for path in pictures_in(folder)[:MOST]]
    if not strips:
        raise DatasetError(f"'{folder}' has no pictures; name a folder of strips, or one with train.csv")
    return strips


def _severstal(folder: Path) -> Iterator[Strip]:
    import numpy as np

    from sise_ort.datasets import open_dataset
    from sise_ort.datasets.severstal import CLASSES, NORMAL

    groups: dict[str, list[Path]] = {}
    regions: dict[Path, dict[str, Any]] = {}
    for sample in open_dataset("severstal", folder).samples:
        label = str(sample.label)
        groups.setdefault(label, []).append(sample.picture)
        of_picture = regions.setdefault(sample.picture, {})
        if label in CLASSES:
            of_picture[KINDS[CLASSES.index(label)]] = lambda height, width, sample=sample: np.any(
                [region.mask(height, width) for region in sample.regions], axis=0
            )
    turns = max(map(len, groups.values()), default=0)
    order = [groups[k][i] for i in range(turns) for k in (*CLASSES, NORMAL) if i < len(groups.get(k, ()))]
    for path in list(dict.fromkeys(order))[:MOST]:
        yield Strip(path.stem, path, regions[path])


def _explain(explainer: Any, strip: Strip) -> list[Verdict]:
    """Explain every class over 0.5, or the most likely one where there is none."""
    from sise_ort.cli.console import progress_bar

    with progress_bar(strip.name) as progress:
        results = explainer.explain(strip.path, "positive", progress=progress) or [
            explainer.explain(strip.path)
        ]
    masks = strip.masks or {}
    known = None if strip.masks is None else list(masks)
    return [
        Verdict(strip.name, known, r, masks[r.label](*r.placement.frame_size) if r.label in masks else None)
        for r in results
    ]


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
