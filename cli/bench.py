"""sise-ort bench BUNDLE"""

from __future__ import annotations

import json

import click

from sise_ort.cli.options import precision_option, provider_option, threads_option, untrusted_option


@click.command("bench")
@click.argument("bundle", type=click.Path())
@provider_option
@precision_option
@threads_option
@untrusted_option
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of times each batch size is timed; the median counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record instead of a table.")
def command(
    bundle: str,
    provider: str,
    precision: str,
    threads: int | None,
    untrusted: bool,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure the best batch size on this machine, and remember it.

    From then on, this bundle uses that batch size on this machine, unless --batch-size says another. The file that keeps
    it may be deleted at any time.

    \b
    sise-ort bench resnet50.sise
    """
    import sise_ort
    from sise_ort.cli.console import print_table, say
    from sise_ort.runtime.batch_sizes import measure, remember

    explainer = sise_ort.load(bundle, provider, threads=threads, trusted=not untrusted, precision=precision)
    for note in explainer.notes:
        say(f"note: {note}")
    model = explainer.model
    curve = measure(model, rounds=rounds)
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
