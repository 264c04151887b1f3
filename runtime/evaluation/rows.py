"""The rows of an evaluation on disk: one per sample and variant, appended as they are found, never half a row."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sise_ort.errors import OutputError

Row = dict[str, Any]
WORDS = ("sample", "variant", "label", "notes")


class Rows:
    """A CSV file that survives being killed: a torn last line is cut off when it is opened again.

    Parameters
    ----------
    path : rows.csv, made where missing. columns : of every row.

    Raises
    ------
    OutputError : the file has other columns, or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        try:
            content = path.read_bytes() if path.is_file() else b""
            whole = content[: content.rfind(b"\n") + 1]
            if not whole:
                whole = self._lines([self.columns])
            if whole != content:
                path.write_bytes(whole)
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error
        header, *lines = csv.reader(io.StringIO(whole.decode(), newline=""))
        if header != self.columns:
            raise OutputError(f"'{path}' has the columns {', '.join(header)}; delete it to begin anew")
        self.all: list[Row] = [self._typed(dict(zip(header, cells, strict=True))) for cells in lines]

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows, on the disk when this returns."""
        if not rows:
            return
        try:
            with self.path.open("ab") as stream:
                stream.write(self._lines([[row[c] for c in self.columns] for row in rows]))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write '{self.path}': {error.strerror or error}; what was found before is kept, start again "
                "to go on"
            ) from error
        self.all += [self._typed({c: str(row[c]) for c in self.columns}) for row in rows]

    @staticmethod
    def _lines(cells: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(cells)
        return text.getvalue().encode()

    @staticmethod
    def _typed(row: dict[str, str]) -> Row:
        return {key: value if key in WORDS else float(value) for key, value in row.items()}
