"""The store of evidence: what is acknowledged is there, once, with its files, messages and a link of the chain."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from sise_ort.errors import OutputError, ParameterError
from sise_ort.line.evidence import Evidence, File, Part


def part(part_id: str, **facts: object) -> Part:
    return Part(line="north", part_id=part_id, decision="accepted", **facts)  # type: ignore[arg-type]


def by_hand(database: Path, line: str) -> str:
    """The chain's head, recomputed from the definition with SQLite and hashlib alone."""
    head = "0" * 64
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT number, record FROM sise_parts WHERE line = ? ORDER BY number", (line,)
        ).fetchall()
    connection.close()
    for i, (number, record) in enumerate(rows, 1):
        assert number == i
        digest = hashlib.sha256(record).hexdigest()
        text = f'["{head}","{line}",{number},"part","{digest}"]'
        head = hashlib.sha256(text.encode()).hexdigest()
    return head


def test_each_line_has_a_chain_of_its_own(tmp_path: Path) -> None:
    with Evidence(tmp_path) as evidence:
        for i in range(3):
            evidence.add(part(str(i)))
        last = evidence.add(Part(line="south", part_id="0", decision="failed"))
        heads = evidence.heads()
    assert (last.number, heads["north"].number) == (1, 3)
    for line in ("north", "south"):
        assert heads[line].link == by_hand(tmp_path / "evidence.db", line)


def test_files_are_named_by_what_they_hold(tmp_path: Path) -> None:
    with Evidence(tmp_path) as evidence:
        for i in range(2):
            evidence.add(part(str(i)), [File("frame", b"pixels", ".png")])
    name = hashlib.sha256(b"pixels").hexdigest() + ".png"
    assert [p.relative_to(tmp_path / "files") for p in (tmp_path / "files").rglob("*.*")] == [
        Path(name[:2]) / name
    ]


def test_a_key_is_written_once(tmp_path: Path) -> None:
    with Evidence(tmp_path) as evidence:
        first = evidence.add(part("1", key="strip-1.png"), sinks=["hook"])
        again = evidence.add(part("1", key="strip-1.png"), sinks=["hook"])
        other = evidence.add(Part(line="south", part_id="1", decision="accepted", key="strip-1.png"))
        assert evidence.outbox.counts() == {"hook": 1}
        assert evidence.known("north", "strip-1.png") and not evidence.known("north", "strip-2.png")
    assert (again.number, again.link, again.new) == (first.number, first.link, False)
    assert other.new


def test_messages_stay_until_they_are_delivered_in_order(tmp_path: Path) -> None:
    with Evidence(tmp_path) as evidence:
        entries = [evidence.add(part(str(i)), sinks=["hook", "mqtt", "hook"]) for i in range(3)]
        evidence.outbox.failed(evidence.outbox.waiting("hook")[0].id, "no answer", 60)
    with Evidence(tmp_path) as evidence:
        waiting = evidence.outbox.waiting("hook")
        assert [json.loads(one.message)["part_id"] for one in waiting] == ["0", "1", "2"]
        assert [json.loads(one.message)["head"] for one in waiting] == [e.link for e in entries]
        assert (waiting[0].attempts, waiting[0].error) == (1, "no answer")
        assert waiting[0].not_before > waiting[0].created + 50
        evidence.outbox.delivered([waiting[0].id, waiting[2].id])
        assert [one.part_id for one in evidence.outbox.waiting("hook")] == ["1"]
        assert evidence.outbox.counts() == {"hook": 1, "mqtt": 3}


def test_heads_are_sent_like_parts(tmp_path: Path) -> None:
    with Evidence(tmp_path) as evidence:
        entry = evidence.add(part("1"))
        evidence.send_heads(["mqtt"])
        message = json.loads(evidence.outbox.waiting("mqtt")[0].message)
    assert (message["kind"], message["line"], message["number"], message["head"]) == (
        "head",
        "north",
        1,
        entry.link,
    )


def test_a_failure_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sise_ort.line.evidence import store

    with Evidence(tmp_path) as evidence:
        evidence.add(part("1"))
        before = evidence.heads()

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(store.outbox, "put", full)
        with pytest.raises(sqlite3.OperationalError):
            evidence.add(part("2", key="2"), [File("frame", b"x")], ["hook"])
        assert evidence.heads() == before and not evidence.known("north", "2")
        assert evidence.outbox.counts() == {}
        monkeypatch.undo()
        assert evidence.add(part("2", key="2"), [File("frame", b"x")], ["hook"]).number == 2


def test_many_writers_make_one_chain(tmp_path: Path) -> None:
    def write(name: str) -> None:
        with Evidence(tmp_path) as evidence:
            for i in range(10):
                evidence.add(part(f"{name}-{i}"), [File("frame", f"{name}{i}".encode())])

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Evidence(tmp_path, create=False) as evidence:
        assert evidence.heads()["north"].number == 40
        assert evidence.heads()["north"].link == by_hand(tmp_path / "evidence.db", "north")


@pytest.mark.parametrize(
    "facts",
    [
        {"part_id": ""},
        {"part_id": "x" * 201},
        {"part_id": "a\0b"},
        {"part_id": "\udcff"},
        {"part_id": "1", "decision": "perhaps"},
        {"part_id": "1", "meta": {"x": object()}},
        {"part_id": "1", "confidence": float("nan")},
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, facts: dict[str, object]) -> None:
    with Evidence(tmp_path) as evidence:
        with pytest.raises(ParameterError, match="the record of part"):
            evidence.add(Part(**{"line": "north", "decision": "accepted", **facts}))  # type: ignore[arg-type]
        assert not evidence.heads()


def test_part_ids_never_become_paths(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    with Evidence(inside) as evidence:
        for name in ("../../etc/passwd", "/etc/passwd", "..\\..\\x", "a/b", "'; DROP TABLE sise_parts; --"):
            evidence.add(part(name, key=name), [File("frame", name.encode(), ".png")])
        for name in ("../evidence.db", "x", "0" * 64 + ".../x"):
            with pytest.raises(OutputError, match="no name of a file"):
                evidence.files.read(name)
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]
    assert {p.name[64:] for p in (inside / "files").rglob("*") if p.is_file()} == {".png"}
    with pytest.raises(ParameterError, match="the record of part"), Evidence(inside) as evidence:
        evidence.add(part("1"), [File("frame", b"x", "/../../x")])


def test_what_is_missing_or_too_new_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no evidence in"):
        Evidence(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    Evidence(tmp_path).close()
    with sqlite3.connect(tmp_path / "evidence.db") as connection:
        connection.execute("UPDATE sise_about SET value = '99' WHERE name = 'version'")
    connection.close()
    with pytest.raises(OutputError, match="version 99"):
        Evidence(tmp_path)
    with pytest.raises(ParameterError, match="not in mysql"):
        Evidence("mysql://host/x")


def test_older_tables_are_migrated_step_by_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sise_ort.line.evidence import tables

    with Evidence(tmp_path) as evidence:
        evidence.add(part("1"))
    done: list[int] = []

    def step(number: int):  # type: ignore[no-untyped-def]
        def migrate(connection: Any) -> None:
            connection.exec_driver_sql(f"ALTER TABLE sise_about ADD COLUMN added_{number} TEXT")
            done.append(number)
            if number == 4:
                raise sqlite3.OperationalError("no room")

        return migrate

    monkeypatch.setattr(tables, "MIGRATIONS", {n: step(n) for n in (2, 3, 4)})
    monkeypatch.setattr(tables, "VERSION", 3)
    for _ in range(2):
        with Evidence(tmp_path, create=False) as evidence:
            assert evidence.heads()["north"].number == 1
    assert done == [2, 3]
    monkeypatch.setattr(tables, "VERSION", 4)
    with pytest.raises(sqlite3.OperationalError, match="no room"):  # nothing of the step stays
        Evidence(tmp_path)
    with sqlite3.connect(tmp_path / "evidence.db") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(sise_about)")]
        version = connection.execute("SELECT value FROM sise_about WHERE name = 'version'").fetchone()
    connection.close()
    assert columns == ["name", "value", "added_2", "added_3"] and version == ("3",)


def test_a_folder_may_move_and_be_opened_by_its_url(tmp_path: Path) -> None:
    with Evidence(tmp_path / "here") as evidence:
        evidence.add(part("1"), [File("frame", b"pixels", ".png")])
    (tmp_path / "here").rename(tmp_path / "there")
    for place in (tmp_path / "there", f"sqlite:///{tmp_path}/there/evidence.db"):
        with Evidence(place, create=False) as evidence:
            name = hashlib.sha256(b"pixels").hexdigest() + ".png"
            assert evidence.files.read(name) == b"pixels"


def test_a_store_of_fsspec_takes_the_files(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with Evidence(tmp_path, files="memory://steel/evidence") as evidence:
        stored = evidence.add(part("1"), [File("frame", b"pixels", ".png")])
    name = hashlib.sha256(b"pixels").hexdigest() + ".png"
    assert fsspec.filesystem("memory").cat(f"/steel/evidence/{name[:2]}/{name}") == b"pixels"
    with Evidence(tmp_path, create=False) as evidence:  # the database knows where they are
        assert evidence.files.read(name) == b"pixels" and evidence.files.size("0" * 64) is None
        evidence.files.remove(name)
        assert evidence.files.size(name) is None
    assert stored.new and not (tmp_path / "files").exists()


def test_the_schema_of_records_is_that_of_the_code() -> None:
    import write_evidence_schema

    assert write_evidence_schema.FILE.read_text(encoding="utf-8") == write_evidence_schema.text()
