"""What CONTRIBUTING names is there, and the drawings are what their script draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import write_drawings

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$",
    GUIDE.split("## Twelve changes")[1].split("\n## ")[0],
    re.MULTILINE,
)


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0][:40])
def test_places_of_changes_exist(row: tuple[str, str]) -> None:
    paths = [p for cell in row for p in re.findall(r"`(\w+/[\w/.]*)`", cell)]
    assert paths and [p for p in paths if not (ROOT / p).exists()] == []
    where = row[1]
    for name, path in re.findall(r"`([A-Z_]+)` in `([\w/.]+)`", where):
        assert re.search(rf"^{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)


def test_there_are_twelve() -> None:
    assert len(ROWS[1:]) == 12


@pytest.mark.parametrize("name", write_drawings.PICTURES)
def test_drawings_are_what_the_script_draws(name: str) -> None:
    # else: python docs/write_drawings.py
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert text == write_drawings.PICTURES[name]()
    named = re.findall(r"\b((?:sise_ort|runtime)/[\w/]+\.py)", text)
    assert named or name == "rooms.svg"
    assert [path for path in named if not (ROOT / path).exists()] == []
