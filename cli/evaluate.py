"""sise-ort evaluate BUNDLE --dataset KIND PATH --methods … -o FOLDER"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sise_ort.cli.options import Names, provider_option


@click.command("evaluate")
@click.argument("bundle", type=click.Path())
@click.option(
    "--dataset",
    required=True,
    nargs=2,
    metavar="KIND PATH",
    help="voc, coco, severstal, imagenet or folder, and where it is.",
)
@click.option(
    "--dataset-set", multiple=True, metavar="NAME=VALUE", help="An option of the data set. Repeatable."
)
@click.option(
    "--methods", type=Names(), default="sise,gradcam", show_default=True, help="Methods to compare."
)
@click.option(
    "--mu",
    "mus",
    type=Names(),
    default="0",
    show_default=True,
    metavar="MU,…",
    help='SISE: thresholds, also "adaptive".',
)
@click.option(
    "--passes",
    type=Names(),
    default="",
    metavar="N,…",
    help="SISE with so many masks scored at most, at the first threshold.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="METHOD.NAME=VALUE", help="A method's parameter. Repeatable."
)
@click.option("--metrics", type=Names(), help="ebpg, miou, bbox, drop, increase, insertion, deletion [all].")
@click.option("--limit", type=click.IntRange(1), help="Samples at most, chosen at random.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of that choice.")
@click.option(
    "--class",
    "explain",
    type=click.Choice(["truth", "top"]),
    default="truth",
    show_default=True,
    help="Which class is explained.",
)
@click.option(
    "--class-map",
    type=click.Path(exists=True, dir_okay=False),
    help="JSON: the data set's classes to the network's labels or indices.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=32, show_default=True, help="Of insertion and deletion."
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the cores."
)
@provider_option
@click.option("--batch-size", type=click.IntRange(1), help="Network inputs scored at once.")
@click.option(
    "--gallery", type=click.IntRange(0), default=12, show_default=True, help="Samples shown on the page."
)
@click.option("--report", "only_report", is_flag=True, help="Run nothing; report what is there.")
@click.option(
    "-o", "--out", "folder", required=True, type=click.Path(file_okay=False), help="Folder to write."
)
def command(
    bundle: str,
    dataset: tuple[str, str],
    dataset_set: tuple[str, ...],
    methods: list[str],
    mus: list[str],
    passes: list[str],
    settings: tuple[str, ...],
    metrics: list[str] | None,
    limit: int | None,
    seed: int,
    explain: str,
    class_map: str | None,
    steps: int,
    workers: int,
    provider: str,
    batch_size: int | None,
    gallery: int,
    only_report: bool,
    folder: str,
) -> None:
    """Compare methods on a data set: how good, at what price.

    Can be stopped and started again: what is done is not done twice, and more methods or samples can be added. Writes
    rows.csv (a row per sample and method), summary.md, summary.json, plots and index.html. What cannot be used in the
    data set is left out, counted and listed.

    \b
    sise-ort evaluate voc.sise --dataset voc VOCdevkit/VOC2007 --methods sise,gradcam --mu 0,0.3,adaptive -o out
    sise-ort evaluate steel.sise --dataset severstal severstal --methods sise,rise --set rise.masks=2000 --limit 100 -o out
    """
    from sise_ort.cli.console import print_table, say
    from sise_ort.datasets import open_dataset
    from sise_ort.files import write_file
    from sise_ort.runtime.evaluation import METRICS, Plan, evaluate, summarise
    from sise_ort.runtime.evaluation.plan import variants

    options = {name: _value(text) for name, text in _pairs(dataset_set, "--dataset-set")}
    plan = Plan(
        bundle=bundle,
        variants=variants(
            methods, [_value(mu) for mu in mus], _method_settings(settings), [_value(n) for n in passes]
        ),
        metrics=tuple(metrics or METRICS),
        steps=steps,
        explain=explain,
        class_map=_class_map(class_map),
        provider=provider,
        batch_size=batch_size,
        gallery=gallery,
    )
    data = open_dataset(dataset[0], dataset[1], **options)
    say(f"{len(data.samples)} samples, {len(data.problems)} problems in the data set")
    with _progress() as progress:
        found = evaluate(
            plan,
            data,
            folder,
            dataset_options=options,
            limit=limit,
            seed=seed,
            workers=workers,
            only_report=only_report,
            progress=progress,
        )
    summary = summarise(found)
    out = Path(folder)
    write_file(out / "summary.json", summary.to_json().encode())
    write_file(out / "summary.md", summary.to_markdown().encode())
    plots = _plots(summary, out)
    from sise_ort.cli.evaluation.page import page

    title = f"{Path(bundle).stem} on {data.kind} ({data.root.name})"
    write_file(out / "index.html", page(found, summary, out, plots, title))
    headers, rows = summary.cells(short=True)
    print_table(headers, rows, right=tuple(range(1, len(headers))))
    for words in summary.statements:
        say(words)
    for words in summary.problems:
        say(f"left out: {words}")
    if summary.problems:
        say(f"{len(summary.problems)} problems; what they name was left out")
    click.echo(out / "index.html")


def _plots(summary: Any, folder: Path) -> list[Path]:
    from sise_ort.cli.console import say
    from sise_ort.cli.evaluation.plots import write_plots

    try:
        return write_plots(summary, folder)
    except ImportError as error:
        say(f"no plots: {error}; pip install 'sise-ort[evaluate]'")
        return []


def _pairs(words: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    from sise_ort.errors import ParameterError

    found = []
    for entry in words:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ParameterError(f"{option} {entry}: NAME=VALUE is needed")
        found.append((name.strip(), value.strip()))
    return found


def _method_settings(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    from sise_ort.errors import ParameterError
    from sise_ort.runtime.methods import method_named

    found: dict[str, dict[str, Any]] = {}
    for place, value in _pairs(settings, "--set"):
        method, dot, name = place.partition(".")
        if not dot:
            raise ParameterError(f"--set {place}={value}: METHOD.NAME=VALUE is needed")
        found.setdefault(method, {})[name] = method_named(method).parse(name, value)
    return found


def _value(text: str) -> Any:
    """true, false, a number, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _class_map(path: str | None) -> dict[str, str | int]:
    from sise_ort.errors import ParameterError

    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ParameterError(f"--class-map {path}: it is not JSON ({error})") from error
    if not isinstance(found, dict) or any(
        isinstance(v, bool) or not isinstance(v, (int, str)) for v in found.values()
    ):
        raise ParameterError(f'--class-map {path}: an object such as {{"1": "scratch", "2": 3}} is needed')
    return found


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal, else a line a minute."""
    from sise_ort.cli.console import progress_bar, say

    started = told = time.monotonic()

    def tell(done: int, everything: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= 60 or done == everything:
            told = now
            left = (now - started) / done * (everything - done)
            say(f"{done} of {everything} samples, {left / 60:.0f} min left")

    with progress_bar("samples") as update:
        yield update or tell
