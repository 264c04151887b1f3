"""A line whose PostgreSQL is stopped and started again: records go to the spool, and into the chain in their order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Server, postgres

from sise_ort.line.evidence import Evidence
from sise_ort.line.evidence.finding import find
from sise_ort.line.evidence.verifying import verify
from sise_ort.line.keeping import SPOOLED
from sise_ort.line.line import Line
from sise_ort.line.settings import LineSettings

pytestmark = pytest.mark.services
if shutil.which("initdb") is None:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)
pytest.importorskip("psycopg")


@pytest.fixture
def server() -> Iterator[Server]:
    with postgres() as found:
        yield found


def test_records_wait_in_the_spool(server: Server, sigmoid_bundle: Path, frame: Any, tmp_path: Path) -> None:
    settings = LineSettings(spool=tmp_path / "spool", frames="all")
    with (
        Evidence(server.url, tmp_path / "files") as evidence,
        Line(sigmoid_bundle, evidence, threshold=1.0, settings=settings, provider="cpu") as line,
    ):

        def submit(name: str) -> str:
            return line.submit(frame, name).result(60).kept.result(60)

        assert len(submit("0")) == 64
        server.stop()
        assert [submit(name) for name in "12"] == [SPOOLED] * 2
        server.start()
        ends = time.monotonic() + 60
        while line.status()["spool"] and time.monotonic() < ends:
            time.sleep(0.05)
        assert len(submit("3")) == 64
        kept = sorted(find(evidence), key=lambda one: one.number)
        assert [one.part.part_id for one in kept] == ["0", "1", "2", "3"]
        assert verify(evidence).good
