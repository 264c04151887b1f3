"""Finding records: by part, time, class, decision and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from sise_ort.errors import OutputError, ParameterError, shown
from sise_ort.line.evidence import tables
from sise_ort.line.evidence.record import Part, as_bytes, from_json
from sise_ort.line.evidence.store import Evidence

PAGE = 200
"""Records that are read at once; between pages no transaction is open."""


@dataclass(frozen=True)
class Filter:
    """Which records are meant; None means any.

    Parameters
    ----------
    line, part_id, label, decision, trust, explained : str or None
        The record's value.
    parts : str or None
        A pattern of part names in which ``*`` stands for any characters.
    since, before : float or None
        Moments between which it was submitted, as `time.time` counts.
    least_confidence, most_confidence : float or None
        Bounds of the confidence that decided.
    key : str or None
        The record's key.
    """

    line: str | None = None
    part_id: str | None = None
    label: str | None = None
    decision: str | None = None
    trust: str | None = None
    explained: str | None = None
    since: float | None = None
    before: float | None = None
    least_confidence: float | None = None
    most_confidence: float | None = None
    key: str | None = None
    parts: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The filter in SQL; values travel as parameters, never as text."""
        table, found = tables.parts.c, []
        for name in ("line", "part_id", "label", "decision", "trust", "explained", "key"):
            if (value := getattr(self, name)) is not None:
                found.append(table[name] == value)
        if self.parts is not None:
            escaped = self.parts.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
            found.append(table.part_id.like(escaped.replace("*", "%"), escape="\\"))
        for column, low, high in (
            (table.submitted, self.since, None),
            (table.confidence, self.least_confidence, self.most_confidence),
        ):
            if low is not None:
                found.append(column >= low)
            if high is not None:
                found.append(column <= high)
        if self.before is not None:
            found.append(table.submitted < self.before)
        return found


@dataclass(frozen=True)
class Kept:
    """A record in the store.

    Attributes
    ----------
    number : int
        Its number in the line's chain.
    link : str
        Digest of its link.
    part : Part
        The record.
    """

    number: int
    link: str
    part: Part


def find(
    evidence: Evidence, wanted: Filter | None = None, *, most: int | None = None, newest_first: bool = True
) -> Iterator[Kept]:
    """Records that a filter lets through, by the time of their submission.

    Parameters
    ----------
    evidence : Evidence
    wanted : Filter, optional
        Which ones; all where nothing is said.
    most : int or None
        How many at most.
    newest_first : bool
        Or the oldest one first.

    Yields
    ------
    Kept

    Raises
    ------
    OutputError
        The database fails, or a record cannot be read.
    """
    table, links = tables.parts, tables.entries
    key = (table.c.submitted, table.c.line, table.c.number)
    query = (
        sa.select(*key, table.c.record, links.c.link)
        .join(links, (links.c.line == table.c.line) & (links.c.number == table.c.number))
        .where(*(wanted or Filter()).conditions())
        .order_by(*(column.desc() if newest_first else column.asc() for column in key))
    )
    last: Any = None
    while most is None or most > 0:
        page = query.limit(PAGE if most is None else min(PAGE, most))
        if last is not None:
            place = sa.tuple_(*key)
            page = page.where(place < sa.tuple_(*last) if newest_first else place > sa.tuple_(*last))
        with evidence.database.reading() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            yield Kept(row.number, row.link, _read(row.line, row.number, row.record))
        if len(rows) < PAGE:
            return
        last, most = tuple(rows[-1])[:3], None if most is None else most - len(rows)


def count(evidence: Evidence, wanted: Filter | None = None) -> int:
    """How many records a filter lets through."""
    query = sa.select(sa.func.count()).select_from(tables.parts).where(*(wanted or Filter()).conditions())
    with evidence.database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def one(evidence: Evidence, name: str) -> Kept:
    """The record that a user names.

    Parameters
    ----------
    evidence : Evidence
    name : str
        A part's name; a record as ``LINE:NUMBER``; or the beginning of its link's digest, of 8 digits at least.

    Returns
    -------
    Kept
        The newest record of that part.

    Raises
    ------
    ParameterError
        There is none, or several begin with these digits; says so where it was pruned.
    """
    for kept in find(evidence, Filter(part_id=name), most=1):
        return kept
    links, table = tables.entries, tables.parts
    line, colon, digits = name.rpartition(":")
    if colon and digits.isascii() and digits.isdigit() and len(digits) < 19:
        which: sa.ColumnElement[bool] = (links.c.line == line) & (links.c.number == int(digits))
    elif 8 <= len(name) <= 64 and set(name) <= set("0123456789abcdef"):
        which = links.c.link.startswith(name, autoescape=True)
    else:
        raise ParameterError(
            f"no record is of a part {shown(name)}; `sise-ort evidence list` shows what there is"
        )
    query = (
        sa.select(links, table.c.record)
        .outerjoin(table, (links.c.line == table.c.line) & (links.c.number == table.c.number))
        .where(which)
        .limit(2)
    )
    with evidence.database.reading() as connection:
        rows = connection.execute(query).all()
    if not rows:
        raise ParameterError(
            f"there is no record {shown(name)}; `sise-ort evidence list` shows what there is"
        )
    if len(rows) > 1:
        raise ParameterError(f"several records begin with {shown(name)}; give more digits")
    row = rows[0]
    if row.record is None:
        what = "is itself a pruning" if row.kind != "part" else f"was pruned by {row.line}:{row.pruned_by}"
        raise ParameterError(f"record {row.line}:{row.number} {what}; only its digest is left")
    return Kept(row.number, row.link, _read(row.line, row.number, row.record))


def _read(line: str, number: int, record: object) -> Part:
    try:
        return from_json(as_bytes(record))
    except msgspec.DecodeError as error:
        raise OutputError(f"record {line}:{number} cannot be read: {error}") from error
