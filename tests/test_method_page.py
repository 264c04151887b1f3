"""docs/method.md: what code cites is there, and what it says holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
FILES = sorted(
    path
    for folder in ("sise_ort", "runtime", "exporter", "line", "cli", "tests", "benchmarks", "docs")
    for pattern in ("*.py", "*.md")
    for path in (ROOT / folder).rglob(pattern)
    if not path.is_symlink() and path != Path(__file__).resolve()
)


def citations(text: str) -> list[str]:
    """Sections that a text cites as "docs/method.md, Fusion"; several stand with "and" between them."""
    cited = re.findall(r"method\.md\)?,\s+([^).:;`\"]+)", text)
    return [re.sub(r"\s+", " ", name).strip() for part in cited for name in re.split(r"\band\b|,", part)]


def test_citations_are_found() -> None:
    assert citations("(docs/method.md, Flat maps). And docs/method.md, Masks and\nFusion: x") == [
        "Flat maps",
        "Masks",
        "Fusion",
    ]


def test_cited_sections_exist() -> None:
    found = {(path.name, name) for path in FILES for name in citations(path.read_text(encoding="utf-8"))}
    assert {name for _, name in found} >= {
        "Blocks",
        "Heads",
        "Selection",
        "Flat maps",
        "Masks",
        "Weights",
        "Fusion",
    }
    assert not {(file, name) for file, name in found if name not in SECTIONS}


def test_nothing_cites_a_page_that_is_not_there() -> None:
    pattern = re.compile(r"METHOD(?:\.md|'s|:| §|, )")
    assert not [path for path in FILES if pattern.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`((?:sise_ort|exporter)/[\w/]+\.py)`", PAGE))))
def test_named_files_exist(file: str) -> None:
    assert (ROOT / file).is_file()


def test_every_formula_has_its_section() -> None:
    """Each module of formulas cites the section that defines it; the sketch belongs to the budget."""
    for path in (ROOT / "sise_ort" / "formulas").glob("*.py"):
        if path.stem not in ("ops", "numpy_ops"):
            assert re.search(r"docs/(method|budget)\.md", path.read_text(encoding="utf-8").split('"""')[1]), (
                path
            )
