"""sise-ort explain BUNDLE PICTURES… -o FOLDER"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sise_ort.cli.options import Mu, provider_option

if TYPE_CHECKING:
    from sise_ort.explanation import Explanation


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
@provider_option
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
    if deadline_ms is not None:
        explainer.warm_up()
    target: Any = list(labels) + list(indices) or None
    if labels == ("positive",):
        target = "positive"
    names = _names(pictures)
    bar: list[Any] = [None]
    many = explainer.explain_many(
        pictures,
        target,
        method=method,
        errors="return",
        progress=lambda done, everything: bar[0] and bar[0](done, everything),
        **parameters,
    )
    failed = 0

    def saved(name: str, results: Sequence[Explanation]) -> list[tuple[Explanation, list[Path]]]:
        stems = [r.file_stem(f"{name}-{r.label}" if target is not None else name) for r in results]
        return [(r, r.save(folder, stem)) for r, stem in zip(results, stems, strict=True)]

    def tell(title: str, found: list[tuple[Explanation, list[Path]]]) -> None:
        if not found:
            say(f"{title}: no class is over 0.5")
        for result, files in found:
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

    with ThreadPoolExecutor(1) as drawing:  # one picture is drawn while the next one is explained
        last: tuple[str, Future[list[tuple[Explanation, list[Path]]]]] | None = None
        for number, (picture, name) in enumerate(zip(pictures, names, strict=True), 1):
            title = f"[{number}/{len(pictures)}] {picture}"
            with progress_bar(title) as bar[0]:
                results = next(many)
            if last is not None:
                tell(last[0], last[1].result())
                last = None
            if isinstance(results, sise_ort.FrameError):
                failed += 1
                say(f"{title}: failed: {results}")
                continue
            found = results if isinstance(results, list) else [results]
            last = title, drawing.submit(saved, name, found)
        if last is not None:
            tell(last[0], last[1].result())
    if failed:
        raise click.ClickException(f"{failed} of {len(pictures)} pictures could not be explained")


def _names(pictures: Sequence[str]) -> list[str]:
    """File names without endings, numbered where several pictures share one."""
    stems, seen, names = Counter(Path(p).stem for p in pictures), Counter[str](), []
    for picture in pictures:
        stem = Path(picture).stem
        seen[stem] += 1
        names.append(f"{stem}-{seen[stem]}" if stems[stem] > 1 else stem)
    return names
