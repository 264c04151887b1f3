"""While the database is away, records go to the spool, count as safe, and come into the database in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sise_ort.errors import OutputError
from sise_ort.line.evidence import Evidence, File, Part
from sise_ort.line.evidence.finding import find
from sise_ort.line.keeping import SPOOLED
from sise_ort.line.line import Line
from sise_ort.line.settings import LineSettings
from sise_ort.line.spool import Spool


def test_records_keep_their_order_and_their_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for i in range(3):
        part = Part(line="north", part_id=str(i), decision="accepted", meta={"n": i})
        spool.put(part, [File("frame", b"pixels %d" % i, ".png")])
    again = Spool(tmp_path / "spool")
    for i in range(3):
        part, files = again.first()
        assert (part.part_id, part.meta, bytes(files[0].content)) == (str(i), {"n": i}, b"pixels %d" % i)
        again.drop()
    assert len(again) == 0 == len(Spool(tmp_path / "spool"))


def test_a_damaged_record_is_put_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(Part(line="north", part_id="1", decision="accepted"), [])
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"half")
    with pytest.raises(OutputError, match="cannot be read"):
        spool.first()
    spool.drop(unreadable=True)
    assert [p.suffix for p in tmp_path.iterdir()] == [".damaged"]


def test_a_line_goes_on_without_its_database(
    sigmoid_bundle: Path, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LineSettings(spool=tmp_path / "spool", frames="all")
    words = {"threshold": 1.0, "settings": settings, "provider": "cpu"}
    with Evidence(tmp_path / "evidence") as evidence:
        with monkeypatch.context() as away, Line(sigmoid_bundle, evidence, **words) as line:  # type: ignore[arg-type]
            first = line.submit(frame, "0").result(30)
            assert len(first.kept.result(30)) == 64

            def refuse(*_: Any) -> None:
                raise OutputError("the database is away")

            away.setattr(evidence, "add", refuse)
            results = [line.submit(frame, str(i)).result(30) for i in range(1, 4)]
            assert [r.kept.result(30) for r in results] == [SPOOLED] * 3
            assert "away" in line.status()["store"]
        assert len(Spool(tmp_path / "spool")) == 3  # the process has ended meanwhile
        with Line(sigmoid_bundle, evidence, **words) as line:  # type: ignore[arg-type]
            line.submit(frame, "4").result(30).kept.result(30)
        kept = sorted(find(evidence), key=lambda one: one.number)
        assert [one.part.part_id for one in kept] == ["0", "1", "2", "3", "4"]
        assert all(one.part.files for one in kept)
    assert list((tmp_path / "spool").iterdir()) == []
