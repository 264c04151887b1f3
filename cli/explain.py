"""sise-ort explain BUNDLE PICTURES… -o FOLDER"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from sise_ort.cli.options import Mu


@click.command("explain")
@click.argument("bundle", type=click.Path())
@click.argument("pictures", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--out",
    "folder",
    default="explanations",
    show_default=True,
    type=click.Path(),
    help="Folder for the results.",
)
@click.option(
    "--target",
    "labels",
    multiple=True,
    metavar="LABEL",
    help="Class to explain by name; also not:LABEL and positive. Repeatable [the top class].",
)
@click.option(
    "--target-index",
    "indices",
    multiple=True,
    type=click.IntRange(0),
    help="Class to explain by index, from 0. Repeatable.",
)
@click.option(
    "--method",
    default="sise",
    show_default=True,
    metavar="NAME",
    help="How to explain: sise, gradcam, rise … (docs/methods.md).",
)
@click.option("--mu", type=Mu(), help='SISE: selection threshold in [0, 1), or "adaptive" [0].')
@click.option(
    "--passes", type=click.IntRange(0), help="SISE: score so many masks at most, predict the others."
)
@click.option(
    "--deadline-ms", type=click.FloatRange(0, min_open=True), help="SISE: answer within so many milliseconds."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="SISE: stop where more masks would change the map little, such as 0.05.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the method. Repeatable."
)
@click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Execution provider.",
)
@click.option("--batch-size", type=click.IntRange(1), help="Masked inputs scored at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line.")
def command(
    bundle: str,
    pictures: tuple[str, ...],
    folder: str,
    labels: tuple[str, ...],
    indices: tuple[int, ...],
    method: str,
    mu: float | str | None,
    passes: int | None,
    deadline_ms: float | None,
    tolerance: float | None,
    settings: tuple[str, ...],
    provider: str,
    batch_size: int | None,
    as_json: bool,
) -> None:
    """Explain what a bundle sees in pictures.

    Writes for each picture and class an overlay (.png), the heat map at the picture's size (.npy) and a record
    (.json). A picture that cannot be explained is reported, the others are done, and the exit code is 1.

    \b
    sise-ort explain resnet50.sise street.jpg -o out
    sise-ort explain strips.sise *.png -o out --target scratch --mu 0.3 --json
    sise-ort explain strips.sise strip.png --deadline-ms 200
    sise-ort explain strips.sise strip.png --method rise --set masks=4000
    """
    import sise_ort
    from sise_ort.cli.console import progress_bar, say
    from sise_ort.cli.options import method_parameters
    from sise_ort.explanation import Explanation

    if "positive" in labels and (len(labels) > 1 or indices):
        raise click.UsageError("--target positive stands alone")
    given = {
        "mu": mu,
        "passes": passes,
        "deadline": None if deadline_ms is None else deadline_ms / 1000,
        "tolerance": tolerance,
    }
    parameters = method_parameters(method, settings, given)
    explainer = sise_ort.load(bundle, provider, batch_size)
    for note in explainer.notes:
        say(f"note: {note}")
    target: Any = list(labels) + list(indices) or None
    if labels == ("positive",):
        target = "positive"
    stems = Counter(Path(p).stem for p in pictures)
    seen: Counter[str] = Counter()
    failed = 0
    for number, picture in enumerate(pictures, 1):
        title = f"[{number}/{len(pictures)}] {picture}"
        stem = Path(picture).stem
        seen[stem] += 1
        name = f"{stem}-{seen[stem]}" if stems[stem] > 1 else stem
        try:
            with progress_bar(title) as progress:
                results = explainer.explain(picture, target, method=method, progress=progress, **parameters)
        except sise_ort.FrameError as error:
            failed += 1
            say(f"{title}: failed: {error}")
            continue
        if isinstance(results, Explanation):
            results = [results]
        if not results:
            say(f"{title}: no class is over 0.5")
        for result in results:
            stem = result.file_stem(f"{name}-{result.label}" if target is not None else name)
            files = result.save(folder, stem)
            price = (
                f"{sum(result.mask_counts)} masks"
                if result.mask_counts
                else f"{result.forward_passes} passes"
            )
            say(f"{title}: {result.caption} ({price}, {result.timings['total']:.1f} s)")
            for note in result.notes[len(explainer.notes) :]:
                say(f"  note: {note}")
            if as_json:
                record = {**result.record(), "files": [str(f) for f in files]}
                click.echo(json.dumps(record, ensure_ascii=False))
            else:
                click.echo(files[0])
    if failed:
        raise click.ClickException(f"{failed} of {len(pictures)} pictures could not be explained")
