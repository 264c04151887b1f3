"""sise-ort evidence list|show|export|prune|verify EVIDENCE"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sise_ort.cli.options import Number

if TYPE_CHECKING:
    from sise_ort.line.evidence import Evidence
    from sise_ort.line.evidence.finding import Filter, Kept

F = TypeVar("F", bound=Callable[..., Any])
DECISIONS = ("accepted", "rejected", "unclassified", "failed")

place = click.argument("place", metavar="EVIDENCE")
files_option = click.option(
    "--files",
    metavar="PLACE",
    help="Folder or store of the pictures and maps [the one that the database knows].",
)


def filters(function: F) -> F:
    """Add the options that say which records are meant."""
    for decorate in reversed(
        [
            click.option("--line", metavar="NAME", help="Take the records of this line only."),
            click.option("--part", "parts", metavar="PATTERN", help="Take parts of this name only; * stands for any characters."),
            click.option("--decision", type=click.Choice(DECISIONS), help="Take parts with this decision only."),
            click.option("--class", "label", metavar="LABEL", help="Take parts that this class decided only."),
            click.option("--verdict", type=click.Choice(("sound", "weak", "none")), help="Take parts whose maps have this verdict only."),
            click.option("--since", metavar="WHEN", help="Take parts from this moment on: 2026-11-25, 2026-11-25T14:30 (UTC), or 24h ago."),
            click.option("--before", metavar="WHEN", help="Take parts before this moment only."),
            click.option("--least-confidence", type=Number(-1e12, 1e12), help="Take parts of this confidence or more only."),
            click.option("--most-confidence", type=Number(-1e12, 1e12), help="Take parts of this confidence or less only."),
        ]
    ):  # fmt: skip
        function = decorate(function)
    return function


@click.group("evidence", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def command() -> None:
    """List, show, export, prune and verify the records of parts.

    EVIDENCE is the folder that `sise-ort watch` writes into, or a database's URL such as postgresql://user@host/steel.
    A PART is a part's name; a record can be named by LINE:NUMBER or the first digits of its link, too. Needs the extra `line`.

    \b
    sise-ort evidence list evidence --decision rejected --since 24h
    sise-ort evidence show evidence 48213
    sise-ort evidence export evidence 48213 -o 48213.zip
    sise-ort evidence verify evidence --head 5f2a…
    """


@command.command("list")
@place
@files_option
@filters
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Number of records to list at most.",
)
@click.option("--oldest-first", is_flag=True, help="Begin with the oldest record.")
@click.option("--json", "as_json", is_flag=True, help="Print each record as one line of JSON.")
def list_records(
    place: str, files: str | None, limit: int, oldest_first: bool, as_json: bool, **wanted: Any
) -> None:
    """List records, the newest first.

    \b
    sise-ort evidence list evidence --decision rejected --verdict weak --since 2026-11-01
    """
    from sise_ort.cli.console import print_table, say
    from sise_ort.line.evidence.finding import count, find

    rows = []
    with opened(place, files) as evidence:
        chosen = filter_of(wanted)
        for kept in find(evidence, chosen, most=limit, newest_first=not oldest_first):
            if as_json:
                click.echo(json_of(kept))
            else:
                rows.append(_row(kept))
        if not as_json:
            print_table(
                ["record", "submitted (UTC)", "part", "decision", "class", "confidence", "verdict", "region"],
                rows,
                right=(5,),
            )
            if (whole := count(evidence, chosen)) > len(rows):
                say(f"{len(rows)} of {whole} records; --limit shows more")


@command.command("show")
@place
@click.argument("part", metavar="PART|RECORD")
@files_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole record as JSON.")
def show(place: str, part: str, files: str | None, as_json: bool) -> None:
    """Show one part's newest record, or the record that is named.

    \b
    sise-ort evidence show evidence 48213
    sise-ort evidence show evidence line:17 --json
    """
    from sise_ort.line.evidence.finding import one

    with opened(place, files) as evidence:
        kept = one(evidence, part)
    if as_json:
        click.echo(json_of(kept))
    else:
        from sise_ort.errors import printable

        for line in words_of(kept):
            click.echo("  " * (len(line) - len(line.lstrip()) > 0) + printable(line.strip()))


@command.command("export")
@place
@click.argument("part", metavar="[PART|RECORD]", required=False)
@files_option
@click.option(
    "-o", "out", required=True, metavar="FILE", help="File to write: .csv or .parquet, or .zip for one part."
)
@filters
def export(place: str, part: str | None, files: str | None, out: str, **wanted: Any) -> None:
    """Write records as a table, or one part with all its files as a zip file.

    In CSV an apostrophe stands in front of texts that a spreadsheet would take for a formula.

    \b
    sise-ort evidence export evidence --since 2026-11-01 -o november.csv
    sise-ort evidence export evidence --decision rejected -o rejects.parquet
    sise-ort evidence export evidence 48213 -o 48213.zip
    """
    from pathlib import Path

    from sise_ort.cli.console import say
    from sise_ort.errors import ParameterError, option
    from sise_ort.line.evidence.exporting import write_csv, write_parquet, write_zip
    from sise_ort.line.evidence.finding import find, one

    path = Path(out)
    ending = path.suffix.lower()
    if part is not None and ending != ".zip":
        raise ParameterError(f"{option('out')} is '{out}'; one part is written as a .zip file")
    if part is None and ending not in (".csv", ".parquet"):
        raise ParameterError(
            f"{option('out')} is '{out}'; a table is a .csv or .parquet file, one PART a .zip file"
        )
    with opened(place, files) as evidence:
        if part is not None:
            names = write_zip(evidence, one(evidence, part), path)
            say(f"{out}: {', '.join(names)}")
            return
        write = write_csv if ending == ".csv" else write_parquet
        say(f"{out}: {write(find(evidence, filter_of(wanted), newest_first=False), path)} records")


@command.command("prune")
@place
@files_option
@click.option(
    "--keep", metavar="DURATION", help="Remove parts that are no rejects after this time, such as 90d."
)
@click.option(
    "--keep-rejects",
    metavar="DURATION",
    help="Remove rejects after this time, such as 10y; without it they stay.",
)
@click.option(
    "--size",
    metavar="SIZE",
    help="Remove the oldest until all fit in this size, such as 500GB; rejects go last.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def prune_records(
    place: str, files: str | None, keep: str | None, keep_rejects: str | None, size: str | None, dry_run: bool
) -> None:
    """Remove old records with their files; their digests stay in the chain.

    Each pruning leaves a checkpoint in the chain that says which records went, when and by which rule. Files that no record
    holds, as a writer that was killed leaves them, are removed after an hour.

    \b
    sise-ort evidence prune evidence --keep 90d --keep-rejects 10y
    sise-ort evidence prune evidence --size 500GB --dry-run
    """
    from sise_ort.cli.console import say
    from sise_ort.line.evidence.amounts import seconds
    from sise_ort.line.evidence.amounts import size as bytes_of
    from sise_ort.line.evidence.retention import Retention, prune

    retention = Retention(
        None if keep is None else seconds("keep", keep),
        None if keep_rejects is None else seconds("keep_rejects", keep_rejects),
        None if size is None else bytes_of("size", size),
    )
    with opened(place, files) as evidence:
        done = prune(evidence, retention, dry_run=dry_run)
    if dry_run:
        say(
            f"{done.records} records would be removed ({done.size / 1e6:.1f} MB without files that others hold)"
        )
    else:
        say(f"{done.records} records and {done.files} files removed, {done.size / 1e6:.1f} MB")


@command.command("verify")
@place
@files_option
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="HASH",
    help="Digest of a chain's head that was kept elsewhere; repeatable.",
)
@click.option("--sizes-only", is_flag=True, help="Look at the sizes of files, and do not read them.")
def verify_records(place: str, files: str | None, heads: tuple[str, ...], sizes_only: bool) -> None:
    """Check that no record and no file was changed, removed or put in.

    Prints each line's head: keep it elsewhere, and give it to --head later. Whoever may write into the database could make
    the whole chain anew, which only such a head shows. The exit code is 1 where something is wrong.

    \b
    sise-ort evidence verify evidence
    sise-ort evidence verify evidence --head 5f2ac1…
    """
    from sise_ort.cli.console import say
    from sise_ort.errors import ParameterError, option, shown
    from sise_ort.line.evidence.verifying import verify

    for head in heads:
        if len(head) != 64 or set(head.lower()) - set("0123456789abcdef"):
            raise ParameterError(f"{option('head')} is {shown(head)}; a head has 64 hexadecimal digits")
    with opened(place, files) as evidence:
        report = verify(evidence, heads, contents=not sizes_only)
    for finding in report.findings:
        say(finding)
    for line, (number, head) in report.heads.items():
        click.echo(f"{head}  {line}:{number}")
    seen = f"{report.parts} records, {report.pruned} digests of pruned ones, {report.files} files"
    say(f"{seen}: {'all as they were written' if report.good else f'{len(report.findings)} findings'}")
    if not report.good:
        raise click.exceptions.Exit(1)


def opened(place: str, files: str | None) -> Evidence:
    """Open evidence that is there.

    Raises
    ------
    MissingDependencyError
        SQLAlchemy is not installed.
    OutputError
        There is no evidence.
    """
    from sise_ort.errors import MissingDependencyError

    try:
        from sise_ort.line.evidence import Evidence
    except ImportError as error:
        if (error.name or "").startswith("sise_ort"):
            raise
        raise MissingDependencyError(
            f"evidence needs the package {error.name}: pip install 'sise-ort[line]'"
        ) from error
    return Evidence(place, files, create=False)


def filter_of(wanted: dict[str, Any]) -> Filter:
    """The filter that the options say."""
    from sise_ort.line.evidence.amounts import moment
    from sise_ort.line.evidence.finding import Filter

    facts = {**wanted, "trust": wanted.get("verdict")}
    facts.pop("verdict", None)
    for name in ("since", "before"):
        if facts.get(name) is not None:
            facts[name] = moment(name, facts[name])
    return Filter(**facts)


def json_of(kept: Kept) -> str:
    """A record as one line of JSON, with its number and link."""
    import msgspec

    return msgspec.json.encode({"number": kept.number, "link": kept.link, "record": kept.part}).decode()


def _row(kept: Kept) -> list[Any]:
    part = kept.part
    regions = [region for one in part.explanations for region in one.regions[:1]]
    where = ", ".join(map(str, regions[0].box)) if regions else ""
    confidence = f"{part.confidence:.3f}" if part.label else ""
    when = part.submitted.strftime("%Y-%m-%d %H:%M:%S")
    return [
        f"{part.line}:{kept.number}",
        when,
        part.part_id,
        part.decision,
        part.label,
        confidence,
        part.trust,
        where,
    ]


def words_of(kept: Kept) -> list[str]:
    """A record as lines of text; those of explanations begin with spaces."""
    part = kept.part
    found = [
        f"part {part.part_id}, record {part.line}:{kept.number}, link {kept.link}",
        f"submitted {part.submitted.isoformat()}",
        f"{part.decision}: {part.label} {part.confidence:.4f}" if part.label else part.decision,
    ]
    found += [part.reason] if part.reason else []
    found += (
        [
            f"bundle {part.model.get('bundle')} {part.model.get('bundle_sha256')} on {part.model.get('provider')}"
        ]
        if part.model
        else []
    )
    for one in part.explanations:
        found.append(f"{one.label}: {one.confidence:.4f}, {one.method}, {sum(one.mask_counts)} masks")
        found += [f"  verdict {one.verdict.trust}: {one.verdict.reason}"] if one.verdict.trust else []
        for region in one.regions:
            size = f", {region.area_mm2:.2f} mm²" if region.area_mm2 is not None else ""
            found.append(
                f"  region {', '.join(map(str, region.box))} (top, left, bottom, right): {100 * region.share:.1f} % of the heat, "
                f"peak {region.peak:.2f}, {region.area} pixels{size}"
            )
        found += [f"  zone {name}: {100 * share:.1f} % of the heat" for name, share in one.zones.items()]
    found += [f"file {file.role}: {file.name}, {file.size} bytes" for file in part.files]
    return [*found, *(f"{name}: {value}" for name, value in part.meta.items())]
