"""The rows of a benchmark on disk, in a CSV file: appended as they are found, never half a row."""

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
    path : rows.csv, made where missing. columns : of every row. write : False only looks, and changes nothing.

    Raises
    ------
    OutputError : the file has other columns, cannot be written, or another process is writing to it.
    """

    def __init__(self, path: Path, columns: Sequence[str], write: bool = True) -> None:
        self.path, self.columns = path, list(columns)
        self._stream = None
        try:
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = path.open("a+b")
                self._lock()
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1] or self._lines([self.columns])
            if self._stream is not None and whole != content:
                self._stream.truncate(len(whole) if content.startswith(whole) else 0)
                if not content.startswith(whole):
                    self._write(whole)
        except OSError as error:
            self.close()
            raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error
        header, *lines = csv.reader(io.StringIO(whole.decode(), newline=""))
        if header != self.columns:
            self.close()
            raise OutputError(f"'{path}' has the columns {', '.join(header)}; delete it to begin anew")
        self.all: list[Row] = [self._typed(dict(zip(header, cells, strict=True))) for cells in lines]

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            self._stream.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows, on the disk when this returns."""
        if not rows:
            return
        try:
            self._write(self._lines([[row[c] for c in self.columns] for row in rows]))
        except OSError as error:
            raise OutputError(
                f"cannot write '{self.path}': {error.strerror or error}; what was found before is kept, start again "
                "to go on"
            ) from error
        self.all += [self._typed({c: str(row[c]) for c in self.columns}) for row in rows]

    def _write(self, content: bytes) -> None:
        assert self._stream is not None
        self._stream.write(content)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _lock(self) -> None:
        """Keep other processes from writing; the system lets go when this one ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        assert self._stream is not None
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise OutputError(
                f"another evaluation is writing to '{self.path}': wait for it, or choose another folder"
            ) from error

    @staticmethod
    def _lines(cells: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(cells)
        return text.getvalue().encode()

    @staticmethod
    def _typed(row: dict[str, str]) -> Row:
        return {key: value if key in WORDS else float(value) for key, value in row.items()}
