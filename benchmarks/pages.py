"""Parts of the pages of docs/ that benchmarks write."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def replace_part(page: str, script: str, parts: list[str]) -> Path:
    """Put paragraphs between the two marks of a script on a page of docs/; returns the page."""
    path = DOCS / page
    begin, end = f"<!-- written by benchmarks/{script}.py -->\n", f"<!-- until here: {script} -->"
    before, rest = path.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    path.write_text(before + begin + "\n" + "\n\n".join(parts) + "\n\n" + end + after, encoding="utf-8")
    return path
