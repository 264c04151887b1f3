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

from sise_ort.errors import printable

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one message on standard error, without anything that could harm a terminal."""
    click.echo(printable(message), err=True)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal, nothing elsewhere; yields a function of (done, in all)."""
    if not errors.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(printable(description), total=None)

        def update(done: int, everything: int) -> None:
            progress.update(task, completed=done, total=everything)

        yield update


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
