"""Command lines of evaluations of a small data set, and what they leave behind."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import click.testing

from sise_ort.cli.main import main
from sise_ort.runtime.evaluation.store import DATABASE

METHODS = "sise,gradcam,scorecam,rise"
COMMON = [
    "--methods",
    METHODS,
    "--mu",
    "0,0.5,adaptive",
    "--set",
    "rise.masks=40",
    "--steps",
    "6",
    "--batch-size",
    "4",
]


def arguments(bundle: Path, pictures: Path, out: Path, *more: str) -> list[str]:
    return ["evaluate", str(bundle), "--dataset", "folder", str(pictures), *COMMON, "-o", str(out), *more]


def run(*args: Any) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(a) for a in args])


def rows_without_seconds(out: Path) -> list[dict[str, str]]:
    with (out / "rows.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def count_rows(out: Path) -> int:
    """Rows in the database, 0 while there is none."""
    try:
        base = sqlite3.connect(f"{(out / DATABASE).as_uri()}?mode=ro", uri=True)
        try:
            return int(base.execute("SELECT count(*) FROM rows").fetchone()[0])
        finally:
            base.close()
    except sqlite3.OperationalError:
        return 0


def without_seconds(out: Path) -> Any:
    summary = json.loads((out / "summary.json").read_text())
    for line in summary["lines"]:
        line.pop("seconds")
    summary["statements"] = [words for words in summary["statements"] if "seconds" not in words]
    return summary
