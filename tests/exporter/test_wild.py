"""Files as found in public repositories: each is explained in its own task, or refused with the true reason.

The table stands in benchmarks/wild.py, docs/models.md shows what came of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import wild

PAGE = wild.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow if c.slow else (), id=c.file) for c in wild.CASES]
)
def test_file(case: wild.Case, shared_data: Path) -> None:
    """The blocks are those of the table, and the heat map shows something; or the error names the reason."""
    row = wild.measure(case, shared_data)
    if not case.task:
        assert row.task == "", row
        assert case.reason in row.reason
        assert len(row.reason) <= 500
        return
    assert (row.task, row.reason) == (case.task, "")
    assert row.blocks == case.blocks
    assert row.covered > 0.01


def test_every_file_stands_in_the_table(shared_data: Path) -> None:
    assert {p.stem for p in (shared_data / "wild").glob("*.onnx")} == {c.file for c in wild.CASES}


def test_the_page_shows_every_file() -> None:
    section = wild.section_of(PAGE)
    assert wild.replaced(PAGE, section) == PAGE
    for case in wild.CASES:
        (line,) = [text for text in section.splitlines() if text.startswith(f"| {case.file} |")]
        assert f"| {case.task} |" in line
        assert ("refused" in line) == (not case.task)
        assert case.reason in line
