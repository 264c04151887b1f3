"""Opens the database: SQLite in a folder, or another one by its URL; makes and migrates its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sise_ort.errors import MissingDependencyError, OutputError, ParameterError, first_line, option
from sise_ort.line.evidence import tables

DATABASE = "evidence.db"
"""Name of the database in a folder of evidence."""
FILES = "files"
"""Name of the folder of pictures and maps beside an SQLite database."""
WAIT = 30
"""Seconds that a writer waits for another one."""
LOCK = 0x5153_4F52
"""Key of the advisory lock on PostgreSQL between writers and whoever removes files."""


class Database:
    """An open database of evidence.

    Parameters
    ----------
    place : str or Path
        A folder, where SQLite keeps ``evidence.db``; or a database's URL as SQLAlchemy reads it, such as
        ``postgresql://user@host/steel``.
    files : str, Path or None
        A folder or store for the files; None takes the one that the database knows, or ``files`` beside SQLite's.
    create : bool
        Make what is missing; else a missing database is an error.

    Raises
    ------
    OutputError
        It cannot be opened, is missing, or was written by a newer version.
    ParameterError
        A new database on a server is not told where its files go.
    """

    def __init__(self, place: str | Path, files: str | Path | None, *, create: bool) -> None:
        self.place = str(place)
        self.url, self.folder = _url(place)
        if self.folder is not None:
            path = Path(self.url.database or "")
            if not create and not path.is_file():
                raise OutputError(f"there is no evidence in '{place}': {path.name} is missing")
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make '{self.folder}': {error.strerror}") from error
        self.engine = _engine(self.url)
        try:
            with self._said():
                self._migrate(create)
                self.files_place = self._files(files)
        except BaseException:
            self.engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one moment of the database."""
        with self._said(), self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                if self.engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN")
                yield connection

    @contextlib.contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[sa.Connection]:
        """A transaction: everything in it is written, or nothing where the block raises.

        Parameters
        ----------
        alone : bool
            Keep all other writers out meanwhile, on every kind of database.
        """
        with self._said(), self.engine.connect() as connection, connection.begin():
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif self.engine.dialect.name == "postgresql":
                name = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
                connection.execute(sa.select(getattr(sa.func, name)(LOCK)))
            yield connection

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise OutputError(f"the evidence in '{self.url!r}' fails: {first_line(cause)}") from error

    def _migrate(self, create: bool) -> None:
        with self.engine.connect() as connection:
            there = sa.inspect(connection).has_table("sise_about")
            found = self._about(connection, "version") if there else None
        if found is None and not create:
            raise OutputError(f"there is no evidence in '{self.url!r}': its tables are missing")
        if found is not None and int(found) == tables.VERSION:
            return
        with self.writing(alone=True) as connection:
            tables.metadata.create_all(connection)
            version = int(self._about(connection, "version") or 0)
            if version > tables.VERSION:
                raise OutputError(
                    f"the evidence in '{self.url!r}' has tables of version {version}; this sise-ort knows {tables.VERSION}: "
                    "install a newer one"
                )
            if version == 0:
                self._tell(connection, "version", str(tables.VERSION))
            else:
                for step in range(version + 1, tables.VERSION + 1):
                    tables.MIGRATIONS[step](connection)
                connection.execute(
                    tables.about.update()
                    .where(tables.about.c.name == "version")
                    .values(value=str(tables.VERSION))
                )

    def _files(self, files: str | Path | None) -> str:
        with self.engine.connect() as connection:
            known = self._about(connection, "files")
        if files is None and known is not None:
            place = known
        elif files is not None:
            place = str(files) if "://" in str(files) else str(Path(files).absolute())
        elif self.folder is not None:
            place = FILES
        else:
            raise ParameterError(
                f"{option('files')} is missing: a database on a server needs a folder or a store for pictures and maps"
            )
        if known is None:
            with self.writing(alone=True) as connection:
                self._tell(connection, "files", place)
        if "://" in place or Path(place).is_absolute() or self.folder is None:
            return place
        return str(self.folder / place)

    def _about(self, connection: sa.Connection, name: str) -> str | None:
        found = connection.execute(
            sa.select(tables.about.c.value).where(tables.about.c.name == name)
        ).scalar()
        return None if found is None else str(found)

    def _tell(self, connection: sa.Connection, name: str, value: str) -> None:
        if self._about(connection, name) is None:
            connection.execute(tables.about.insert().values(name=name, value=value))


def _url(place: str | Path) -> tuple[sa.URL, Path | None]:
    """The database's URL, and the folder where it is SQLite's."""
    if isinstance(place, str) and "://" in place:
        try:
            url = sa.make_url(place)
        except sa.exc.ArgumentError as error:
            raise ParameterError(
                "a folder or a database's URL is needed, such as postgresql://user@host/steel"
            ) from error
        if url.get_backend_name() == "postgresql" and "+" not in url.drivername:
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ParameterError(f"evidence is kept in SQLite or PostgreSQL, not in {url.get_backend_name()}")
        if url.get_backend_name() == "postgresql":
            return url, None
        if not url.database or url.database == ":memory:":
            raise ParameterError("evidence in SQLite needs a file, such as sqlite:///folder/evidence.db")
        return url, Path(url.database).absolute().parent
    folder = Path(place).absolute()
    return sa.URL.create("sqlite", database=str(folder / DATABASE)), folder


def _engine(url: sa.URL) -> sa.Engine:
    try:
        if url.get_backend_name() == "postgresql":
            return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        engine = sa.create_engine(url, connect_args={"timeout": WAIT})
    except ImportError as error:
        raise MissingDependencyError(
            f"evidence in PostgreSQL needs the package {error.name}: pip install 'psycopg[binary]'"
        ) from error

    @sa.event.listens_for(engine, "connect")
    def settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `writing` says so
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA case_sensitive_like=ON")  # as in PostgreSQL
        connection.execute("PRAGMA synchronous=FULL")  # what is committed outlives a power cut

    return engine
