"""sise-ort evidence: what each command prints, its exit code, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kept_parts import files, part

from sise_ort.cli.main import main
from sise_ort.line.evidence import Evidence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Evidence(tmp_path / "evidence") as evidence:
        for i in range(4):
            evidence.add(part(i), files(i))
    return tmp_path / "evidence"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evidence", *(str(a) for a in arguments)])


def test_list(folder: Path) -> None:
    result = call("list", folder)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 5
    assert lines[1].split() == [
        *("north:4", "2026-11-25", "06:00:03", "48003", "rejected", "crack", "0.300", "sound"),
        *("2,", "3,", "6,", "8"),
    ]
    assert call("list", folder, "--oldest-first").stdout.splitlines()[1].startswith("north:1")
    few = call("list", folder, "--limit", 2)
    assert len(few.stdout.splitlines()) == 3 and "2 of 4 records" in few.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--decision", "rejected"], ["48001", "48003"]),
        (["--verdict", "sound"], ["48001", "48003"]),
        (["--verdict", "weak"], []),
        (["--class", "crack", "--least-confidence", "0.2"], ["48002", "48003"]),
        (["--most-confidence", "0.05"], ["48000"]),
        (["--part", "4800*"], ["48000", "48001", "48002", "48003"]),
        (["--part", "%"], []),
        (["--since", "2026-11-25T06:00:02", "--before", "2026-11-25T06:00:03Z"], ["48002"]),
        (["--line", "south"], []),
        (["--class", "' OR 1=1 --"], []),
    ],
)
def test_filters(folder: Path, words: list[str], parts: list[str]) -> None:
    result = call("list", folder, "--json", "--oldest-first", *words)
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["record"]["part_id"] for line in result.stdout.splitlines()] == parts


def test_show(folder: Path) -> None:
    result = call("show", folder, "48001")
    assert "rejected: crack 0.1000" in result.stdout
    assert "region 2, 3, 6, 8 (top, left, bottom, right): 60.0 % of the heat" in result.stdout
    found = json.loads(call("show", folder, "north:2", "--json").stdout)
    assert (found["number"], found["record"]["part_id"]) == (2, "48001")
    missing = call("show", folder, "no such part")
    assert missing.exit_code == 2 and "no record is of a part 'no such part'" in missing.stderr


def test_what_harms_a_terminal_is_shown_harmless(folder: Path) -> None:
    with Evidence(folder) as evidence:
        evidence.add(part(9, part_id="a\x1b[31mb", label="\u202edaed"))
    for result in (call("list", folder), call("show", folder, "north:5")):
        assert "\x1b" not in result.stdout and "\u202e" not in result.stdout and "\\x1b" in result.stdout


def test_export(folder: Path, tmp_path: Path) -> None:
    result = call("export", folder, "-o", tmp_path / "a.csv", "--decision", "rejected")
    assert result.exit_code == 0 and len((tmp_path / "a.csv").read_text().splitlines()) == 3
    assert call("export", folder, "48001", "-o", tmp_path / "a.zip").exit_code == 0
    assert (tmp_path / "a.zip").read_bytes()[:2] == b"PK"
    for words in (
        ["48001", "-o", tmp_path / "b.csv"],
        ["-o", tmp_path / "b.zip"],
        ["-o", tmp_path / "b.xlsx"],
    ):
        refused = call("export", folder, *words)
        assert refused.exit_code == 2 and "-o is" in refused.stderr


def test_prune(folder: Path) -> None:
    dry = call("prune", folder, "--keep", "0d", "--dry-run")
    assert "2 records would be removed" in dry.stderr and len(call("list", folder).stdout.splitlines()) == 5
    done = call("prune", folder, "--keep", "0d")
    assert "2 records and 4 files removed" in done.stderr
    assert call("prune", folder, "--keep", "90d", "--keep-rejects", "10y", "--size", "1GB").exit_code == 0
    assert call("verify", folder).exit_code == 0
    for words in (["--keep", "soon"], ["--keep-rejects", "-1d"], ["--size", "many"], ["--size", "5PB"]):
        refused = call("prune", folder, *words)
        assert refused.exit_code == 2 and words[0] in refused.stderr, refused.stderr


def test_verify(folder: Path) -> None:
    result = call("verify", folder)
    head, name = result.stdout.split()
    assert result.exit_code == 0 and name == "north:4" and len(head) == 64
    assert "4 records, 0 digests of pruned ones, 8 files: all as they were written" in result.stderr
    assert call("verify", folder, "--head", head).exit_code == 0
    other = call("verify", folder, "--head", "0" * 64)
    assert other.exit_code == 1 and "is in no chain" in other.stderr
    assert call("verify", folder, "--head", "abc").exit_code == 2
    with sqlite3.connect(folder / "evidence.db") as connection:
        connection.execute("UPDATE sise_parts SET decision = 'accepted'")
    connection.close()
    changed = call("verify", folder, "--sizes-only")
    assert changed.exit_code == 1 and "north:2 has columns that differ" in changed.stderr


def test_no_evidence_is_said(tmp_path: Path) -> None:
    for name in ("list", "verify"):
        result = call(name, tmp_path / "nothing")
        assert result.exit_code == 1 and "there is no evidence in" in result.stderr
    assert not (tmp_path / "nothing").exists()
    assert call("list", "mysql://host/x").exit_code == 2
