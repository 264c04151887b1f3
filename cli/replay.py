"""sise-ort replay EVIDENCE PART|RECORD BUNDLE"""

from __future__ import annotations

import click

from sise_ort.cli.evidence import files_option
from sise_ort.cli.options import ProviderName


@click.command("replay")
@click.argument("place", metavar="EVIDENCE")
@click.argument("part", metavar="PART|RECORD")
@click.argument("bundle", metavar="BUNDLE")
@files_option
@click.option(
    "--provider",
    type=ProviderName(),
    metavar="NAME",
    help="ONNX Runtime execution provider to run on [the recorded one].",
)
@click.option("-o", "out", metavar="FOLDER", help="Folder to write today's overlays and heat maps into.")
def command(
    place: str, part: str, bundle: str, files: str | None, provider: str | None, out: str | None
) -> None:
    """Compute a part's heat maps again, and say whether they are the same.

    On the same machine's CPU with the same versions, maps are the same bit for bit; elsewhere they are alike, with a
    correlation of 0.99 or more. What differs is listed. The exit code is 1 where less than that is found. EVIDENCE is a
    folder or a database's URL, PART a part's name or a record's LINE:NUMBER, BUNDLE the bundle that the record names.

    \b
    sise-ort replay evidence 48213 steel.sise
    """
    from sise_ort.cli.console import say
    from sise_ort.cli.evidence import opened
    from sise_ort.line.evidence.finding import one
    from sise_ort.line.replay import open_bundle, replay

    with opened(place, files) as evidence:
        kept = one(evidence, part)
        with open_bundle(kept, bundle, provider) as explainer:
            found = replay(evidence, kept, explainer)
    for repeated in found.repeated:
        same = (
            "the same, bit for bit"
            if repeated.same
            else f"correlation {repeated.correlation:.4f}, largest difference {repeated.largest:.4f}"
        )
        click.echo(f"{repeated.label}: {same}; confidence {repeated.then:.4f} then, {repeated.now:.4f} now")
    for difference in found.differences:
        click.echo(difference)
    if out is not None:
        for explanation in found.explanations:
            for path in explanation.save(out, f"{kept.part.part_id}-{explanation.label}"):
                say(str(path))
    say(f"part {kept.part.part_id}, record {kept.part.line}:{kept.number}: {found.verdict}")
    if not found.expected:
        raise click.exceptions.Exit(1)
