"""sise-ort watch SOURCE BUNDLE -o EVIDENCE"""

from __future__ import annotations

from typing import Any

import click

from sise_ort.cli.options import (
    LONGEST_DEADLINE_MS,
    Names,
    Number,
    batch_size_option,
    precision_option,
    provider_option,
    threads_option,
    untrusted_option,
)


@click.command("watch")
@click.argument("source", metavar="SOURCE")
@click.argument("bundle", metavar="BUNDLE", type=click.Path())
@click.option(
    "-o",
    "--evidence",
    required=True,
    metavar="FOLDER|URL",
    help="Where records go: a folder, or a database's URL such as postgresql://user@host/steel.",
)
@click.option(
    "--files",
    metavar="FOLDER|URL",
    help="Where pictures and maps go: a folder, or a store such as s3://bucket/line [beside the records].",
)
@click.option(
    "--line",
    "name",
    default="line",
    show_default=True,
    help="Name of this line; records of each line form one chain.",
)
@click.option(
    "--class",
    "explain",
    type=Names(),
    help="Comma-separated labels that make a part a reject, and that are explained [all].",
)
@click.option(
    "--threshold",
    type=Number(-1e30, 1e30),
    default=0.5,
    show_default=True,
    help="Confidence from which on a class makes a part a reject.",
)
@click.option(
    "--deadline-ms",
    type=Number(0, LONGEST_DEADLINE_MS, above=True),
    help="Milliseconds from a frame's arrival to the explanation of a reject [none].",
)
@click.option(
    "--policy",
    type=click.Choice(["oldest", "newest", "no-passes"]),
    default="oldest",
    show_default=True,
    help="Rejects to explain where too many wait: the first ones, the last ones, or all, further ones by maps without scored masks.",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 1_000_000),
    default=64,
    show_default=True,
    help="Number of a camera's frames that may wait to be classified; more are recorded as unclassified.",
)
@click.option(
    "--rejects",
    type=click.IntRange(1, 1_000_000),
    default=16,
    show_default=True,
    help="Number of rejects that may wait to be explained.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of SISE, such as passes=64 or mu=0.3; repeatable.",
)
@click.option(
    "--keep-frames",
    "frames",
    type=click.Choice(["all", "rejects", "none"]),
    default="rejects",
    show_default=True,
    help="Parts whose pictures are kept; those of rejects include unreadable ones.",
)
@click.option(
    "--after",
    type=click.Choice(["keep", "move"]),
    default="keep",
    show_default=True,
    help="Leave a folder's pictures where they are, or move them into done, failed and quarantined when their records are safe.",
)
@click.option(
    "--into",
    type=click.Path(file_okay=False),
    help="Folder for done, failed and quarantined [the watched folder].",
)
@click.option(
    "--pattern",
    "patterns",
    type=Names(),
    help="Comma-separated names of a folder's pictures, such as *.png,*.bmp [all common formats].",
)
@click.option(
    "--settle-ms",
    type=Number(0, 3_600_000),
    default=1000,
    show_default=True,
    help="Milliseconds without a change after which a file counts as complete, where its writer has not closed or renamed it.",
)
@click.option(
    "--once", is_flag=True, help="End when the pictures that are in the folder have been looked at."
)
@click.option(
    "--every",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    help="Take every N-th frame of a video or camera.",
)
@click.option(
    "--checks",
    is_flag=True,
    help="Check whether each map is to be trusted: sound, weak or none, with the reason (docs/trust.md).",
)
@click.option(
    "--part-mask",
    type=click.Path(exists=True, dir_okay=False),
    help="Picture of the frame's size that is not black where the part is; --checks then tells the heat off the part.",
)
@click.option(
    "--mm-per-pixel",
    type=Number(0, 1e6, above=True),
    help="Millimetres per pixel of the frame, for regions in millimetres.",
)
@click.option(
    "--grid",
    metavar="ROWSxCOLUMNS",
    help="Say which share of the heat lies in each cell of a grid, such as 2x8.",
)
@click.option(
    "--zone",
    "zones",
    multiple=True,
    metavar="NAME=TOP,LEFT,BOTTOM,RIGHT",
    help="Say which share of the heat lies in a box of the frame, in pixels; repeatable.",
)
@click.option(
    "--webhook",
    "webhooks",
    multiple=True,
    metavar="[NAME=]URL",
    help="Send a message about each part to this address by POST; repeatable.",
)
@click.option(
    "--mqtt",
    "brokers",
    multiple=True,
    metavar="[NAME=]URL",
    help="Publish a message about each part, such as at mqtt://host/plant/line; repeatable.",
)
@click.option(
    "--spool",
    type=click.Path(file_okay=False),
    help="Folder in which records wait while the database is away [they wait in memory].",
)
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Serve Prometheus metrics at this port; the host is this machine's own unless another one is named.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each part as one line of JSON when its record is safe."
)
@provider_option
@precision_option
@untrusted_option
@batch_size_option
@threads_option
def command(source: str, bundle: str, **given: Any) -> None:
    """Watch a folder, video or camera, explain rejects, and keep evidence.

    SOURCE is a folder, a video file, an address such as rtsp://host/line, the number of a camera, or - for paths on standard
    input. Every part leaves a record. Files that have a record are not taken again, so that the command can be stopped and
    started at any time. It ends with SIGTERM or Ctrl-C, after what it has begun, with exit code 0. Needs the extra `line`;
    docs/line.md says more.

    \b
    sise-ort watch incoming steel.sise -o evidence
    sise-ort watch incoming steel.sise -o evidence --class crack,patch --deadline-ms 150 --after move
    sise-ort watch rtsp://camera/strip steel.sise -o evidence --every 5 --mqtt mqtt://broker/steel
    """
    from sise_ort.errors import MissingDependencyError

    try:
        from sise_ort.cli.watching import watch
    except ImportError as error:
        if (error.name or "").startswith("sise_ort"):
            raise
        raise MissingDependencyError(
            f"`sise-ort watch` needs the package {error.name}: pip install 'sise-ort[line]'"
        ) from error
    watch(source, bundle, given)
