"""The outbox: messages that are written with a record, in one transaction, and stay until a sink has delivered them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sise_ort.line.evidence import tables
from sise_ort.line.evidence.database import Database

LONGEST_ERROR = 500
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class Waiting:
    """A message that is still to be delivered.

    Attributes
    ----------
    id : int
        Its number; messages of a sink are delivered in this order.
    sink, line, part_id, kind : str
        Who delivers it, whose it is, the part ("" for none), and "part" or "head".
    number : int
        Number of the record in the line's chain.
    message : bytes
        JSON.
    created, not_before : float
        When it was written, and before when it is not to be tried, as `time.time` counts.
    attempts : int
        How often it was tried in vain.
    error : str
        What the last attempt said.
    """

    id: int
    sink: str
    line: str
    number: int
    part_id: str
    kind: str
    message: bytes
    created: float
    attempts: int
    not_before: float
    error: str


class Outbox:
    """Messages that wait for their sinks.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, sink: str, most: int = 100) -> list[Waiting]:
        """The oldest messages of a sink, in the order in which they are to be delivered.

        Parameters
        ----------
        sink : str
            Its name.
        most : int
            How many at most.
        """
        table = tables.outbox
        query = sa.select(table).where(table.c.sink == sink).order_by(table.c.id).limit(most)
        with self._database.reading() as connection:
            return [
                Waiting(
                    row.id, row.sink, row.line, row.number, row.part_id, row.kind, bytes(row.message),
                    row.created, row.attempts, row.not_before, row.error,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def counts(self) -> dict[str, int]:
        """How many messages wait, per sink."""
        table = tables.outbox
        with self._database.reading() as connection:
            found = connection.execute(sa.select(table.c.sink, sa.func.count()).group_by(table.c.sink))
            return {str(sink): int(count) for sink, count in found}

    def delivered(self, ids: Sequence[int]) -> None:
        """Remove messages that a sink has delivered."""
        if ids:
            with self._database.writing() as connection:
                connection.execute(tables.outbox.delete().where(tables.outbox.c.id.in_(list(ids))))

    def failed(self, message: int, error: str, pause: float) -> None:
        """Note that a message could not be delivered.

        Parameters
        ----------
        message : int
            Its `Waiting.id`.
        error : str
            Why.
        pause : float
            Seconds before the next attempt.
        """
        table = tables.outbox
        with self._database.writing() as connection:
            connection.execute(
                table.update()
                .where(table.c.id == message)
                .values(
                    attempts=table.c.attempts + 1,
                    error=error[:LONGEST_ERROR],
                    not_before=time.time() + pause,
                )
            )


def put(
    connection: sa.Connection,
    sinks: Iterable[str],
    line: str,
    number: int,
    part_id: str,
    kind: str,
    message: bytes,
) -> None:
    """Write a message for each sink, in the transaction that the connection is in."""
    rows = [
        {
            "sink": sink,
            "line": line,
            "number": number,
            "part_id": part_id,
            "kind": kind,
            "message": message,
            "created": time.time(),
            "attempts": 0,
            "not_before": 0.0,
            "error": "",
        }
        for sink in dict.fromkeys(sinks)
    ]
    if rows:
        connection.execute(tables.outbox.insert(), rows)
