"""Pruning: what goes, what stays, and that no record is ever without its files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sise_ort.errors import OutputError, ParameterError
from sise_ort.line.evidence import Evidence, File, Part
from sise_ort.line.evidence.finding import Filter, find
from sise_ort.line.evidence.retention import Retention, prune, stored_bytes, sweep
from sise_ort.line.evidence.verifying import verify

DAY = 86_400.0


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    with Evidence(tmp_path) as opened:
        yield opened


def add(evidence: Evidence, part_id: str, decision: str, *contents: bytes) -> None:
    files = [File(f"file-{i}", content) for i, content in enumerate(contents)]
    evidence.add(Part(line="north", part_id=part_id, key=part_id, decision=decision), files)


def left(evidence: Evidence) -> list[str]:
    return sorted(kept.part.part_id for kept in find(evidence))


def on_disk(evidence: Evidence) -> set[bytes]:
    return {p.read_bytes() for p in Path(evidence.database.files_place).rglob("*") if p.is_file()}


def test_rejects_are_kept_longer(evidence: Evidence) -> None:
    for decision in ("accepted", "rejected", "unclassified", "failed"):
        add(evidence, decision, decision, decision.encode(), b"shared")
    rule = Retention(keep=90 * DAY, keep_rejects=10 * 365 * DAY)
    assert prune(evidence, rule, now=time.time() + 89 * DAY).records == 0
    done = prune(evidence, rule, now=time.time() + 91 * DAY)
    assert (done.records, done.files) == (3, 3) and left(evidence) == ["rejected"]
    assert on_disk(evidence) == {b"rejected", b"shared"}
    assert (
        prune(evidence, Retention(keep=0.0), now=1e12).records == 0
    )  # rejects stay where nothing is said of them
    assert prune(evidence, rule, now=time.time() + 3651 * DAY).records == 1
    assert not on_disk(evidence) and verify(evidence).good


def test_a_key_stays_known_after_its_record_is_pruned(evidence: Evidence) -> None:
    add(evidence, "a", "accepted")
    prune(evidence, Retention(keep=0.0), now=1e12)
    assert evidence.known("north", "a")
    assert not evidence.add(Part(line="north", part_id="a", key="a", decision="accepted")).new
    assert left(evidence) == []


def test_a_dry_run_changes_nothing(evidence: Evidence) -> None:
    add(evidence, "a", "accepted", b"x")
    before = evidence.heads()
    assert prune(evidence, Retention(keep=0.0), dry_run=True, now=1e12).records == 1
    assert prune(evidence, Retention(size=0), dry_run=True).records == 1
    assert evidence.heads() == before and left(evidence) == ["a"] and on_disk(evidence) == {b"x"}


def test_by_size_the_oldest_go_first_and_rejects_last(evidence: Evidence) -> None:
    add(evidence, "reject", "rejected", bytes(50_000))
    for i in range(4):
        add(evidence, f"good-{i}", "accepted", bytes([i + 1]) * 100_000)
    prune(evidence, Retention(size=270_000))
    assert left(evidence) == ["good-2", "good-3", "reject"]
    assert stored_bytes(evidence) <= 270_000
    prune(evidence, Retention(size=60_000))
    assert left(evidence) == ["reject"]
    prune(evidence, Retention(size=0))
    assert left(evidence) == [] and not on_disk(evidence) and verify(evidence).good


def test_files_that_a_killed_writer_left_go_when_they_are_old(evidence: Evidence) -> None:
    add(evidence, "a", "accepted", b"held")
    evidence.files.add("f" * 64 + ".png", b"left")
    assert sweep(evidence).orphans == 0 and b"left" in on_disk(evidence)
    assert sweep(evidence, older_than=-1).orphans == 1
    assert on_disk(evidence) == {b"held"}


def test_a_file_that_went_meanwhile_is_written_again(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruning that comes between a writer's files and its transaction does not leave the record without them."""
    writing = evidence.database.writing

    def first_a_pruning(**options: bool):  # type: ignore[no-untyped-def]
        monkeypatch.undo()
        assert sweep(evidence, older_than=-1).orphans == 1
        return writing(**options)

    monkeypatch.setattr(evidence.database, "writing", first_a_pruning)
    add(evidence, "a", "accepted", b"x")
    assert on_disk(evidence) == {b"x"} and verify(evidence).good


def test_a_file_that_cannot_be_removed_leaves_no_record_without_it(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(evidence, "a", "accepted", b"x")
    with monkeypatch.context() as patch:

        def refuse(_: str) -> None:
            raise OutputError("read-only")

        patch.setattr(evidence.files, "remove", refuse)
        with pytest.raises(OutputError, match="read-only"):
            prune(evidence, Retention(keep=0.0), now=1e12)
    assert left(evidence) == [] and verify(evidence).good
    assert sweep(evidence, older_than=-1).orphans == 1


def test_filters_find_what_they_say(evidence: Evidence) -> None:
    for name in ("a_1", "ab1", "a%1", "a*1", "'; DROP TABLE sise_parts; --"):
        add(evidence, name, "accepted")

    def found(**facts: object) -> list[str]:
        return sorted(k.part.part_id for k in find(evidence, Filter(**facts)))  # type: ignore[arg-type]

    assert found(part_id="a_1") == ["a_1"] and found(part_id="a*1") == ["a*1"]
    assert found(parts="a*1") == ["a%1", "a*1", "a_1", "ab1"]
    assert found(parts="a_*") == ["a_1"] and found(parts="a%*") == ["a%1"] and found(parts="%") == []
    assert found(parts="ab*") == ["ab1"] and found(parts="AB*") == []
    for bad in ("' OR '1'='1", "'; DROP TABLE sise_parts; --x", '" OR 1=1 --', "accepted' --"):
        assert not any(
            found(**{name: bad}) for name in ("part_id", "parts", "label", "decision", "trust", "line", "key")
        )
    assert (
        len(found()) == 5 and found(since=time.time() + 9) == [] and len(found(before=time.time() + 9)) == 5
    )


def test_pages_follow_one_another(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    from sise_ort.line.evidence import finding

    monkeypatch.setattr(finding, "PAGE", 3)
    names = [f"{i:02}" for i in range(8)]
    for name in names:
        add(evidence, name, "accepted")
    assert [k.part.part_id for k in find(evidence, newest_first=False)] == names
    assert [k.part.part_id for k in find(evidence)] == names[::-1]
    assert [k.part.part_id for k in find(evidence, most=4)] == names[:-5:-1]
    assert finding.count(evidence) == 8 and finding.count(evidence, Filter(part_id="03")) == 1


def test_a_record_is_named_by_part_number_or_digits(evidence: Evidence) -> None:
    from sise_ort.line.evidence.finding import one

    add(evidence, "a", "accepted")
    add(evidence, "b", "rejected")
    head = evidence.heads()["north"].link
    assert one(evidence, "a").number == 1 and one(evidence, "north:2").part.part_id == "b"
    assert one(evidence, head[:8]).part.part_id == "b" and one(evidence, head).link == head
    for name in ("c", "north:3", "south:1", "0" * 64, "north:99999999999999999999"):
        with pytest.raises(ParameterError, match="sise-ort evidence list"):
            one(evidence, name)
    prune(evidence, Retention(keep=0.0), now=1e12)
    with pytest.raises(ParameterError, match="was pruned by north:3"):
        one(evidence, "north:1")
    with pytest.raises(ParameterError, match="is itself a pruning"):
        one(evidence, "north:3")
    with pytest.raises(ParameterError, match="keep="):
        Retention(keep=-1.0)
