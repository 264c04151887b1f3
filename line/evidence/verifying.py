"""Whether the evidence is what was written: links, records, columns, files, and heads that were kept elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from sise_ort.errors import SiseError
from sise_ort.line.evidence import chain, tables
from sise_ort.line.evidence.record import StoredFile, as_bytes, from_json, sha256
from sise_ort.line.evidence.retention import Checkpoint
from sise_ort.line.evidence.store import Evidence, columns_of

PAGE = 500
"""Links that are read at once."""


@dataclass
class Report:
    """What a verification has found.

    Attributes
    ----------
    heads : dict of str to (int, str)
        Per line, number and digest of its newest link.
    parts, pruned, checkpoints, files : int
        Records, stubs of pruned records, prunings and files that were looked at.
    contents : bool
        Whether the files' content was hashed, not their size alone looked at.
    findings : list of str
        What is wrong, in words.
    """

    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    parts: int = 0
    pruned: int = 0
    checkpoints: int = 0
    files: int = 0
    contents: bool = False
    findings: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify(evidence: Evidence, heads: Sequence[str] = (), *, contents: bool = True) -> Report:
    """Look at every link, record and file.

    Parameters
    ----------
    evidence : Evidence
    heads : sequence of str
        Digests of heads that were kept elsewhere: each must be in a chain, so that nothing before it was cut off or made anew.
    contents : bool
        Hash the files' content; else their size alone is looked at.

    Returns
    -------
    Report

    Raises
    ------
    OutputError
        The database cannot be read.

    Notes
    -----
    Who may write into the database can also make a whole chain anew. Only a head that was kept elsewhere shows that.
    """
    report, sought = Report(contents=contents), {head.lower() for head in heads}
    seen: set[str] = set()
    with evidence.database.reading() as connection:
        for line in _lines(connection):
            _Chain(evidence, connection, report, line, seen).verify(sought)
    for head in sorted(sought):
        report.findings.append(
            f"the head {head} is in no chain: records were cut off, or the chain was made anew"
        )
    return report


def _lines(connection: sa.Connection) -> list[str]:
    found: set[str] = set()
    for table in (tables.lines, tables.entries, tables.parts, tables.checkpoints):
        found |= set(connection.execute(sa.select(table.c.line).distinct()).scalars())
    return sorted(found)


class _Chain:
    """One line's chain, from its first link on."""

    def __init__(
        self, evidence: Evidence, connection: sa.Connection, report: Report, line: str, seen: set[str]
    ) -> None:
        self._evidence, self._connection, self._report, self._line = evidence, connection, report, line
        self._seen = seen
        self._prunings: dict[int, Checkpoint] = {}

    def _wrong(self, number: int, words: str) -> None:
        self._report.findings.append(f"{self._line}:{number} {words}")

    def verify(self, sought: set[str]) -> None:
        """Walk the chain; what is found of `sought` is taken out of it."""
        self._read_prunings()
        before, number, parts = chain.START, 0, 0
        for row in self._links():
            if row.number != number + 1:
                self._wrong(number + 1, f"is missing, up to {self._line}:{row.number - 1}")
            number = row.number
            if chain.link(before, self._line, number, str(row.kind), str(row.content_sha256)) != row.link:
                self._wrong(number, "has a link that does not follow from the one before: it was changed")
            before = row.link
            sought.discard(row.link)
            if row.kind == chain.PRUNED:
                self._pruning(row)
            elif row.pruned_by is not None:
                self._stub(row)
            else:
                parts += row.record is not None
                self._part(row)
        self._report.heads[self._line] = (number, before)
        self._ends(number, before, parts)

    def _links(self) -> Iterator[Any]:
        links, table, last = tables.entries, tables.parts, 0
        files = tables.files
        while True:
            query = (
                sa.select(links, *(c for c in table.c if c.name not in ("line", "number")))
                .outerjoin(table, (links.c.line == table.c.line) & (links.c.number == table.c.number))
                .where(links.c.line == self._line, links.c.number > last)
                .order_by(links.c.number)
                .limit(PAGE)
            )
            rows = self._connection.execute(query).all()
            if not rows:
                return
            between = (files.c.number > last) & (files.c.number <= rows[-1].number)
            held: dict[int, list[Any]] = defaultdict(list)
            for file in self._connection.execute(sa.select(files).where(files.c.line == self._line, between)):
                held[file.number].append(file)
            self._held = held
            yield from rows
            last = rows[-1].number

    def _part(self, row: Any) -> None:
        self._report.parts += 1
        if row.record is None:
            self._wrong(row.number, "has lost its record, without a pruning")
            return
        content = as_bytes(row.record)
        if sha256(content) != row.content_sha256:
            self._wrong(row.number, "has a record that was changed")
            return
        try:
            part = from_json(content)
        except msgspec.DecodeError as error:
            self._wrong(row.number, f"has a record that cannot be read: {error}")
            return
        columns = columns_of(part, row.number, content)
        changed = [
            name
            for name, value in columns.items()
            if name not in ("line", "record") and getattr(row, name) != value
        ]
        if changed or row.key_sha256 != sha256(part.key.encode()):
            self._wrong(
                row.number, f"has columns that differ from its record: {', '.join(changed) or 'key_sha256'}"
            )
        listed = {(file.role, file.name, file.size) for file in self._held[row.number]}
        if listed != {(file.role, file.name, file.size) for file in part.files}:
            self._wrong(row.number, "has a list of files that differs from its record")
        for file in part.files:
            self._file(row.number, file)

    def _file(self, number: int, file: StoredFile) -> None:
        if file.name in self._seen:
            return
        self._seen.add(file.name)
        self._report.files += 1
        try:
            if self._report.contents:
                found = sha256(self._evidence.files.read(file.name)) == file.sha256
            else:
                found = self._evidence.files.size(file.name) == file.size
                if not found and self._evidence.files.size(file.name) is None:
                    raise FileNotFoundError
        except FileNotFoundError:
            self._wrong(number, f"has lost its file {file.role}, {file.name}")
        except (OSError, SiseError) as error:
            self._wrong(number, f"has a file {file.role} that cannot be read: {error}")
        else:
            if not found:
                self._wrong(number, f"has a file {file.role} that was changed, {file.name}")

    def _read_prunings(self) -> None:
        table = tables.checkpoints
        rows = self._connection.execute(sa.select(table).where(table.c.line == self._line)).all()
        self._digests = {row.number: sha256(as_bytes(row.content)) for row in rows}
        for row in rows:
            try:
                self._prunings[row.number] = msgspec.json.decode(as_bytes(row.content), type=Checkpoint)
            except msgspec.DecodeError as error:
                self._wrong(row.number, f"is a pruning that cannot be read: {error}")

    def _pruning(self, row: Any) -> None:
        self._report.checkpoints += 1
        if self._digests.pop(row.number, None) != row.content_sha256:
            self._wrong(row.number, "is a pruning whose content is missing or was changed")

    def _stub(self, row: Any) -> None:
        self._report.pruned += 1
        pruning = self._prunings.get(row.pruned_by)
        if pruning is None or not pruning.covers(row.number) or row.pruned_by <= row.number:
            self._wrong(row.number, "has lost its record, and no pruning names it")
        if row.record is not None:
            self._wrong(row.number, "has a record again, though it was pruned")

    def _ends(self, number: int, head: str, parts: int) -> None:
        table, newest = tables.parts, tables.lines
        rows = self._connection.execute(
            sa.select(sa.func.count()).select_from(table).where(table.c.line == self._line)
        ).scalar_one()
        if rows > parts:
            self._report.findings.append(f"{self._line} has {rows - parts} records that are in no chain")
        if self._digests:
            self._report.findings.append(
                f"{self._line} has {len(self._digests)} prunings that are in no chain"
            )
        kept = self._connection.execute(
            sa.select(newest.c.number, newest.c.head).where(newest.c.line == self._line)
        ).first()
        if kept is None or (kept.number, kept.head) != (number, head):
            self._report.findings.append(
                f"{self._line} ends at {number}, but its newest link was {'not noted' if kept is None else kept.number}: "
                "its end was cut off or changed"
            )
