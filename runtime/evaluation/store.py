"""The rows of an evaluation on disk, in SQLite: one per sample and variant, kept as soon as they are found."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sise_ort.datasets.dataset import Problem
from sise_ort.errors import OutputError, ParameterError, SiseError, option
from sise_ort.files import remove_leftovers
from sise_ort.runtime.evaluation.lock import FolderLock

Row = dict[str, Any]
"""One heat map, judged: values by column."""

DATABASE = "evaluation.sqlite"
GALLERY = "gallery"
OUTPUTS = (
    "rows.csv", "rows.parquet", "summary.json", "summary.md", "index.html", "metric_against_seconds.png", "mu.png",
    GALLERY,
)  # fmt: skip
"""What an evaluation writes beside its database."""

APPLICATION = 0x53495345  # "SISE"
VERSION = 1
WAIT = 30.0
"""Seconds to wait for another process that is in the middle of a transaction."""

TEXTS = frozenset({"sample", "variant", "label", "conditions", "notes"})
COUNTS = frozenset({"target", "forward_passes", "backward_passes"})
SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE variants (name TEXT PRIMARY KEY, parameters TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE samples (name TEXT PRIMARY KEY, files TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE problems (sample TEXT, number INTEGER, file TEXT, line INTEGER, message TEXT,
                       PRIMARY KEY (sample, number)) WITHOUT ROWID;
CREATE TABLE rows ({columns}, checksum INTEGER NOT NULL, PRIMARY KEY (sample, variant)) WITHOUT ROWID;
"""
DIGESTS = {
    "the bundle": "another network, or an export with another fit, head, labels or blocks",
    "the data set": "other pictures, annotations or options",
}
"""Settings that are digests, and what may have changed them."""

TABLES = {"settings", "variants", "samples", "problems", "rows"}


def columns(metrics: Sequence[str]) -> list[str]:
    """List the names of a row's values, in the order of tables."""
    return [
        "sample", "variant", "label", "target", "confidence", *metrics,
        "tied", "forward_passes", "backward_passes", "seconds", "conditions", "notes",
    ]  # fmt: skip


class Store:
    """The database of an evaluation.

    Rows are on the disk when `keep` returns; a process that is killed loses only what it was working on. One process
    at a time writes; others may read meanwhile. Opening checks everything before anything is written.

    Parameters
    ----------
    folder : Path
        Folder of the evaluation; made, with its database, where missing.
    settings : Mapping
        What rows depend on and what must not change while rows are added, by name.
    variants : Mapping
        The parameters of each variant, by its name.
    write : bool
        False only reads.

    Raises
    ------
    ParameterError
        The folder holds an evaluation with other settings, or files that no evaluation of this version wrote.
    OutputError
        The database is damaged or cannot be written, or another process is writing to it.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        variants: Mapping[str, Mapping[str, Any]],
        write: bool = True,
    ) -> None:
        self.path = folder / DATABASE
        self._lock: FolderLock | None = None
        self._base: sqlite3.Connection | None = None
        self.columns = columns(settings["metrics"])
        self._settings = {name: _json(value) for name, value in settings.items()}
        self._variants = {name: _json(dict(parameters)) for name, parameters in variants.items()}
        try:
            self._look()
            if write:
                self._begin()
        except BaseException as error:
            self.close()
            if isinstance(error, SiseError) or not isinstance(error, (OSError, ValueError)):
                raise
            words = error.strerror if isinstance(error, OSError) else None  # ValueError: a name with NUL
            raise OutputError(f"cannot write to '{folder}': {words or error}") from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database; one that was written to becomes a single plain file."""
        if self._base is not None:
            if self._lock is not None:
                with suppress(sqlite3.Error):  # somebody reads it: it stays as it is, and whole
                    self._base.execute("PRAGMA busy_timeout = 1000")
                    self._base.execute("PRAGMA journal_mode = DELETE")
            with suppress(sqlite3.Error):
                self._base.close()
            self._base = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def rows(self) -> list[Row]:
        """Return all rows, by sample and variant.

        Returns
        -------
        list of dict
            Values by column, NaN where one has no meaning.

        Raises
        ------
        OutputError
            A row is not what was written.
        """
        found = []
        names = ", ".join(f'"{name}"' for name in self.columns)
        with self._translated():
            for *values, checksum in self._execute(
                f"SELECT {names}, checksum FROM rows ORDER BY sample, variant"
            ):
                if _checksum(values) != checksum:
                    raise sqlite3.DatabaseError("a row differs from its checksum")
                row = dict(zip(self.columns, values, strict=True))
                found.append({key: math.nan if value is None else value for key, value in row.items()})
        return found

    def problems(self) -> dict[str, list[Problem]]:
        """Return what was met when samples were evaluated last, by sample."""
        found: dict[str, list[Problem]] = {}
        with self._translated():
            statement = "SELECT sample, file, line, message FROM problems ORDER BY sample, number"
            for sample, *problem in self._execute(statement):
                found.setdefault(sample, []).append(Problem(*problem))
        return found

    def files(self) -> dict[str, Any]:
        """Return the files of every evaluated sample as they were, by sample."""
        with self._translated():
            return {
                name: json.loads(files) for name, files in self._execute("SELECT name, files FROM samples")
            }

    def keep(self, sample: str, rows: Sequence[Row], problems: Sequence[Problem], files: Any) -> None:
        """Add what became of a sample, on the disk when this returns.

        Parameters
        ----------
        sample : str
            Its name.
        rows : sequence of dict
            Its new rows; a row of the same variant is replaced.
        problems : sequence of Problem
            What was met; takes the place of what was met before.
        files : JSON value
            The sample's files as they are.

        Raises
        ------
        OutputError
            The disk is full…; everything before is kept.
        """
        values = [[_storable(name, row[name]) for name in self.columns] for row in rows]
        places = ", ".join("CAST(? AS TEXT)" if name in TEXTS else "?" for name in self.columns)
        with (
            self._translated("what was found before is kept, start again to go on"),
            self._transaction() as base,
        ):
            base.execute("DELETE FROM problems WHERE sample = CAST(? AS TEXT)", (_bound(sample),))
            base.executemany(
                "INSERT INTO problems VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT), ?, CAST(? AS TEXT))",
                [
                    (_bound(sample), i, _bound(p.file), p.line, _bound(p.message))
                    for i, p in enumerate(problems)
                ],
            )
            base.executemany(
                f"INSERT OR REPLACE INTO rows VALUES ({places}, ?)",
                [(*map(_bound, own), _checksum(own)) for own in values],
            )
            if rows:
                base.execute(
                    "INSERT OR REPLACE INTO samples VALUES (CAST(? AS TEXT), ?)",
                    (_bound(sample), _json(files)),
                )

    def _look(self) -> None:
        """Open what is there to read it, and check it; without a database, check that nothing is in its way."""
        if not self.path.is_file():
            self._refuse_foreign_files()
            return
        # SQLite must undo a transaction without WAL, in which a writer was killed, before it reads
        self._connect("rw" if self.path.with_name(f"{DATABASE}-journal").exists() else "ro")
        if self._is_new():
            self.close()
            if any((self.path.parent / name).exists() for name in OUTPUTS):
                raise OutputError(self._damaged("it is empty"))
            return
        self._check()

    def _begin(self) -> None:
        """Open the database to write to it, and make it where missing."""
        if self._base is not None:
            self._base.close()
            self._base = None
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(folder)
        remove_leftovers(folder)
        remove_leftovers(folder / GALLERY)
        self._connect("rwc")
        with self._translated("nothing was lost"):
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = FULL")
            if self._is_new():
                self._make()
        self._check()
        with self._translated("nothing was lost"), self._transaction() as base:
            base.executemany("INSERT OR IGNORE INTO variants VALUES (?, ?)", list(self._variants.items()))

    def _make(self) -> None:
        with self._transaction() as base:
            for statement in SCHEMA.format(columns=", ".join(map(_declared, self.columns))).split(";"):
                base.execute(statement)
            base.executemany("INSERT INTO settings VALUES (?, ?)", list(self._settings.items()))
            base.execute(f"PRAGMA application_id = {APPLICATION}")
            base.execute(f"PRAGMA user_version = {VERSION}")

    def _connect(self, mode: str) -> None:
        with self._translated():
            address = f"{self.path.resolve().as_uri()}?mode={mode}"
            self._base = sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None)
            self._base.text_factory = lambda data: data.decode("utf-8", "surrogatepass")

    def _is_new(self) -> bool:
        """Whether nothing was ever written: the database's maker was killed before its first transaction ended."""
        with self._translated():
            return self._number("application_id") == 0 and not self._tables()

    def _check(self) -> None:
        """Check that the database is whole, of this kind and version, and of the same settings and parameters."""
        with self._translated():
            if self._number("application_id") != APPLICATION:
                raise ParameterError(
                    f"'{self.path}' is no evaluation of sise-ort: choose another folder with {option('folder')}"
                )
            if self._number("user_version") > VERSION:
                raise ParameterError(
                    f"'{self.path}' was written by a newer sise-ort: use that one, or choose another folder with "
                    f"{option('folder')}"
                )
            (state,) = self._execute("PRAGMA quick_check(1)")[0]
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            if not self._tables() >= TABLES:
                raise sqlite3.DatabaseError("tables are missing")
            log = self.path.with_name(f"{DATABASE}-wal")
            if self.path.stat().st_size % self._number("page_size") and not (
                log.exists() and log.stat().st_size
            ):
                raise sqlite3.DatabaseError("its end is missing")
            settings = dict(self._execute("SELECT name, value FROM settings"))
            variants = dict(self._execute("SELECT name, parameters FROM variants"))
        for name in {**self._settings, **settings}:
            old, new = (json.loads(values.get(name, "null")) for values in (settings, self._settings))
            if old != new:
                raise ParameterError(self._differs(name, old, new))
        for name, parameters in self._variants.items():
            old, new = json.loads(variants.get(name, parameters)), json.loads(parameters)
            for parameter in {**old, **new}:
                if old.get(parameter) != new.get(parameter):
                    what = f"{parameter} of {name}"
                    raise ParameterError(self._differs(what, old.get(parameter), new.get(parameter)))
        self.rows()  # compares checksums

    def _differs(self, what: str, old: Any, new: Any) -> str:
        if what in DIGESTS:
            return (
                f"'{self.path.parent}' holds an evaluation with other settings: {what} has changed since "
                f"({DIGESTS[what]}). Choose another folder with {option('folder')}"
            )
        return (
            f"'{self.path.parent}' holds an evaluation with other settings: {what} was {_short(old)} and is now "
            f"{_short(new)}. Choose another folder with {option('folder')}"
        )

    def _refuse_foreign_files(self) -> None:
        folder = self.path.parent
        if (folder / "rows.csv").exists() and (folder / "settings.json").exists():
            raise ParameterError(
                f"'{folder}' holds an evaluation of sise-ort 0.1, which this version cannot continue: choose another "
                f"folder with {option('folder')}"
            )
        for name in OUTPUTS:
            if (folder / name).exists() or (folder / name).is_symlink():
                raise ParameterError(
                    f"'{folder}' has {name} but no {DATABASE}, and would lose it: choose another folder with "
                    f"{option('folder')}"
                )

    def _tables(self) -> set[str]:
        return {name for (name,) in self._execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def _number(self, pragma: str) -> int:
        return int(self._execute(f"PRAGMA {pragma}")[0][0])

    def _execute(self, statement: str) -> list[Any]:
        return [] if self._base is None else self._base.execute(statement).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._base is not None
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield self._base
            self._base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self, kept: str = "") -> Iterator[None]:
        """Turn SQLite's errors into ours; kept : what a user should know of rows that were found."""
        try:
            yield
        except SiseError:
            raise
        except sqlite3.OperationalError as error:  # the machine's part: a full disk, no permission
            raise OutputError(
                f"cannot {'write' if kept else 'read'} '{self.path}': {error}" + (f"; {kept}" if kept else "")
            ) from error
        except (sqlite3.Error, ValueError) as error:
            raise OutputError(self._damaged(error)) from error

    def _damaged(self, why: object) -> str:
        return (
            f"'{self.path}' is damaged ({why}) and was not changed: choose another folder with {option('folder')}, or "
            "put back a copy of this file; `sqlite3 FILE .recover` may still read rows"
        )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _declared(column: str) -> str:
    return f'"{column}" {"TEXT" if column in TEXTS else "INTEGER" if column in COUNTS else "REAL"}'


def _storable(column: str, value: Any) -> Any:
    """A value as SQLite gives it back: None for NaN, no negative zero."""
    if column in TEXTS:
        return str(value)
    if column in COUNTS:
        return int(value)
    return None if math.isnan(value) else float(value) + 0.0


def _bound(value: Any) -> Any:
    """A value as it is handed to SQLite; names of files may hold lone surrogates, which it does not take as text."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _checksum(values: Sequence[Any]) -> int:
    return zlib.crc32(json.dumps(values).encode())


def _short(value: Any) -> str:
    """A setting's value in an error."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return words if len(words) <= 60 else f"{words[:40]}…{words[-15:]}"
