"""sise-ort evaluate BUNDLE --dataset KIND PATH --methods … -o FOLDER"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sise_ort.cli.options import (
    Names,
    batch_size_option,
    precision_option,
    provider_option,
    untrusted_option,
)

if TYPE_CHECKING:
    from sise_ort.runtime.evaluation import Evaluation, Summary, Variant

MOST_PROBLEMS = 20
"""Problems named on standard error; the page lists all."""


@click.command("evaluate")
@click.argument("bundle", type=click.Path())
@click.option(
    "--dataset",
    required=True,
    nargs=2,
    metavar="KIND PATH",
    help="Kind of data set (voc, coco, severstal, imagenet or folder) and its folder.",
)
@click.option(
    "--dataset-set",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an option of the data set, such as split=val. Repeatable.",
)
@click.option(
    "--methods", type=Names(), default="sise,gradcam", show_default=True, help="Methods to compare."
)
@click.option(
    "--mu",
    "mus",
    type=Names(),
    metavar="MU,…",
    help='Thresholds to try with SISE, in [0, 1) or "adaptive" [0].',
)
@click.option(
    "--passes",
    type=Names(),
    metavar="N,…",
    help="Budgets to try with SISE: score at most N masks, at the first threshold of --mu.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="METHOD.NAME=VALUE",
    help="Set a parameter of a method, such as rise.masks=2000. Repeatable.",
)
@click.option(
    "--metrics",
    type=Names(),
    help="Metrics to compute, out of ebpg, miou, bbox, drop, increase, insertion, deletion [all].",
)
@click.option("--limit", type=click.IntRange(1), help="Evaluate at most N samples, chosen at random.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the random choice made by --limit.",
)
@click.option(
    "--class",
    "explain",
    type=click.Choice(["truth", "top"]),
    default="truth",
    show_default=True,
    help="Class to explain: the data set's (truth) or the network's top class (top).",
)
@click.option(
    "--class-map",
    type=click.Path(exists=True, dir_okay=False),
    help="JSON file that maps the data set's classes to the network's labels or indices.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 10_000),
    default=32,
    show_default=True,
    help="Number of steps of insertion and deletion.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of processes that share the cores.",
)
@provider_option
@precision_option
@batch_size_option
@untrusted_option
@click.option(
    "--gallery",
    type=click.IntRange(0, 10_000),
    default=12,
    show_default=True,
    help="Number of samples to show on the page with every method's heat map.",
)
@click.option(
    "--recommend",
    "recommended",
    is_flag=True,
    help="Say which method to choose, at which price, and how sure that is.",
)
@click.option(
    "--report",
    "only_report",
    is_flag=True,
    help="Write the report of the rows that are there, without explaining anything.",
)
@click.option(
    "-o",
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder to write rows and report to.",
)
def command(
    bundle: str,
    dataset: tuple[str, str],
    dataset_set: tuple[str, ...],
    methods: list[str],
    mus: list[str] | None,
    passes: list[str] | None,
    settings: tuple[str, ...],
    metrics: list[str] | None,
    limit: int | None,
    seed: int,
    explain: str,
    class_map: str | None,
    steps: int,
    workers: int,
    provider: str,
    precision: str,
    batch_size: int | None,
    untrusted: bool,
    gallery: int,
    recommended: bool,
    only_report: bool,
    folder: str,
) -> None:
    """Compare the quality and the price of methods on a data set.

    The same command goes on with an evaluation that was stopped; further methods and samples can be added. Writes
    evaluation.sqlite (a row per sample and method), the same rows as rows.csv and rows.parquet, summary.md,
    summary.json, plots, gallery/ and index.html. Samples that cannot be used are left out, counted and listed.

    \b
    sise-ort evaluate voc.sise --dataset voc VOCdevkit/VOC2007 --methods sise,gradcam --mu 0,0.3,adaptive -o out
    sise-ort evaluate steel.sise --dataset severstal severstal --methods sise,rise --set rise.masks=2000 --limit 100 -o out
    """
    from sise_ort.cli.console import say
    from sise_ort.cli.options import pairs
    from sise_ort.cli.waiting import watched
    from sise_ort.datasets import open_dataset
    from sise_ort.runtime.evaluation import METRICS, Plan, evaluate, recommend, summarise

    plan = Plan(
        bundle=bundle,
        variants=_variants(methods, mus or [], passes or [], settings),
        metrics=tuple(metrics or METRICS),
        steps=steps,
        explain=explain,
        class_map=_class_map(class_map),
        provider=provider,
        precision=precision,
        batch_size=batch_size,
        gallery=gallery,
        trusted=not untrusted,
    )
    data = open_dataset(*dataset, **{n: _value(t) for n, t in pairs(dataset_set, "--dataset-set").items()})
    say(f"{len(data.samples)} samples, {len(data.problems)} problems in the data set")
    more: dict[str, Any] = {"limit": limit, "seed": seed, "workers": workers, "only_report": only_report}
    with watched("samples", after=2) as progress:
        found = evaluate(plan, data, folder, progress=progress, **more)
    summary = summarise(found)
    _write(found, summary, Path(folder), f"{Path(bundle).stem} on {data.kind} ({data.root.resolve().name})")
    _print(summary)
    if recommended:
        click.echo(recommend(found, summary))
    click.echo(Path(folder) / "index.html")
    if not found.rows:
        raise click.ClickException("no heat map could be judged; the report says why")


def _write(found: Evaluation, summary: Summary, folder: Path, title: str) -> None:
    """Write summary, plots and page."""
    from sise_ort.cli.console import say
    from sise_ort.cli.evaluation.page import page
    from sise_ort.cli.evaluation.plots import write_plots
    from sise_ort.files import write_file

    write_file(folder / "summary.json", summary.to_json().encode("utf-8", "backslashreplace"))
    write_file(folder / "summary.md", summary.to_markdown().encode("utf-8", "backslashreplace"))
    try:
        plots = write_plots(summary, folder)
    except ImportError as error:
        say(f"no plots: {error}; pip install 'sise-ort[evaluate]'")
        plots = []
    write_file(folder / "index.html", page(found, summary, folder, plots, title))


def _print(summary: Summary) -> None:
    """The table on standard output; statements and problems on standard error."""
    from sise_ort.cli.console import print_table, say

    headers, rows = summary.cells(short=True)
    print_table(headers, rows, right=tuple(range(1, len(headers))))
    for words in summary.statements:
        say(words)
    for words in summary.problems[:MOST_PROBLEMS]:
        say(f"left out: {words}")
    if len(summary.problems) > MOST_PROBLEMS:
        say(f"left out: {len(summary.problems) - MOST_PROBLEMS} more, listed in index.html")


def _variants(
    methods: list[str], mus: list[str], passes: list[str], settings: tuple[str, ...]
) -> tuple[Variant, ...]:
    """The methods with their parameters, from the command line's words."""
    from sise_ort.cli.options import pairs
    from sise_ort.errors import ParameterError, option
    from sise_ort.runtime.evaluation.plan import variants
    from sise_ort.runtime.methods import METHODS, method_named

    for name, values in (("mu", mus), ("passes", passes)):
        owners = [method.name for method in METHODS.values() if name in method.defaults()]
        if values and not set(owners) & set(methods):
            raise ParameterError(
                f"{option(name)} is for method {', '.join(owners)}, which is not among --methods"
            )
    found: dict[str, dict[str, Any]] = {}
    for place, value in pairs(settings, "--set", "METHOD.NAME=VALUE").items():
        method, dot, name = place.partition(".")
        if not dot:
            raise ParameterError(f"--set {place}={value}: METHOD.NAME=VALUE is needed")
        found.setdefault(method, {})[name] = method_named(method).parse(name, value)
    return variants(methods, [_value(mu) for mu in mus], found, [_value(number) for number in passes])


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
        if not Path(path).is_file():
            raise ParameterError(f"--class-map '{path}' is no regular file")
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ParameterError(f"--class-map '{path}' cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise ParameterError(f"--class-map '{path}' is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"--class-map '{path}' is not JSON: {error}") from error
    if not isinstance(found, dict) or any(
        isinstance(v, bool) or not isinstance(v, (int, str)) for v in found.values()
    ):
        raise ParameterError(
            f'--class-map \'{path}\': an object such as {{"1": "scratch", "2": 3}} is needed'
        )
    return found
