"""rows.csv and rows.parquet: other readers find in them what was written."""

from __future__ import annotations

import builtins
import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sise_ort.runtime.evaluation.store import columns
from sise_ort.runtime.evaluation.tables import to_csv, to_parquet, write_tables

COLUMNS = columns(["ebpg"])
TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0")
)  # csv of Python 3.10 reads no NUL


def row(**more: Any) -> dict[str, Any]:
    return {
        "sample": "a", "variant": "rise", "label": "ant", "target": 3, "confidence": 0.1 + 0.2, "ebpg": math.nan,
        "tied": 0.0, "forward_passes": 40, "backward_passes": 0, "seconds": 0.5, "conditions": "cpu", "notes": "", **more,
    }  # fmt: skip


@given(TEXT, st.floats(allow_nan=False))
def test_csv_holds_the_rows(words: str, number: float) -> None:
    content = to_csv([row(label=words, confidence=number)], COLUMNS)
    (found,) = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert found["label"] == words and float(found["confidence"]) == number
    assert (found["ebpg"], found["target"], found["forward_passes"]) == ("", "3", "40")
    assert list(found) == COLUMNS


def test_parquet_holds_the_rows() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [row(), row(sample='b\\n"', ebpg=0.25, label="\ud800")]
    content = to_parquet(rows, COLUMNS)
    assert content is not None
    table = parquet.read_table(io.BytesIO(content))
    assert table.column_names == COLUMNS
    found = table.to_pylist()
    assert found[0] == {**rows[0], "ebpg": None} and found[1] == {**rows[1], "label": "\\ud800"}
    empty = to_parquet([], COLUMNS)
    assert (
        empty is not None
        and parquet.read_table(io.BytesIO(empty)).schema.field("target").type == pyarrow.int64()
    )


def test_without_pyarrow_the_statement_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return load(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    (words,) = write_tables([row()], COLUMNS, tmp_path)
    assert "rows.parquet is not written: pyarrow is not installed" in words
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
