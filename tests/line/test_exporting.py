"""Tables and zip files hold what the records say."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kept_parts import files, part

from sise_ort.errors import OutputError
from sise_ort.line.evidence import Evidence, chain
from sise_ort.line.evidence.exporting import COLUMNS, write_csv, write_parquet, write_zip
from sise_ort.line.evidence.finding import find, one


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    with Evidence(tmp_path / "evidence") as opened:
        for i in range(4):
            opened.add(part(i, meta={"coil": 7, "note": 'a "b", c'}), files(i))
        yield opened


def test_csv_is_read_again(evidence: Evidence, tmp_path: Path) -> None:
    assert write_csv(find(evidence, newest_first=False), tmp_path / "a.csv") == 4
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [r["part_id"] for r in rows] == ["48000", "48001", "48002", "48003"]
    reject = rows[1]
    assert (reject["decision"], reject["trust"], reject["share"], reject["box_bottom"]) == (
        "rejected",
        "sound",
        "0.6",
        "6",
    )
    assert json.loads(reject["meta"]) == {"coil": 7, "note": 'a "b", c'}
    assert rows[0]["share"] == "" and rows[3]["link"] == evidence.heads()["north"].link


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_cell_of_a_csv_is_a_formula(evidence: Evidence, tmp_path: Path, name: str) -> None:
    evidence.add(part(9, part_id=name, key=name))
    write_csv(find(evidence, most=1), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["part_id"] == f"'{name}"


def test_parquet_has_types(evidence: Evidence, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_parquet(find(evidence, newest_first=False), tmp_path / "a.parquet") == 4
    table = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert table[3]["number"] == 4 and table[3]["confidence"] == 0.3 and table[0]["share"] is None
    assert table[2]["submitted"] == part(2).submitted


def test_a_zip_holds_the_part_and_its_proof(evidence: Evidence, tmp_path: Path) -> None:
    kept = one(evidence, "48001")
    names = write_zip(evidence, kept, tmp_path / "a.zip")
    assert names == ["record.json", "link.json", "frame.png", "map-1.npz"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        record, link = archive.read("record.json"), json.loads(archive.read("link.json"))
        assert archive.read("frame.png") == b"frame 1"
    assert json.loads(record)["part_id"] == "48001"
    assert link["content_sha256"] == hashlib.sha256(record).hexdigest()
    before = one(evidence, "north:1").link
    assert link["link"] == chain.link(before, "north", 2, "part", link["content_sha256"])
    first = (tmp_path / "a.zip").read_bytes()
    write_zip(evidence, kept, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == first


def test_roles_never_become_paths(evidence: Evidence, tmp_path: Path) -> None:
    from sise_ort.line.evidence import File

    roles = ("../../x", "/etc/passwd", "map:crack/deep")
    evidence.add(part(9), [File(role, role.encode()) for role in roles])
    names = write_zip(evidence, one(evidence, "48009"), tmp_path / "a.zip")
    assert names[2:] == ["x", "etc-passwd", "map-crack-deep"]


def test_a_changed_file_is_not_exported(evidence: Evidence, tmp_path: Path) -> None:
    kept = one(evidence, "48001")
    name = kept.part.files[0].name
    path = Path(evidence.database.files_place) / name[:2] / name
    path.write_bytes(b"another")
    with pytest.raises(OutputError, match="was changed"):
        write_zip(evidence, kept, tmp_path / "a.zip")
    path.unlink()
    with pytest.raises(OutputError, match="cannot be read"):
        write_zip(evidence, kept, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
