"""The rows of an evaluation as files that other programs read: rows.csv and rows.parquet."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sise_ort.files import write_file
from sise_ort.runtime.evaluation.store import COUNTS, TEXTS, Row

QUOTE = '"'


def write_tables(rows: Sequence[Row], columns: Sequence[str], folder: Path) -> list[str]:
    """Write rows.csv, and rows.parquet where pyarrow is installed.

    Parameters
    ----------
    rows : sequence of dict
        Values by column.
    columns : sequence of str
        In the order of the tables.
    folder : Path
        Where to write.

    Returns
    -------
    list of str
        What a user should know.

    Raises
    ------
    OutputError
        A file cannot be written; what was there before stays.
    """
    write_file(folder / "rows.csv", to_csv(rows, columns))
    content = to_parquet(rows, columns)
    if content is None:
        return ["rows.parquet is not written: pyarrow is not installed (pip install 'sise-ort[evaluate]')"]
    write_file(folder / "rows.parquet", content)
    return []


def to_csv(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    """Return rows as CSV in UTF-8: a header, numbers in full, nothing where a value has no meaning.

    Parameters
    ----------
    rows, columns
        As for `write_tables`.

    Returns
    -------
    bytes
        The file.
    """
    lines = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    text = "".join(",".join(map(_quoted, cells)) + "\n" for cells in lines)
    return text.encode("utf-8", "backslashreplace")


def to_parquet(rows: Sequence[Row], columns: Sequence[str]) -> bytes | None:
    """Return rows as a Parquet file, null where a value has no meaning.

    Parameters
    ----------
    rows, columns
        As for `write_tables`.

    Returns
    -------
    bytes or None
        The file; None where pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    kinds = [
        pyarrow.string() if c in TEXTS else pyarrow.int64() if c in COUNTS else pyarrow.float64()
        for c in columns
    ]
    values = {column: [_value(row[column]) for row in rows] for column in columns}
    stream = io.BytesIO()
    schema = pyarrow.schema(list(zip(columns, kinds, strict=True)))
    pyarrow.parquet.write_table(pyarrow.table(values, schema=schema), stream)
    return stream.getvalue()


def _cell(value: Any) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def _quoted(cell: str) -> str:
    """A cell as RFC 4180 asks; csv.writer leaves a lone carriage return unquoted."""
    return f'"{cell.replace(QUOTE, QUOTE + QUOTE)}"' if re.search('[,"\r\n]', cell) else cell


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return None if math.isnan(value) else value
