"""The store of evidence: a record goes in with its files and messages, all of it or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from sise_ort.errors import ParameterError
from sise_ort.line.evidence import chain, outbox, tables
from sise_ort.line.evidence.database import Database
from sise_ort.line.evidence.files import open_files
from sise_ort.line.evidence.messages import head_message, part_message
from sise_ort.line.evidence.record import Part, StoredFile, sha256, to_json


@dataclass(frozen=True)
class File:
    """A file that goes into the store with a record.

    Parameters
    ----------
    role : str
        What it is, once per record: "frame"; "map-1" and "overlay-1" of the first explanation; or another word.
    content : bytes
        All of it.
    ending : str
        Ending of its name, such as ".png".
    """

    role: str
    content: bytes | memoryview = field(repr=False)
    ending: str = ""

    def stored(self) -> StoredFile:
        """How the record names it."""
        return StoredFile(self.role, sha256(self.content), len(self.content), self.ending)


@dataclass(frozen=True)
class Entry:
    """A link of a line's chain.

    Attributes
    ----------
    line : str
        The line.
    number : int
        The link's number, from 1.
    content_sha256 : str
        SHA-256 of the record's JSON.
    link : str
        The link's digest, which covers the whole chain up to it: the chain's head while nothing follows.
    new : bool
        Whether this call wrote it; False where a record of its key was there already.
    """

    line: str
    number: int
    content_sha256: str
    link: str
    new: bool = True


class Evidence:
    """Keeps one record for each part, and the files that show it.

    Parameters
    ----------
    place : str or Path
        A folder, where SQLite keeps the records and the folder ``files`` pictures and maps; or a database's URL, such as
        ``postgresql://user@host/steel``.
    files : str, Path or None
        Another folder for the files, or a store that fsspec opens, such as ``s3://bucket/line``. The database remembers it.
    create : bool
        Make what is missing.

    Raises
    ------
    OutputError, ParameterError
        As `Database`.

    Notes
    -----
    `add` returns when the record is safe: committed, on the disk, with its files and messages. Several threads, processes and
    lines may write into one store.
    """

    def __init__(self, place: str | Path, files: str | Path | None = None, *, create: bool = True) -> None:
        self.database = Database(place, files, create=create)
        self.files = open_files(self.database.files_place)
        self.outbox = outbox.Outbox(self.database)

    def __enter__(self) -> Evidence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def add(self, part: Part, files: Sequence[File] = (), sinks: Iterable[str] = ()) -> Entry:
        """Write a record with its files, and a message about it for each sink.

        Parameters
        ----------
        part : Part
            The record; its `files` are filled in here.
        files : sequence of File
            What belongs to it; a file whose content is there already is not written twice.
        sinks : iterable of str
            Names of the sinks that are to be told.

        Returns
        -------
        Entry
            Its link in the line's chain; that of the record of the same key where there is one already.

        Raises
        ------
        OutputError
            Nothing was written: the disk is full, or the database is away. A later attempt may succeed.
        ParameterError
            Nothing was written, nor will it be: the record holds what JSON cannot, or two files of one role.
        """
        stored = tuple(file.stored() for file in files)
        if len({one.role for one in stored}) != len(stored):
            raise ParameterError(f"two files of part {part.part_id!r} have the same role")
        part = msgspec.structs.replace(part, files=stored)
        content = to_json(part)
        for one, file in zip(stored, files, strict=True):
            self.files.add(one.name, file.content)
        with self.database.writing() as connection:
            head = locked_head(connection, part.line)
            there = _of_key(connection, part)
            if there is not None:
                return there
            for one, file in zip(stored, files, strict=True):
                self.files.add(one.name, file.content)  # a pruning may have removed it since
            entry = append(
                connection, head, part.line, chain.PART, content, key_sha256=sha256(part.key.encode())
            )
            connection.execute(tables.parts.insert(), columns_of(part, entry.number, content))
            if stored:
                connection.execute(
                    tables.files.insert(),
                    [
                        {
                            "line": part.line,
                            "number": entry.number,
                            "role": one.role,
                            "name": one.name,
                            "size": one.size,
                        }
                        for one in stored
                    ],
                )
            message = part_message(part, entry.number, entry.link)
            outbox.put(connection, sinks, part.line, entry.number, part.part_id, "part", message)
        return entry

    def known(self, line: str, key: str) -> bool:
        """Whether a line has written a record of this key, also where it was pruned since."""
        table = tables.entries
        query = sa.select(table.c.number).where(
            table.c.line == line, table.c.key_sha256 == sha256(key.encode())
        )
        with self.database.reading() as connection:
            return connection.execute(query).first() is not None

    def heads(self) -> dict[str, Entry]:
        """The newest link of each line's chain."""
        table, newest = tables.entries, tables.lines
        query = (
            sa.select(table)
            .join(newest, (newest.c.line == table.c.line) & (newest.c.number == table.c.number))
            .order_by(table.c.line)
        )
        with self.database.reading() as connection:
            return {
                row.line: Entry(row.line, row.number, row.content_sha256, row.link, new=False)
                for row in connection.execute(query)
            }

    def send_heads(self, sinks: Iterable[str]) -> dict[str, Entry]:
        """Write a message with each chain's head for each sink, so that it is kept elsewhere.

        Returns
        -------
        dict of str to Entry
            The heads, per line.
        """
        heads, sinks = self.heads(), list(sinks)
        with self.database.writing() as connection:
            for line, head in heads.items():
                message = head_message(line, head.number, head.link, time.time())
                outbox.put(connection, sinks, line, head.number, "", "head", message)
        return heads


def columns_of(part: Part, number: int, content: bytes) -> dict[str, Any]:
    """The row of a record: its JSON, and the columns that lists are made from."""
    return {
        "line": part.line,
        "number": number,
        "key": part.key,
        "part_id": part.part_id,
        "submitted": part.submitted.timestamp(),
        "decision": part.decision,
        "label": part.label.replace("\0", "\ufffd"),  # PostgreSQL's texts hold no NUL
        "confidence": part.confidence,
        "explained": part.explained,
        "trust": part.trust,
        "regions": sum(len(one.regions) for one in part.explanations),
        "record": content,
    }


def append(
    connection: sa.Connection,
    head: tuple[int, str],
    line: str,
    kind: str,
    content: bytes,
    *,
    key_sha256: str | None = None,
) -> Entry:
    """Add a link behind the head of a chain, in the transaction that the connection is in.

    Parameters
    ----------
    connection : Connection
    head : (int, str)
        Number and digest, as `locked_head` returned them.
    line, kind, content, key_sha256 : str, str, bytes, str
        What stands in the link.
    """
    number, digest = head[0] + 1, sha256(content)
    link = chain.link(head[1], line, number, kind, digest)
    connection.execute(
        tables.entries.insert().values(
            line=line,
            number=number,
            kind=kind,
            content_sha256=digest,
            link=link,
            written=time.time(),
            key_sha256=key_sha256,
        )
    )
    connection.execute(
        tables.lines.update().where(tables.lines.c.line == line).values(number=number, head=link)
    )
    return Entry(line, number, digest, link)


def locked_head(connection: sa.Connection, line: str) -> tuple[int, str]:
    """Number and digest of a chain's newest link; no other writer can add one before the transaction ends."""
    table = tables.lines
    query = sa.select(table.c.number, table.c.head).where(table.c.line == line).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        start: Any = table.insert().values(line=line, number=0, head=chain.START)
        if connection.dialect.name == "postgresql":  # two writers may begin the same line at once
            from sqlalchemy.dialects.postgresql import insert

            start = insert(table).values(line=line, number=0, head=chain.START).on_conflict_do_nothing()
        connection.execute(start)
        found = connection.execute(query).first()
        assert found is not None
    return int(found.number), str(found.head)


def _of_key(connection: sa.Connection, part: Part) -> Entry | None:
    table = tables.entries
    row = connection.execute(
        sa.select(table).where(table.c.line == part.line, table.c.key_sha256 == sha256(part.key.encode()))
    ).first()
    return None if row is None else Entry(row.line, row.number, row.content_sha256, row.link, new=False)
