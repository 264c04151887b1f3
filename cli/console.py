"""Messages and progress on standard error; standard output is for results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One message, on standard error."""
    click.echo(message, err=True)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing elsewhere; yields a function of (done, in all)."""
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
        task = progress.add_task(description, total=None)

        def update(done: int, everything: int) -> None:
            progress.update(task, completed=done, total=everything)

        yield update


def print_table(headers: list[str], rows: list[list[Any]], *, right: tuple[int, ...] = ()) -> None:
    """A table on standard output; plain and uncut where that is no terminal."""
    console = Console()
    if not console.is_terminal:
        cells = [headers, *[[str(c) for c in row] for row in rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
        for row in cells:
            parts = [
                c.rjust(w) if i in right else c.ljust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            click.echo("  ".join(parts).rstrip())
        return
    table = Table(box=None, pad_edge=False)
    for i, header in enumerate(headers):  # names are folded, never cut: they are to be copied
        table.add_column(header, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[escape(str(c)) for c in row])
    console.print(table)
