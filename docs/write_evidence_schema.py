"""Writes docs/evidence.schema.json from the structs of a part's record: python docs/write_evidence_schema.py"""

from __future__ import annotations

import json
from pathlib import Path

from sise_ort.line.evidence import json_schema

FILE = Path(__file__).with_name("evidence.schema.json")


def text() -> str:
    """The file's content."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
