"""Records for other programs: tables as CSV and Parquet, one part as a zip file."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sise_ort.errors import MissingDependencyError, OutputError
from sise_ort.files import file_name, new_file
from sise_ort.line.evidence.finding import Kept
from sise_ort.line.evidence.record import sha256, to_json
from sise_ort.line.evidence.store import Evidence

TEXTS = (
    "line", "link", "part_id", "key", "submitted", "decision", "reason", "label", "explained", "trust", "trust_reason",
    "picture_sha256", "source", "bundle", "bundle_sha256", "provider", "sise_ort", "onnxruntime", "method", "meta", "files",
)  # fmt: skip
COUNTS = ("number", "explanations", "regions", "box_top", "box_left", "box_bottom", "box_right", "passes")
COLUMNS = (
    "line", "number", "link", "part_id", "key", "submitted", "decision", "reason", "label", "confidence", "explained", "trust",
    "trust_reason", "explanations", "regions", "share", "peak", "box_top", "box_left", "box_bottom", "box_right",
    "box_top_mm", "box_left_mm", "box_bottom_mm", "box_right_mm", "agreement", "passes", "seconds", "method",
    "picture_sha256", "source", "bundle", "bundle_sha256", "provider", "sise_ort", "onnxruntime", "meta", "files",
)  # fmt: skip
"""Columns of the tables; region, verdict, agreement and method are those of the first explanation."""
ROWS = 2000
"""Rows of a Parquet file that are written at once."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of cells that a spreadsheet would take for a formula; CSV puts an apostrophe in front of them."""
DATE = (1980, 1, 1, 0, 0, 0)
"""Time of the files in a zip, so that equal parts give equal bytes."""


def row(kept: Kept) -> dict[str, Any]:
    """A record as a row of a table; None where a value has no meaning."""
    part = kept.part
    first = part.explanations[0] if part.explanations else None
    region = first.regions[0] if first is not None and first.regions else None
    boxes = dict(zip(("top", "left", "bottom", "right"), region.box, strict=True)) if region else {}
    millimetres = region.box_mm if region is not None and region.box_mm is not None else (None,) * 4
    found: dict[str, Any] = {
        "line": part.line,
        "number": kept.number,
        "link": kept.link,
        "part_id": part.part_id,
        "key": part.key,
        "submitted": part.submitted.isoformat(),
        "decision": part.decision,
        "reason": part.reason,
        "label": part.label,
        "confidence": part.confidence,
        "explained": part.explained,
        "trust": part.trust,
        "trust_reason": first.verdict.reason if first else "",
        "explanations": len(part.explanations),
        "regions": sum(len(one.regions) for one in part.explanations),
        "share": region.share if region else None,
        "peak": region.peak if region else None,
        **{f"box_{side}": boxes.get(side) for side in ("top", "left", "bottom", "right")},
        **{
            f"box_{side}_mm": value
            for side, value in zip(("top", "left", "bottom", "right"), millimetres, strict=True)
        },
        "agreement": first.agreement if first else None,
        "passes": first.forward_passes if first else None,
        "seconds": part.seconds.get("total"),
        "method": first.method if first else "",
        "picture_sha256": part.picture.sha256 if part.picture else "",
        "source": part.picture.source if part.picture else "",
        "bundle": str(part.model.get("bundle", "")),
        "bundle_sha256": str(part.model.get("bundle_sha256", "")),
        "provider": str(part.model.get("provider", "")),
        "sise_ort": part.versions.get("sise_ort", ""),
        "onnxruntime": part.versions.get("onnxruntime", ""),
        "meta": msgspec.json.encode(part.meta).decode() if part.meta else "",
        "files": " ".join(file.name for file in part.files),
    }
    return {name: found[name] for name in COLUMNS}


def write_csv(records: Iterable[Kept], path: Path) -> int:
    """Write a table as CSV in UTF-8, with a header.

    Parameters
    ----------
    records : iterable of Kept
    path : Path

    Returns
    -------
    int
        Its rows.

    Raises
    ------
    OutputError
        The file cannot be written; what was there before stays.
    """
    rows = 0
    with new_file(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="", errors="backslashreplace")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for kept in records:
            writer.writerow([_cell(value) for value in row(kept).values()])
            rows += 1
        text.flush()
        text.detach()
    return rows


def write_parquet(records: Iterable[Kept], path: Path) -> int:
    """Write a table as Parquet; null where a value has no meaning.

    Parameters
    ----------
    records, path
        As for `write_csv`.

    Returns
    -------
    int
        Its rows.

    Raises
    ------
    MissingDependencyError
        pyarrow is not installed.
    OutputError
        As `write_csv`.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            "a Parquet file needs the package pyarrow: pip install 'sise-ort[evaluate]'"
        ) from error
    kinds = {
        **dict.fromkeys(COLUMNS, pyarrow.float64()),
        **dict.fromkeys(TEXTS, pyarrow.string()),
        **dict.fromkeys(COUNTS, pyarrow.int64()),
        "submitted": pyarrow.timestamp("us", "UTC"),
    }
    schema = pyarrow.schema([(name, kinds[name]) for name in COLUMNS])
    rows = 0
    with new_file(path) as stream, pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for some in _batches(records):
            table = [{**row(kept), "submitted": kept.part.submitted} for kept in some]
            writer.write_table(pyarrow.Table.from_pylist(table, schema))
            rows += len(some)
    return rows


def write_zip(evidence: Evidence, kept: Kept, path: Path) -> list[str]:
    """Write one part as a zip file: its record, its link of the chain, and all its files.

    Parameters
    ----------
    evidence : Evidence
    kept : Kept
        The record.
    path : Path

    Returns
    -------
    list of str
        Names in the zip file: record.json, link.json, and each file by its role.

    Raises
    ------
    OutputError
        A file of the part is lost or was changed, or the zip file cannot be written.
    """
    part, content = kept.part, to_json(kept.part)
    link = {
        "line": part.line,
        "number": kept.number,
        "content_sha256": sha256(content),
        "link": kept.link,
        "note": "content_sha256 is that of record.json; docs/evidence.md says how link follows from it",
    }
    with new_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive, "record.json", content)
        _write(archive, "link.json", msgspec.json.format(msgspec.json.encode(link)))
        for file in part.files:
            try:
                data = evidence.files.read(file.name)
            except OSError as error:
                raise OutputError(
                    f"file {file.role} of part {part.part_id!r} cannot be read: {error}"
                ) from error
            if sha256(data) != file.sha256:
                raise OutputError(
                    f"file {file.role} of part {part.part_id!r} was changed; `sise-ort evidence verify`"
                )
            _write(archive, f"{file_name(file.role)}{file.ending}", data)
        return archive.namelist()


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, DATE)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    archive.writestr(info, content)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _batches(records: Iterable[Kept]) -> Iterator[list[Kept]]:
    batch: list[Kept] = []
    for kept in records:
        batch.append(kept)
        if len(batch) == ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
