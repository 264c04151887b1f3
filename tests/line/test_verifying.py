"""Whatever is changed, removed or put in behind the package's back is noticed, and said."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sise_ort.line.evidence import Evidence, File, Part
from sise_ort.line.evidence.retention import Retention, prune
from sise_ort.line.evidence.verifying import verify


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    with Evidence(tmp_path) as opened:
        for i in range(6):
            decision = "rejected" if i % 2 else "accepted"
            opened.add(
                Part(line="north", part_id=f"p{i}", key=f"k{i}", decision=decision, confidence=i / 10),
                [File("frame", f"pixels {i}".encode(), ".png"), File("map-1", b"the same map", ".npz")],
            )
        opened.add(Part(line="south", part_id="s", decision="failed", reason="no picture"))
        yield opened


def sql(evidence: Evidence, *statements: str) -> None:
    """Change the database as somebody would who does not use this package."""
    connection = sqlite3.connect(evidence.database.folder / "evidence.db")  # type: ignore[operator]
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def stored(evidence: Evidence, content: bytes, ending: str) -> Path:
    name = hashlib.sha256(content).hexdigest() + ending
    return Path(evidence.database.files_place) / name[:2] / name


def test_what_was_written_is_found_good(evidence: Evidence) -> None:
    heads = [head.link for head in evidence.heads().values()]
    report = verify(evidence, heads)
    assert report.good, report.findings
    assert (report.parts, report.files, report.pruned) == (7, 7, 0)
    assert report.heads["north"] == (6, evidence.heads()["north"].link)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE sise_parts SET decision = 'accepted' WHERE line='north' AND number = 2",
            "north:2 has columns",
        ),
        ("UPDATE sise_parts SET confidence = 0.9 WHERE line='north' AND number = 3", "confidence"),
        ("UPDATE sise_parts SET submitted = submitted + 1 WHERE line='north' AND number = 3", "submitted"),
        (
            "UPDATE sise_parts SET record = replace(record, 'rejected', 'accepted') WHERE line='north' AND number = 4",
            "north:4 has a record that was changed",
        ),
        ("DELETE FROM sise_parts WHERE line='north' AND number = 4", "north:4 has lost its record"),
        (
            "UPDATE sise_entries SET content_sha256 = link WHERE line='north' AND number = 4",
            "north:4 has a link that does not follow",
        ),
        ("DELETE FROM sise_entries WHERE line='north' AND number = 4", "north:4 is missing"),
        ("DELETE FROM sise_entries WHERE line='north' AND number = 6", "its end was cut off"),
        ("DELETE FROM sise_lines WHERE line='north'", "not noted"),
        ("UPDATE sise_lines SET number = 5 WHERE line='north'", "its end was cut off or changed"),
        ("UPDATE sise_entries SET pruned_by = 6 WHERE line='north' AND number = 4", "no pruning names it"),
        ("UPDATE sise_entries SET key_sha256 = 'x' WHERE line='north' AND number = 4", "key_sha256"),
        (
            "DELETE FROM sise_files WHERE line='north' AND number = 4 AND role = 'frame'",
            "north:4 has a list of files",
        ),
        (
            "INSERT INTO sise_parts SELECT line, 99, key, part_id, submitted, decision, label, confidence, explained, trust,"
            " regions, record FROM sise_parts WHERE line='north' AND number = 4",
            "north has 1 records that are in no chain",
        ),
        (
            "INSERT INTO sise_parts SELECT 'east', number, key, part_id, submitted, decision, label, confidence, explained,"
            " trust, regions, record FROM sise_parts WHERE line='north' AND number = 4",
            "east has 1 records that are in no chain",
        ),
    ],
)
def test_what_was_changed_is_noticed(evidence: Evidence, statement: str, words: str) -> None:
    sql(evidence, statement)
    report = verify(evidence)
    assert words in "\n".join(report.findings)


def test_records_swapped_as_a_whole_are_noticed(evidence: Evidence) -> None:
    """Record and content digest are exchanged together, so that each fits its link's content but not its place."""
    swap = "UPDATE sise_parts SET number = {} WHERE line='north' AND number = {}"
    sql(evidence, swap.format(102, 2), swap.format(2, 4), swap.format(4, 102))
    found = "\n".join(verify(evidence).findings)
    assert "north:2 has a record that was changed" in found and "north:4 has a record" in found


def test_a_cut_tail_shows_against_a_head_kept_elsewhere(evidence: Evidence) -> None:
    head = evidence.heads()["north"].link
    sql(
        evidence,
        *(
            f"DELETE FROM sise_{table} WHERE line='north' AND number > 4"
            for table in ("parts", "files", "entries")
        ),
        "UPDATE sise_lines SET number = 4, head = (SELECT link FROM sise_entries WHERE line='north' AND number = 4)"
        " WHERE line='north'",
    )
    assert verify(evidence).good  # nothing inside tells
    report = verify(evidence, [head])
    assert not report.good and head in report.findings[0]


def test_a_head_of_earlier_days_is_found_in_the_chain(evidence: Evidence) -> None:
    head = evidence.heads()["north"].link
    evidence.add(Part(line="north", part_id="later", decision="accepted"))
    assert verify(evidence, [head.upper()]).good
    assert not verify(evidence, ["0" * 64]).good


def test_lost_and_changed_files_are_noticed(evidence: Evidence) -> None:
    stored(evidence, b"pixels 1", ".png").unlink()
    stored(evidence, b"pixels 2", ".png").write_bytes(b"PIXELS 2")
    found = verify(evidence).findings
    assert len(found) == 2
    assert found[0].startswith("north:2 has lost its file frame")
    assert found[1].startswith("north:3 has a file frame that was changed")
    assert len(verify(evidence, contents=False).findings) == 1  # of the same size
    stored(evidence, b"pixels 3", ".png").write_bytes(b"more pixels")
    assert len(verify(evidence, contents=False).findings) == 2


def test_a_pruning_is_no_finding_and_a_changed_one_is(evidence: Evidence) -> None:
    head = evidence.heads()["north"].link
    prune(evidence, Retention(keep=0.0), now=1e12)
    report = verify(evidence, [head])
    assert report.good, report.findings
    assert (report.parts, report.pruned, report.checkpoints) == (3, 4, 2)
    sql(
        evidence,
        "UPDATE sise_checkpoints SET content = replace(content, '0 days', '9 days') WHERE line='north'",
    )
    found = "\n".join(verify(evidence).findings)
    assert "north:7 is a pruning whose content is missing or was changed" in found
    sql(evidence, "DELETE FROM sise_checkpoints WHERE line='north'")
    assert "no pruning names it" in "\n".join(verify(evidence).findings)
