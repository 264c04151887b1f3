"""sise-ort bench BUNDLE"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sise_ort.cli.options import Names, precision_option, provider_option, threads_option, untrusted_option

if TYPE_CHECKING:
    from sise_ort.bundle import Manifest
    from sise_ort.runtime.fastest import Timing

MOST_PICTURES = 8
"""Pictures of a folder that are explained; of more, every so manieth."""


@click.command("bench")
@click.argument("bundle", type=click.Path())
@provider_option
@precision_option
@click.option(
    "--providers",
    type=Names(),
    metavar="all|NAME,…",
    help="Compare these providers side by side, in every precision that works here, instead of batch sizes.",
)
@click.option(
    "--pictures",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder of pictures whose heat maps --providers compares [one drawn picture].",
)
@threads_option
@untrusted_option
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of times each batch size or provider is timed; the median counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record instead of a table.")
def command(
    bundle: str,
    provider: str,
    precision: str,
    providers: list[str] | None,
    pictures: str | None,
    threads: int | None,
    untrusted: bool,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure the best batch size or provider on this machine, and remember it.

    From then on, this bundle uses that batch size on this machine, unless --batch-size says another, and provider auto
    takes that provider. A lower precision is measured, but never taken unless --precision asks for it. The file that keeps
    all this may be deleted at any time.

    \b
    sise-ort bench resnet50.sise
    sise-ort bench resnet50.sise --providers all --pictures photos
    """
    import sise_ort
    from sise_ort.cli.console import print_table, say
    from sise_ort.cli.waiting import watched
    from sise_ort.errors import ParameterError
    from sise_ort.runtime.batch_sizes import measure, remember

    if providers is not None:
        if provider != "auto" or precision != "auto":
            raise ParameterError("--providers measures all precisions: leave --provider and --precision out")
        _compare(bundle, providers, pictures, threads, untrusted, rounds, as_json)
        return
    if pictures is not None:
        raise ParameterError("--pictures is for --providers: add --providers all")
    explainer = sise_ort.load(bundle, provider, threads=threads, trusted=not untrusted, precision=precision)
    for note in explainer.notes:
        say(f"note: {note}")
    model = explainer.model
    with watched("rounds of all batch sizes", quiet=as_json) as progress:
        curve = measure(model, rounds=rounds, progress=progress)
    file = remember(explainer.manifest, model.provider, curve)
    if as_json:
        record = {
            "bundle": explainer.manifest.name,
            "provider": explainer.provider,
            "batch_size": curve.best,
            "milliseconds": {str(size): 1e3 * s for size, s in curve.seconds.items()},
            "file": str(file),
        }
        click.echo(json.dumps(record))
        return
    rows = [
        [size, f"{1e3 * s:.2f}", f"{1 / s:.0f}", "best" if size == curve.best else ""]
        for size, s in curve.seconds.items()
    ]
    print_table(["masks at once", "ms a mask", "masks a second", ""], rows, right=(0, 1, 2))
    say(f"kept in {file}")


def _compare(
    bundle: str,
    names: Sequence[str],
    folder: str | None,
    threads: int | None,
    untrusted: bool,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure providers side by side, print a table and what it recommends, and remember the fastest."""
    import sise_ort
    from sise_ort.bundle import read_bundle
    from sise_ort.cli.console import say
    from sise_ort.runtime.fastest import compare, drawn_picture, fastest, remember_provider
    from sise_ort.runtime.providers import listed

    manifest = read_bundle(bundle)
    wanted = _wanted(names, listed())
    pictures = _pictures(folder) if folder is not None else [drawn_picture(manifest)]

    def load(name: str, precision: str) -> Any:
        say(f"opening {name}" + (f" in {precision}" if precision != "auto" else ""))
        return sise_ort.load(bundle, name, threads=threads, trusted=not untrusted, precision=precision)

    found = compare(wanted, load, pictures, rounds)
    best = fastest(found, manifest.precision)
    file = remember_provider(manifest, threads, best, found)
    if as_json:
        record = {
            "bundle": manifest.name,
            "pictures": len(pictures) if folder is not None else 0,
            "measured": [_record(timing) for timing in found if not timing.reason],
            "not_measured": {_name(t): t.reason for t in found if t.reason},
            "auto": best.provider,
            "file": str(file),
        }
        click.echo(json.dumps(record))
        return
    _print(manifest, found, best, len(pictures) if folder is not None else 0)
    say(f"kept in {file}")


def _wanted(names: Sequence[str], there: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Providers and precisions to try for the names given with --providers."""
    if list(names) == ["all"]:
        return list(there)
    found = []
    for name in names:
        listed = [(provider, precision) for provider, precision in there if provider == name]
        found += listed or [(name, "auto")]
    return found


def _pictures(folder: str) -> list[str]:
    """Paths of at most `MOST_PICTURES` pictures of a folder, evenly spread over its names."""
    from sise_ort.errors import DatasetError

    try:
        files = sorted(str(p) for p in Path(folder).iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"cannot read the folder '{folder}': {error.strerror or error}") from error
    kinds = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
    files = [name for name in files if name.lower().endswith(kinds)]
    if not files:
        raise DatasetError(f"the folder '{folder}' holds no pictures ({', '.join(kinds)})")
    step = max(1, len(files) // MOST_PICTURES)
    return files[::step][:MOST_PICTURES]


def _name(timing: Timing) -> str:
    """A provider with its precision, where that was asked for."""
    return timing.provider if timing.precision == "auto" else f"{timing.provider} in {timing.precision}"


def _record(timing: Timing) -> dict[str, Any]:
    """What was measured, for JSON."""
    return {
        "provider": timing.provider,
        "precision": timing.precision,
        "ms_a_pass": 1e3 * timing.speed,
        "seconds_64_passes": timing.seconds if timing.explanations else None,
        "correlations": list(timing.correlations),
    }


def _print(manifest: Manifest, found: Sequence[Timing], best: Timing, pictures: int) -> None:
    """Print the table, what was not measured, and the recommendation."""
    from sise_ort.cli.console import print_table, say

    measured = [timing for timing in found if not timing.reason]
    rows = []
    for t in measured:
        same = t.correlations
        rows.append(
            [
                t.provider,
                t.precision,
                f"{1e3 * t.speed:.2f}",
                f"{t.seconds:.3f}" if t.explanations else "",
                f"{measured[0].seconds / t.seconds:.2f}",
                f"{sum(same) / len(same):.4f}" if same else "",
                f"{min(same):.4f}" if same else "",
                "auto" if t is best else "",
            ]
        )
    heads = [
        "provider",
        "precision",
        "ms a pass",
        "s of 64 passes",
        "times the CPU's speed",
        "correlation",
        "least",
        "",
    ]
    print_table(heads, rows, right=(2, 3, 4, 5, 6))
    for t in found:
        if t.reason:
            say(f"not measured: {_name(t)}: {t.reason}")
    if not pictures:
        say(
            "note: heat maps of one drawn picture say little about yours: --pictures FOLDER compares those of your pictures"
        )
    say(f"provider auto takes {best.provider} from now on")
    lower = [t for t in measured if t.precision != manifest.precision and t.seconds < best.seconds]
    for t in sorted(lower, key=lambda timing: timing.seconds)[:1]:
        least = f", heat maps correlate by {min(t.correlations):.3f} or more" if t.correlations else ""
        say(
            f"faster by {best.seconds / t.seconds:.2f}, where less precision will do: --provider {t.provider} --precision "
            f"{t.precision}{least}"
        )
