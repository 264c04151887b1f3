"""The command line as a user meets it: files, exit codes, standard output for results only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner, Result

import sise_ort
from sise_ort.cli.main import COMMANDS, main


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def picture(tmp_path: Path, frame: Any) -> Path:
    path = tmp_path / "strip.png"
    cv2.imwrite(str(path), cv2.resize(frame, (96, 64))[..., ::-1])
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name}")
    assert COMMANDS[name].rstrip(".") in result.stdout  # the group's one-liner is the command's first line


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sise_ort.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'cv2', 'onnx', 'onnxruntime', 'torch', 'rich') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_export_then_explain(tmp_path: Path, tiny_onnx: Path, picture: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n1\n")
    bundle = tmp_path / "tiny.sise"
    arguments = (
        "export",
        tiny_onnx,
        "-o",
        bundle,
        "--mean",
        "127.5,127.5,127.5",
        "--std",
        "127.5,127.5,127.5",
        "--labels",
        tmp_path / "names.txt",
    )
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{bundle}\n"
    assert "warning: the file does not say what its outputs are" in result.stderr
    assert "block 3: 16 × 8 × 12  r3" in result.stderr
    again = call(*arguments)
    assert again.exit_code == 1 and "pass --force" in again.stderr
    assert call(*arguments, "--force").exit_code == 0

    result = call("explain", bundle, picture, "-o", tmp_path / "out", "--provider", "cpu", "--mu", "0.3")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'out' / 'strip.png'}\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["strip.json", "strip.npz", "strip.png"]
    assert "head: softmax (assumed)" in result.stderr

    result = call(
        "explain", bundle, picture, "-o", tmp_path / "two", "--target", "1", "--target-index", "1", "--json"
    )
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(r["label"], r["target"]) for r in records] == [("1", 3), ("bee", 1)]
    assert all(Path(f).is_file() for r in records for f in r["files"])


def test_one_bad_picture_does_not_stop_the_others(tmp_path: Path, tiny_bundle: Path, picture: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "b").mkdir()
    second = tmp_path / "b" / "strip.png"
    second.write_bytes(picture.read_bytes())
    result = call("explain", tiny_bundle, tmp_path / "notes.txt", picture, second, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert (
        "notes.txt: failed: " in result.stderr and "1 of 3 pictures could not be explained" in result.stderr
    )
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["strip-2.png", "strip.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["explain", "BUNDLE", "PICTURE", "--mu", "1.5"], 2, "must be a number in [0, 1)"),
        (["explain", "BUNDLE", "PICTURE", "--batch-size", "0"], 2, "--batch-size"),
        (["explain", "BUNDLE"], 2, "PICTURES"),
        (["explain", "BUNDLE", "PICTURE", "--target", "bea"], 1, "did you mean 'bee'"),
        (["explain", "BUNDLE", "PICTURE", "--target-index", "9"], 1, "out of range"),
        (["explain", "BUNDLE", "PICTURE", "--target", "positive", "--target", "bee"], 2, "stands alone"),
        (["explain", "BUNDLE", "PICTURE", "--provider", "cuda"], 1, "Error: provider cuda "),
        (["explain", "nothing.sise", "PICTURE"], 1, "there is no bundle"),
        (["export", "nothing.onnx"], 1, "there is no model file"),
        (["export", "ONNX"], 1, "--normalize imagenet, tf or none"),
        (["export", "ONNX", "--normalize", "tf", "--mean", "1,2,3"], 2, "not both"),
        (["export", "ONNX", "--mean", "a,b"], 2, "not a list of numbers"),
        (["dance"], 2, "No such command"),
    ],
)
def test_exit_codes(
    arguments: list[str],
    code: int,
    words: str,
    tiny_bundle: Path,
    tiny_onnx: Path,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tiny_onnx.parent)
    names = {"BUNDLE": tiny_bundle, "PICTURE": picture, "ONNX": tiny_onnx}
    result = call(*[names.get(a, a) for a in arguments])
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stdout == ""


def test_explain_every_positive_class(sigmoid_bundle: Path, picture: Path, tmp_path: Path) -> None:
    result = call(
        "explain", sigmoid_bundle, picture, "-o", tmp_path / "out", "--target", "positive", "--json"
    )
    assert result.exit_code == 0
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert records and all(r["confidence"] > 0.5 for r in records)
    assert sise_ort.read_heatmap(records[0]["files"][1]).shape == (64, 96)


def test_explain_by_another_method(tmp_path: Path, tiny_onnx: Path, picture: Path) -> None:
    bundle, out = tmp_path / "tiny.sise", tmp_path / "out"
    assert (
        call("export", tiny_onnx, "-o", bundle, "--normalize", "tf", "--with", "head,full-gradient").exit_code
        == 0
    )
    for method in ("rise", "ablationcam", "fullgrad", "sise"):
        settings = ["--set", "masks=30", "--set", "seed=4"] if method == "rise" else []
        result = call("explain", bundle, picture, "-o", out, "--method", method, *settings, "--json")
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout)
        assert record["method"] == method
        stem = "strip" if method == "sise" else f"strip-{method}"
        assert [Path(f).name for f in record["files"]] == [f"{stem}.png", f"{stem}.npz", f"{stem}.json"]
        assert all(Path(f).is_file() for f in record["files"])
        if method == "rise":
            assert record["parameters"] == {"masks": 30, "cells": 7, "probability": 0.5, "seed": 4}
            assert record["forward_passes"] == 31
    assert json.loads((out / "strip-fullgrad.json").read_text())["facts"]["completeness_error"] < 1e-3
    result = call("explain", bundle, picture, "-o", out, "--method", "sise", "--set", "mu=0.5", "--json")
    assert json.loads(result.stdout)["parameters"]["mu"] == 0.5


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--method", "gradcamm"], 2, "did you mean gradcam"),
        (["--method", "gradient"], 1, "export it again with --with image-gradient"),
        (["--method", "rise", "--set", "masks"], 2, "NAME=VALUE is needed"),
        (["--method", "rise", "--set", "mask=3"], 2, "no parameter 'mask'; it has masks, cells"),
        (["--method", "rise", "--set", "masks=3.5"], 2, "not a whole number"),
        (["--method", "rise", "--mu", "0.3"], 2, "no parameter 'mu'"),
        (["--set", "mu=3"], 2, "mu is 3.0"),
    ],
)
def test_methods_and_parameters_that_are_refused(
    tiny_bundle: Path, picture: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    result = call("explain", tiny_bundle, picture, "-o", tmp_path / "out", *words)
    assert result.exit_code == code and message in result.output, result.output


def test_doctor() -> None:
    result = call("doctor")
    assert result.exit_code == 0, result.output
    assert "onnxruntime" in result.stdout and "Ready on cpu" in result.stdout


def test_doctor_sees_both_onnxruntimes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    result = call("doctor")
    assert result.exit_code == 1
    assert "installed and overwrite each other" in result.stdout
