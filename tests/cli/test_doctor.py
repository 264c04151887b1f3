"""doctor where nothing is missing, where something is broken, and where there is no home."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sise_ort.cli.doctor import clashes
from sise_ort.cli.main import main


def doctor(tmp_path: Path, **modules: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with modules that stand before the installed ones, without HOME."""
    for name, text in modules.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "sise_ort.cli.main", "doctor"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_a_home(tmp_path: Path) -> None:
    done = doctor(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ready on cpu" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "problem: "),  # an empty folder, as one uninstalled of two packages leaves it
        ("raise ImportError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13"),
        ("raise OSError(8, 'wrong format')", "wrong format"),
        ("raise RuntimeError('compiled for NumPy 1')", "compiled for NumPy 1"),
    ],
)
def test_a_broken_onnxruntime(tmp_path: Path, text: str, words: str) -> None:
    done = doctor(tmp_path, onnxruntime=text)
    assert done.returncode == 1 and words in done.stdout, done.stdout + done.stderr
    assert "problem: " in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_a_damaged_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "numpy":
            raise metadata.PackageNotFoundError(name)
        if name == "rich":
            raise KeyError("Version")
        return "1.0" if not name.startswith("onnxruntime-") else str(1 / 0)

    monkeypatch.setattr("importlib.metadata.version", version)
    result: Result = CliRunner().invoke(main, ["doctor"])
    assert (
        "numpy" in result.stdout
        and "not installed" in result.stdout
        and "damaged (KeyError)" in result.stdout
    )
    assert "Traceback" not in result.output


def test_packages_that_overwrite_each_other() -> None:
    assert clashes({"onnxruntime": "1", "numpy": "2"}) == []
    (both,) = clashes({"onnxruntime": "1", "onnxruntime-gpu": "1"})
    assert both.startswith("onnxruntime and onnxruntime-gpu are both installed and overwrite each other")
    assert "pip install 'sise-ort[cpu]' or pip install 'sise-ort[gpu]'" in both
    (three,) = clashes({"onnxruntime": "1", "onnxruntime-gpu": "1", "onnxruntime-openvino": "1"})
    assert "are all installed" in three and "or pip install 'sise-ort[openvino]'" in three
