"""Class names: what a file or a list must hold, and what is said of names that stand twice."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest

import sise_ort
from sise_ort.errors import ExportError, SourceError
from sise_ort.exporter import export_bundle
from sise_ort.exporter.labels import read_labels, repeated


def test_names_that_stand_twice_are_told(tmp_path: Path, tiny_onnx: Path) -> None:
    said: list[str] = []
    manifest = sise_ort.export(
        tiny_onnx,
        tmp_path / "t.sise",
        normalize="tf",
        labels=["crane", "bee", "crane", "ant"],
        report=said.append,
    )
    assert manifest.labels == ("crane", "bee", "crane", "ant")
    assert [s for s in said if s.startswith("note:")] == [
        "note: several classes are called 'crane'; name such a class by its number"
    ]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", "b", "a"], "'a';"),
        (["a", "b", "c"], ""),
        ([*"aabbccdd"], "'a', 'b', 'c' and more;"),
        (["", "", "x"], "'';"),
    ],
)
def test_repeated(labels: list[str], words: str) -> None:
    assert (words in repeated(labels)) if words else repeated(labels) == ""


@pytest.mark.parametrize("text", ["a\r\nb\r\nc\r\n", "a\nb\nc", "\ufeffa\nb\nc\n\n\n", " a \n b\nc"])
def test_text_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_bytes(text.encode())
    assert read_labels(tmp_path / "names.txt", 3, ()) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("n.txt", b"a\nb\x1b[2J\nc\n", r"label 1 in '.*', 'b\\x1b\[2J', holds control characters"),
        ("n.txt", b"\xff\xfe\x00", "cannot be read: 'utf-8' codec"),
        ("n.txt", b"a\nb\n", "2 labels in .*, but the network has 3 classes"),
        ("n.json", b'["a", "b"', "cannot be read: "),
        ("n.json", b"[" * 100_000, "cannot be read: "),
        ("n.json", b'{"0": "a"}', "must hold a JSON list of names"),
        ("n.json", rb'["a", "b", "\ud800"]', r"label 2 .*halves of characters"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=words):
        read_labels(tmp_path / name, 3, ())


@pytest.mark.parametrize("labels", [{0: "a", 1: "b"}, {"a": 0, "b": 1}, {"a", "b"}, b"ab"])
def test_what_has_no_order_of_names_is_refused(labels: Any) -> None:
    """Hugging Face's id2label would give classes called 0 and 1, a set another order in each process."""
    with pytest.raises(ExportError, match="a list of names in the order of the classes is needed"):
        read_labels(labels, 2, ())


def test_pipes_and_huge_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(SourceError, match="is a named pipe; a file of labels is needed"):
        read_labels(tmp_path / "pipe.txt", 3, ())
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ExportError, match="at most 67,108,864 are read"):
        read_labels(tmp_path / "huge.txt", 3, ())


def test_the_options_of_an_export_are_spelled_out() -> None:
    """`help(export_bundle)` and tools see flat keywords, though the groups hold them."""
    parameters = inspect.signature(export_bundle).parameters
    assert {"mean", "std", "labels", "head", "layers", "precision", "force", "report"} <= set(parameters)
    assert "options" not in parameters
    assert parameters["hidden"].default == "mean" and parameters["precision"].default == "fp32"
