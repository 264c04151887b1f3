"""Retention: old records go with their files; their digests stay in the chain, with a checkpoint that says why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from sise_ort.errors import ParameterError, option, shown
from sise_ort.line.evidence import chain, tables
from sise_ort.line.evidence.store import Evidence, append, locked_head

AT_ONCE = 2000
"""Records that one pruning removes, and one checkpoint covers; writers wait meanwhile."""
FILES_AT_ONCE = 200
"""Files that are removed while writers wait."""
ORPHANED = 3600.0
"""Seconds after which a file that no record holds was left by a writer that was killed."""


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pruning removed; it stands in the chain like a record.

    Attributes
    ----------
    ranges : tuple of (int, int)
        First and last number of the records that were removed.
    records, size : int, int
        How many, and the bytes of their JSON.
    reason : str
        The rule by which they went.
    time : float
        When, as `time.time` counts.
    """

    ranges: tuple[tuple[int, int], ...]
    records: int
    size: int
    reason: str
    time: float
    format: Literal["sise-ort pruning"] = "sise-ort pruning"
    version: Literal[1] = 1

    def covers(self, number: int) -> bool:
        """Whether a record of this number was removed."""
        return any(first <= number <= last for first, last in self.ranges)


@dataclass(frozen=True)
class Retention:
    """How long records are kept.

    Parameters
    ----------
    keep : float or None
        Seconds for which records are kept that are no rejects; None keeps them.
    keep_rejects : float or None
        Seconds for which rejects are kept; None keeps them, whatever `keep` says.
    size : int or None
        Bytes of records and files at most; the oldest parts that are no rejects go first, then the oldest rejects.

    Raises
    ------
    ParameterError
        A value is negative.
    """

    keep: float | None = None
    keep_rejects: float | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("keep", "keep_rejects", "size"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ParameterError(f"{option(name)} is {shown(value)}; it must not be negative")

    @property
    def words(self) -> str:
        """The rule as a checkpoint says it."""
        said = {"keep": self.keep, "keep rejects": self.keep_rejects}
        words = [f"{name} {value / 86400:g} days" for name, value in said.items() if value is not None]
        return ", ".join(words + ([] if self.size is None else [f"at most {self.size} bytes"]))


@dataclass
class Pruned:
    """What a pruning has done, or would do.

    Attributes
    ----------
    records, files, size : int
        Records and files that went, and the bytes of both.
    orphans : int
        Files among them that no record held.
    """

    records: int = 0
    files: int = 0
    size: int = 0
    orphans: int = 0


def prune(
    evidence: Evidence, retention: Retention, *, dry_run: bool = False, now: float | None = None
) -> Pruned:
    """Remove records that are older than they are kept, and files that no record holds any more.

    Parameters
    ----------
    evidence : Evidence
    retention : Retention
    dry_run : bool
        Count only.
    now : float, optional
        The moment from which ages count; the present one.

    Returns
    -------
    Pruned

    Raises
    ------
    OutputError
        The database or a file cannot be changed; what was removed until then is in the chain.

    Notes
    -----
    A record and the list of its files go in one transaction, its files after that: a record without its files is never seen.
    A process that is killed in between leaves files, which the next pruning removes.
    """
    moment, done = time.time() if now is None else now, Pruned()
    for rejects, seconds in ((False, retention.keep), (True, retention.keep_rejects)):
        if seconds is not None:
            old = _rule(rejects) & (tables.entries.c.written < moment - seconds)
            _remove_all(evidence, old, retention.words, done, dry_run)
    if retention.size is not None:
        _shrink(evidence, retention, done, dry_run)
    if not dry_run:
        sweep(evidence, done)
    return done


def sweep(evidence: Evidence, done: Pruned | None = None, older_than: float = ORPHANED) -> Pruned:
    """Remove files that no record holds, and that were written that many seconds ago or earlier."""
    done = done or Pruned()
    batch: list[str] = []
    for name in evidence.files.names(older_than):
        batch.append(name)
        if len(batch) == FILES_AT_ONCE:
            done.orphans += _remove_files(evidence, _unheld(evidence, batch), Pruned())
            batch = []
    done.orphans += _remove_files(evidence, _unheld(evidence, batch), Pruned())
    return done


def _unheld(evidence: Evidence, names: Sequence[str]) -> list[str]:
    """Those files that no record holds at this moment; no writer waits for the answer."""
    query = sa.select(tables.files.c.name).where(tables.files.c.name.in_(list(names)))
    with evidence.database.reading() as connection:
        held = set(connection.execute(query).scalars())
    return [name for name in names if name not in held]


def _rule(rejects: bool) -> Any:
    decision = tables.parts.c.decision
    return decision == "rejected" if rejects else decision != "rejected"


def _remove_all(evidence: Evidence, old: Any, reason: str, done: Pruned, dry_run: bool) -> None:
    table, links = tables.parts, tables.entries
    joined = (links.c.line == table.c.line) & (links.c.number == table.c.number)
    if dry_run:
        query = sa.select(sa.func.count(), sa.func.sum(sa.func.length(table.c.record))).select_from(
            table.join(links, joined)
        )
        with evidence.database.reading() as connection:
            records, size = connection.execute(query.where(old)).one()
        done.records, done.size = done.records + int(records), done.size + int(size or 0)
        return
    with evidence.database.reading() as connection:
        lines = connection.execute(sa.select(tables.lines.c.line)).scalars().all()
    for line in lines:
        query = (
            sa.select(table.c.number)
            .join(links, joined)
            .where(old, table.c.line == line)
            .order_by(table.c.number)
            .limit(AT_ONCE)
        )
        while _remove(evidence, line, query, reason, done):
            pass


def _remove(evidence: Evidence, line: str, query: Any, reason: str, done: Pruned) -> bool:
    """Remove records of one line in a transaction, then their files; whether there were any."""
    table, held = tables.parts, tables.files
    with evidence.database.writing(alone=True) as connection:
        head = locked_head(connection, line)
        numbers = [int(n) for n in connection.execute(query).scalars()]
        if not numbers:
            return False
        size, names = 0, set()
        for some in _chunks(numbers):
            mine = (table.c.line == line) & table.c.number.in_(some)
            sizes = sa.select(sa.func.sum(sa.func.length(table.c.record))).where(mine)
            size += int(connection.execute(sizes).scalar() or 0)
            files = (held.c.line == line) & held.c.number.in_(some)
            names |= set(connection.execute(sa.select(held.c.name).where(files)).scalars())
            connection.execute(held.delete().where(files))
            connection.execute(table.delete().where(mine))
        checkpoint = Checkpoint(_ranges(numbers), len(numbers), size, reason, time.time())
        content = msgspec.json.encode(checkpoint)
        entry = append(connection, head, line, chain.PRUNED, content)
        connection.execute(
            tables.checkpoints.insert().values(line=line, number=entry.number, content=content)
        )
        for some in _chunks(numbers):
            links = tables.entries
            connection.execute(
                links.update()
                .where(links.c.line == line, links.c.number.in_(some))
                .values(pruned_by=entry.number)
            )
    done.records, done.size = done.records + len(numbers), done.size + size
    for some in _chunks(sorted(names), FILES_AT_ONCE):
        _remove_files(evidence, some, done)
    return True


def _remove_files(evidence: Evidence, names: Sequence[str], done: Pruned) -> int:
    """Remove those files that no record holds, while no writer can begin to hold one; how many they were."""
    if not names:
        return 0
    table, removed = tables.files, 0
    with evidence.database.writing(alone=True) as connection:
        query = sa.select(table.c.name).where(table.c.name.in_(list(names)))
        held = set(connection.execute(query).scalars())
        for name in names:
            if name not in held and (size := evidence.files.size(name)) is not None:
                evidence.files.remove(name)
                removed += 1
                done.files, done.size = done.files + 1, done.size + size
    return removed


def stored_bytes(evidence: Evidence) -> int:
    """Bytes of all records and files; a file that several records hold counts once."""
    with evidence.database.reading() as connection:
        return _stored(connection)


def _stored(connection: sa.Connection) -> int:
    once = sa.select(sa.func.max(tables.files.c.size).label("size")).group_by(tables.files.c.name).subquery()
    files = connection.execute(sa.select(sa.func.sum(once.c.size))).scalar()
    records = connection.execute(sa.select(sa.func.sum(sa.func.length(tables.parts.c.record)))).scalar()
    return int(files or 0) + int(records or 0)


def _shrink(evidence: Evidence, retention: Retention, done: Pruned, dry_run: bool) -> None:
    """Remove the oldest records, rejects last, until all fit."""
    assert retention.size is not None
    while (over := stored_bytes(evidence) - retention.size) > 0:
        victims, freed = _oldest(evidence, over)
        if not victims:
            return
        if dry_run:
            done.records += sum(map(len, victims.values()))
            done.size += freed
            return
        for line, numbers in victims.items():
            for some in _chunks(numbers, AT_ONCE):
                query = sa.select(tables.parts.c.number).where(
                    tables.parts.c.line == line, tables.parts.c.number.in_(some)
                )
                _remove(evidence, line, query, retention.words, done)


def _oldest(evidence: Evidence, over: int) -> tuple[dict[str, list[int]], int]:
    """The oldest records, no rejects first, that hold so many bytes, and how many they hold."""
    table, links, held = tables.parts, tables.entries, tables.files
    files = (
        sa.select(sa.func.coalesce(sa.func.sum(held.c.size), 0))
        .where(held.c.line == table.c.line, held.c.number == table.c.number)
        .scalar_subquery()
    )
    query = (
        sa.select(table.c.line, table.c.number, (sa.func.length(table.c.record) + files).label("size"))
        .join(links, (links.c.line == table.c.line) & (links.c.number == table.c.number))
        .order_by(
            sa.case((table.c.decision == "rejected", 1), else_=0),
            links.c.written,
            table.c.line,
            table.c.number,
        )
        .limit(100_000)
    )
    found: dict[str, list[int]] = {}
    freed = 0
    with evidence.database.reading() as connection:
        for row in connection.execute(query):
            if freed >= over:
                break
            found.setdefault(row.line, []).append(int(row.number))
            freed += int(row.size)
    return {line: sorted(numbers) for line, numbers in found.items()}, freed


def _ranges(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as first and last ones of what is without a gap."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def _chunks(items: Sequence[Any], size: int = 500) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
