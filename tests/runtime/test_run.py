"""Evaluations that go on: further methods and samples, what has changed since, files that stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluating import arguments, rows_without_seconds, run, without_seconds

import sise_ort
from sise_ort.datasets import open_dataset
from sise_ort.errors import ParameterError
from sise_ort.runtime.evaluation import Plan, evaluate
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.store import DATABASE


def test_more_methods_and_samples_later(
    evaluated: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = [
        "evaluate",
        tiny_bundle,
        "--dataset",
        "folder",
        pictures,
        "--methods",
        "gradcam",
        "--steps",
        "6",
        "-o",
        out,
    ]
    few = run(*first, "--limit", "3")
    assert few.exit_code == 0
    few_rows = rows_without_seconds(out)
    assert len(few_rows) == 3 - few.output.count("left out: ant/cut.png")
    more = run(*first, "--limit", "5")
    more_rows = rows_without_seconds(out)
    assert len(more_rows) == 5 - more.output.count("left out: ant/cut.png")
    assert all(row in more_rows for row in few_rows)
    before = (out / DATABASE).read_bytes()
    report = run(*arguments(tiny_bundle, pictures, out, "--report"))
    assert (
        report.exit_code == 0 and "not finished" in report.output and (out / DATABASE).read_bytes() == before
    )
    result = run(*arguments(tiny_bundle, pictures, out))
    assert result.exit_code == 0, result.output
    assert without_seconds(out) == without_seconds(evaluated)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--steps", "7"], "steps was 6 and is now 7"),
        (["--class", "top"], "the class to explain was truth and is now top"),
        (["--metrics", "ebpg"], 'metrics was ["ebpg", "miou"'),
    ],
)
def test_other_settings_need_another_folder(
    evaluated: Path, tiny_bundle: Path, pictures: Path, more: list[str], words: str
) -> None:
    before = {path: path.read_bytes() for path in evaluated.iterdir() if path.is_file()}
    result = run(*arguments(tiny_bundle, pictures, evaluated, *more))
    assert result.exit_code == 2 and "holds an evaluation with other settings" in result.output
    assert words in result.output.replace("\n", " ")
    assert {path: path.read_bytes() for path in evaluated.iterdir() if path.is_file()} == before


def test_another_bundle_needs_another_folder(evaluated: Path, sigmoid_bundle: Path, pictures: Path) -> None:
    result = run(*arguments(sigmoid_bundle, pictures, evaluated))
    assert result.exit_code == 2 and "other settings: the bundle has changed" in result.output


def test_an_export_with_another_fit_needs_another_folder(
    tiny_onnx: Path, pictures: Path, tmp_path: Path
) -> None:
    """The graphs are the same files; only the manifest says how pictures are brought to the network's size."""
    bundle = tmp_path / "a.sise"
    labels = ["ant", "bee", "c", "d"]
    few = ("--methods", "gradcam", "--metrics", "ebpg", "-o", tmp_path / "out")
    sise_ort.export(tiny_onnx, bundle, normalize="tf", labels=labels)
    assert run("evaluate", bundle, "--dataset", "folder", pictures, *few).exit_code == 0
    sise_ort.export(tiny_onnx, bundle, normalize="tf", labels=labels, fit="crop", force=True)
    result = run("evaluate", bundle, "--dataset", "folder", pictures, *few)
    assert result.exit_code == 2 and "other settings: the bundle has changed" in result.output


def change_picture(root: Path) -> None:
    shutil.copy(root / "ant" / "2.png", root / "ant" / "0.png")


def change_bytes(root: Path) -> None:
    """Another picture of the same size in bytes: written twice by the same encoder, uncompressed."""
    path = root / "ant" / "flat.bmp"
    path.write_bytes(path.read_bytes()[:-30] + bytes(30))


def change_mask(root: Path) -> None:
    cv2.imwrite(str(root / "masks" / "ant" / "0.png"), np.full((48, 64), 255, np.uint8))


def add_picture(root: Path) -> None:
    shutil.copy(root / "ant" / "0.png", root / "bee" / "new.png")


def move_picture(root: Path) -> None:
    (root / "ant" / "0.png").rename(root / "bee" / "0.png")


@pytest.mark.parametrize("change", [change_picture, change_bytes, change_mask, add_picture, move_picture])
def test_a_changed_data_set_needs_another_folder(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(pictures, root)
    cv2.imwrite(str(root / "ant" / "flat.bmp"), np.full((32, 48, 3), 90, np.uint8))
    few = ("--methods", "gradcam", "--metrics", "ebpg", "-o", tmp_path / "out")
    assert run("evaluate", tiny_bundle, "--dataset", "folder", root, *few).exit_code == 0
    moved = tmp_path / "elsewhere"
    root.rename(moved)  # the same data set at another place is the same
    assert run("evaluate", tiny_bundle, "--dataset", "folder", moved, *few).exit_code == 0
    change(moved)
    result = run("evaluate", tiny_bundle, "--dataset", "folder", moved, *few)
    assert result.exit_code == 2 and "holds an evaluation with other settings" in result.output


def test_nothing_is_written_among_pictures_or_into_the_bundle(tiny_bundle: Path, pictures: Path) -> None:
    for folder in (pictures, pictures / "ant", tiny_bundle, tiny_bundle / "out"):
        before = sorted(folder.rglob("*"))
        result = run(*arguments(tiny_bundle, pictures, folder))
        assert result.exit_code == 2 and "choose a folder elsewhere with -o" in result.output
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["rows.csv", "index.html", "summary.json", "gallery"])
def test_foreign_files_stay(tiny_bundle: Path, pictures: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = run(*arguments(tiny_bundle, pictures, tmp_path))
    assert result.exit_code == 2 and f"has {name} but no {DATABASE}" in result.output.replace("\n", " ")
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_of_version_0_1_is_refused(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("sample,variant\n")
    (tmp_path / "settings.json").write_text("{}")
    result = run(*arguments(tiny_bundle, pictures, tmp_path))
    assert result.exit_code == 2 and "an evaluation of sise-ort 0.1" in result.output.replace("\n", " ")
    assert (tmp_path / "rows.csv").read_text() == "sample,variant\n" and len(list(tmp_path.iterdir())) == 2


def test_a_picture_that_changes_while_the_evaluation_runs(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    """Rows of one sample are of the same picture, or there are none."""
    root = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    data = open_dataset("folder", root)

    def plan(method: str) -> Plan:
        return Plan(str(tiny_bundle), variants([method]), ("drop",), provider="cpu")

    first = evaluate(plan("gradcam"), data, tmp_path / "out")
    late = first.samples[-1].name

    def change(done: int, _: int) -> None:
        if done == 1:
            cv2.imwrite(str(root / late), np.full((48, 64, 3), 128, np.uint8))

    second = evaluate(plan("gradcam++"), data, tmp_path / "out", progress=change)
    assert {row["sample"] for row in second.rows} == {row["sample"] for row in first.rows} - {late}
    assert any(f"{late}: its files have changed" in str(problem) for problem in second.problems)
    with pytest.raises(ParameterError, match="has changed since"):
        evaluate(plan("gradcam"), data, tmp_path / "out")
