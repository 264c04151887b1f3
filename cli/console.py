"""Messages and progress on standard error; standard output is for results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sise_ort.errors import printable, shortened

LONGEST = 48
"""Characters of what stands in front of a bar, so that a terminal of 80 columns shows the time left, too."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one message on standard error, without anything that could harm a terminal."""
    click.echo(printable(message), err=True)


@contextmanager
def progress_bar(
    description: str, left: Callable[[], float | None] | None = None
) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar with the time left on a terminal, nothing elsewhere.

    Parameters
    ----------
    description : str
        What stands in front of the bar.
    left : callable, optional
        Seconds left, or None while nobody knows; by default they follow from the bar's own pace.

    Yields
    ------
    callable or None
        A function of (done, in all).
    """
    if not errors.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn() if left is None else TextColumn("{task.fields[left]}", markup=False),
        TextColumn("left"),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(shortened(printable(description), LONGEST), total=None, left=clock(None))

        def update(done: int, everything: int) -> None:
            seconds = None if left is None else left()
            progress.update(task, completed=done, total=everything, left=clock(seconds))

        yield update


def clock(seconds: float | None) -> str:
    """Seconds as a clock shows them, "0:01:15"; "-:--:--" where they are not known."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def print_table(headers: list[str], rows: list[list[Any]], *, right: tuple[int, ...] = ()) -> None:
    """Print a table on standard output; plain and uncut where that is no terminal."""
    console = Console()
    headers = [printable(h) for h in headers]
    rows = [[printable(c) for c in row] for row in rows]
    if not console.is_terminal:
        cells = [headers, *rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
        for row in cells:
            parts = [
                c.rjust(w) if i in right else c.ljust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            click.echo("  ".join(parts).rstrip())
        return
    table = Table(box=None, pad_edge=False)
    # Text: nothing in a name is markup. Names are folded, never cut: they are to be copied.
    for i, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(c) for c in row])
    console.print(table)
