"""Evidence in PostgreSQL: several lines at once, a server that goes away, and the same checks as in SQLite."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kept_parts import files, part
from postgres import Server, postgres

from sise_ort.errors import OutputError, ParameterError
from sise_ort.line.evidence import Evidence, Part
from sise_ort.line.evidence.finding import Filter, find, one
from sise_ort.line.evidence.retention import Retention, prune, stored_bytes, sweep
from sise_ort.line.evidence.verifying import verify

pytestmark = pytest.mark.services
if shutil.which("initdb") is None:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)
pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with postgres() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return running


def test_a_server_must_be_told_where_files_go_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="files= is missing"):
        Evidence(server.url)
    with Evidence(server.url, tmp_path / "files") as evidence:
        evidence.add(part(1), files(1))
    with Evidence(server.url, create=False) as evidence:
        assert verify(evidence).good and evidence.database.files_place == str(tmp_path / "files")


def test_records_are_written_found_verified_and_pruned(server: Server, tmp_path: Path) -> None:
    with Evidence(server.url, tmp_path / "files") as evidence:
        for i in range(6):
            evidence.add(part(i, meta={"text": "a\0b 裂纹"}, label="crack\0"), files(i), ["hook"])
        assert not evidence.add(part(3)).new and evidence.known("north", "strip-3.png")
        head = evidence.heads()["north"].link
        assert verify(evidence, [head]).good
        assert [k.part.part_id for k in find(evidence, Filter(decision="rejected"))] == [
            "48005",
            "48003",
            "48001",
        ]
        assert [k.part.part_id for k in find(evidence, Filter(parts="4800_"))] == []
        assert one(evidence, head[:12]).part.part_id == "48005" and one(evidence, "north:1").number == 1
        assert [w.part_id for w in evidence.outbox.waiting("hook", 2)] == ["48000", "48001"]
        evidence.outbox.failed(1, "no answer", 5)
        evidence.outbox.delivered([1, 2])
        assert evidence.outbox.counts() == {"hook": 4}
        assert stored_bytes(evidence) > 0
        assert prune(evidence, Retention(keep=0.0), now=1e12).files == 6
        report = verify(evidence, [head])
        assert report.good and (report.parts, report.pruned) == (3, 3), report.findings
        prune(evidence, Retention(size=0))
        assert verify(evidence, [head]).good and not list(find(evidence))
        server.psql("DELETE FROM sise_checkpoints WHERE number = 8")
        assert "whose content is missing" in "\n".join(verify(evidence).findings)


def test_many_lines_and_writers_at_once_with_a_pruning(server: Server, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def write(name: str, line: str) -> None:
        try:
            with Evidence(server.url, tmp_path / "files") as evidence:
                for i in range(15):
                    evidence.add(part(i, line=line, key=f"{name}-{i}"), files(i % 3), ["hook"])
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=write, args=(str(n), f"line-{n % 2}")) for n in range(4)]
    for thread in threads:
        thread.start()
    with Evidence(server.url, tmp_path / "files") as evidence:
        while any(thread.is_alive() for thread in threads):
            prune(evidence, Retention(keep=0.0), now=1e12)
            sweep(evidence, older_than=-1)
        for thread in threads:
            thread.join()
        assert not failures
        report = verify(evidence)
        assert report.good, report.findings[:3]
        assert report.parts + report.pruned == 60 and evidence.outbox.counts() == {"hook": 60}
        assert set(report.heads) == {"line-0", "line-1"}


def test_a_server_that_goes_away_is_said_and_comes_back(server: Server, tmp_path: Path) -> None:
    with Evidence(server.url, tmp_path / "files") as evidence:
        evidence.add(part(0), files(0))
        server.stop()
        try:
            with pytest.raises(OutputError, match="fails"):
                evidence.add(part(1), files(1))
        finally:
            server.start()
        assert evidence.add(part(1), files(1)).number == 2
        assert verify(evidence).good


def test_no_password_stands_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        Evidence(f"postgresql://me:secret@/steel?host={tmp_path}", tmp_path / "files")
    assert "secret" not in str(caught.value)


def test_a_record_that_no_text_column_holds_is_refused_whole(server: Server, tmp_path: Path) -> None:
    with Evidence(server.url, tmp_path / "files") as evidence:
        with pytest.raises(ParameterError):
            evidence.add(Part(line="north", part_id="a\0", decision="accepted"))
        assert evidence.heads() == {}
