"""Evaluation: metrics per heat map, resuming after a kill, intervals, tables, plots and the page."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort import metrics
from sise_ort.cli.main import main
from sise_ort.datasets import open_dataset
from sise_ort.errors import DatasetError, FrameError, ParameterError
from sise_ort.runtime.evaluation import METRICS, Plan, evaluate, summarise, workers
from sise_ort.runtime.evaluation import summary as summary_module
from sise_ort.runtime.evaluation.judge import Judge, blurred
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.store import DATABASE
from sise_ort.runtime.evaluation.summary import interval


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder: eight pictures in two classes, with masks; one picture of an unknown class, one truncated."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in ("ant", "bee", "zebra"):
        (root / label).mkdir()
        (root / "masks" / label).mkdir(parents=True)
    for i in range(8):
        data = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        mask[10 + i : 30, 8 : 20 + 3 * i] = 255
        name = f"{('ant', 'bee')[i % 2]}/{i}.png"
        cv2.imwrite(str(root / name), cv2.GaussianBlur(data, (0, 0), 2))
        if i != 5:
            cv2.imwrite(str(root / "masks" / name), mask)
    cv2.imwrite(str(root / "zebra" / "z.png"), data)
    whole = (root / "ant" / "0.png").read_bytes()
    (root / "ant" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root


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


@pytest.fixture(scope="module")
def evaluated(tiny_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    result = run(*arguments(tiny_bundle, pictures, out))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out / "index.html")
    return out


def number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


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


def test_what_is_written(evaluated: Path, pictures: Path) -> None:
    summary = json.loads((evaluated / "summary.json").read_text())
    assert [line["variant"] for line in summary["lines"]] == [
        "sise mu=0", "sise mu=0.5", "sise mu=adaptive", "gradcam", "scorecam", "rise masks=40",
    ]  # fmt: skip
    assert [line["title"] for line in summary["lines"]][:3] == ["SISE, μ = 0", "SISE, μ = 0.5", "Ada-SISE"]
    assert all(line["n"] == 8 for line in summary["lines"])
    assert summary["lines"][0]["metrics"]["ebpg"]["n"] == 7  # one picture has no truth
    assert summary["lines"][0]["metrics"]["ebpg"]["left_out"] == 1
    assert any("class 'zebra' is none of the network's: 1 samples" in p for p in summary["problems"])
    assert any("ant/cut.png" in p and "truncated" in p for p in summary["problems"])
    assert any("explained: the class of the data set" in s for s in summary["statements"])
    assert any("48 × 32 by stretch" in s for s in summary["statements"])
    markdown = (evaluated / "summary.md").read_text()
    assert (
        "| Grad-CAM | 8 |" in markdown
        and "- all methods: 1 of the pictures have no EBPG, mIoU, Bbox" in markdown
    )
    page = (evaluated / "index.html").read_text()
    assert page.count("<figure>") == 8 * 7 and "ant/cut.png" in page
    links = {part.split('"')[0] for part in page.split('src="')[1:]}
    assert links and all((evaluated / link).is_file() for link in links)
    for name in ("metric_against_seconds.png", "mu.png"):
        assert cv2.imread(str(evaluated / name)).shape[1] > 600
    rows = (evaluated / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 8 * 6


def test_rows_are_what_the_metrics_say(evaluated: Path, tiny_bundle: Path, pictures: Path) -> None:
    """One row again by hand: explain, compare, mask, predict."""
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)
    result = explainer.explain(pictures / "ant/2.png", "ant", method="gradcam")
    truth = cv2.imread(str(pictures / "masks/ant/2.png"), cv2.IMREAD_GRAYSCALE) > 127
    with (evaluated / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    (row,) = [
        {key: number(value) for key, value in r.items()}
        for r in rows
        if r["sample"] == "ant/2.png" and r["variant"] == "gradcam"
    ]
    assert row["ebpg"] == pytest.approx(metrics.energy_pointing_game(result.frame_heatmap, truth), rel=1e-6)
    assert row["miou"] == pytest.approx(
        metrics.intersection_over_union(result.frame_heatmap, truth), rel=1e-6
    )
    assert row["bbox"] == pytest.approx(metrics.bbox_share(result.frame_heatmap, truth), rel=1e-6)
    model = explainer.model
    x = model.network_input(model.upload(explainer.prepare(pictures / "ant/2.png")[0]))
    mask = metrics.hard_mask(result.heatmap)
    assert mask.sum() == round(0.15 * 32 * 48)
    whole, masked = model.predict(x)[1][0, 0], model.predict((x * mask).astype(np.float32))[1][0, 0]
    assert row["confidence"] == pytest.approx(whole, rel=1e-5)
    assert row["drop"] == pytest.approx(max(0, whole - masked) / whole, abs=1e-4)
    assert row["increase"] == float(masked > whole)
    order = metrics.pixel_order(result.heatmap)
    soft = blurred(x)
    inserted, deleted = [], []
    for step in range(7):
        shown = np.zeros(32 * 48, bool)
        shown[order[: round(32 * 48 * step / 6)]] = True
        shown = shown.reshape(32, 48)
        inserted.append(model.predict(np.where(shown, x, soft))[1][0, 0])
        deleted.append(model.predict((x * ~shown).astype(np.float32))[1][0, 0])
    assert row["insertion"] == pytest.approx(np.trapezoid(inserted, dx=1 / 6), abs=1e-5)
    assert row["deletion"] == pytest.approx(np.trapezoid(deleted, dx=1 / 6), abs=1e-5)
    assert (row["forward_passes"], row["backward_passes"]) == (1, 1)


def test_blurring_is_opencvs_inside() -> None:
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 90, 100)).astype(np.float32)
    theirs = cv2.GaussianBlur(x[0].transpose(1, 2, 0), (41, 41), 5)
    np.testing.assert_allclose(
        blurred(x)[0, :, 25:-25, 25:-25], theirs.transpose(2, 0, 1)[:, 25:-25, 25:-25], atol=1e-4
    )
    np.testing.assert_allclose(blurred(np.ones((1, 1, 9, 12), np.float32)), 1, rtol=1e-6)


@pytest.mark.parametrize(("workers", "moments"), [("1", [0, 5, 17, 18, 40]), ("2", [12])])
def test_killed_and_started_again(
    evaluated: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path, workers: str, moments: list[int]
) -> None:
    """SIGKILL after so many rows, started again each time: the rows and files of an unbroken run."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sise_ort.cli.main",
        *arguments(tiny_bundle, pictures, out, "--workers", workers),
    ]
    for moment in moments:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (out / DATABASE).is_file() and count_rows(out) >= moment:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert moment <= count_rows(out) < 48 and not (out / "rows.csv").exists()
    result = run(*arguments(tiny_bundle, pictures, out, "--workers", workers))
    assert result.exit_code == 0, result.output
    rows = rows_without_seconds(out)
    assert len({(row["sample"], row["variant"]) for row in rows}) == len(rows) == 48
    assert without_seconds(out) == without_seconds(evaluated)
    for row, unbroken in zip(rows, rows_without_seconds(evaluated), strict=True):
        assert row.pop("conditions") and unbroken.pop("conditions")
        if workers == "1":
            assert row == unbroken
    assert sorted(p.name for p in out.rglob("*")) == sorted(p.name for p in evaluated.rglob("*"))


def test_workers_end_with_their_parent(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sise_ort.cli.main",
               *arguments(tiny_bundle, pictures, tmp_path / "out", "--workers", "2", "--steps", "2000")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[int] = []
    deadline = time.monotonic() + 60
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not listing.is_file():
        process.kill()
        pytest.skip("this system does not list a process's children")
    while len(children) < 3 and time.monotonic() < deadline and process.poll() is None:
        children = [int(word) for word in listing.read_text().split()]
        time.sleep(0.05)
    assert len(children) >= 2
    process.kill()
    process.wait()
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_lives(child) for child in children)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


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


def test_nothing_to_report(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", "--report"))
    assert result.exit_code == 2 and "nothing to report" in result.output and not (tmp_path / "out").exists()


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


def test_duplicates_count_once(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    words = (
        "--methods",
        "sise,sise,gradcam",
        "--mu",
        "0.9,0.9,.90",
        "--passes",
        "4,4",
        "--metrics",
        "drop,drop",
    )
    result = run(
        "evaluate", tiny_bundle, "--dataset", "folder", pictures, *words, "--limit", "2", "-o", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert [line["variant"] for line in summary["lines"]] == [
        "sise mu=0.9",
        "sise mu=0.9 passes=4",
        "gradcam",
    ]
    assert summary["metrics"] == ["drop"]
    assert not (tmp_path / "o" / "mu.png").exists()  # the two differ in passes alone


def test_a_killed_worker_costs_its_sample_alone(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed while it explains; its sample is a problem, the others are done, the next run does it."""
    plan = Plan(
        str(tiny_bundle),
        variants(["rise"], settings={"rise": {"masks": 300}}),
        ("drop",),
        provider="cpu",
        batch_size=4,
    )
    data = open_dataset("folder", pictures)
    killed: list[str] = []
    give = workers._Crew._give

    def give_and_kill(crew: Any, task: Any) -> None:
        give(crew, task)
        if task.sample.name == "bee/1.png" and not killed:
            killed.append(task.sample.name)
            (process,) = [p for p, own in crew._busy.values() if own is task]
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(workers._Crew, "_give", give_and_kill)
    first = evaluate(plan, data, tmp_path / "out", workers=2)
    assert killed == ["bee/1.png"]
    assert len(first.rows) == 7 and "bee/1.png" not in {row["sample"] for row in first.rows}
    assert any(
        "bee/1.png: the process that evaluated it was killed by SIGKILL" in str(p) for p in first.problems
    )
    second = evaluate(plan, data, tmp_path / "out", workers=2)
    assert len(second.rows) == 8 and not any("SIGKILL" in str(p) for p in second.problems)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_keeps_what_was_found(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sise_ort.cli.main",
               *arguments(tiny_bundle, pictures, out, "--workers", "2", "--steps", "1000")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and count_rows(out) < 12:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert 12 <= count_rows(out) < 48
    assert {path.name for path in out.iterdir()} <= {DATABASE, "gallery"}


def test_when_every_sample_fails_the_report_says_so(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    (root / "ant").mkdir(parents=True)
    shutil.copy(pictures / "ant" / "cut.png", root / "ant")
    result = run(*arguments(tiny_bundle, root, tmp_path / "out"))
    assert result.exit_code == 1 and "no heat map could be judged" in result.output
    page = (tmp_path / "out" / "index.html").read_text()
    assert "all 1 samples failed" in page and "ant/cut.png" in page
    again = run(*arguments(tiny_bundle, root, tmp_path / "out", "--report"))
    assert again.exit_code == 1 and "cut.png" in again.output


def test_names_that_are_no_text(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """File names in Linux are bytes; markup and line ends in a name stay what they are."""
    root = tmp_path / "data"
    (root / "ant").mkdir(parents=True)
    names = [b"caf\xe9.png", b"<b>&amp;.png", b"a\nb\x1b[31m.png", "👩‍🔧 'x' \"y\".png".encode()]
    for name in names:
        (root / "ant" / os.fsdecode(name)).write_bytes((pictures / "ant" / "0.png").read_bytes())
    few = ("--methods", "gradcam", "--metrics", "drop", "-o", tmp_path / "out")
    for _ in range(2):
        result = run("evaluate", tiny_bundle, "--dataset", "folder", root, *few)
        assert result.exit_code == 0, result.output
        assert len(rows_without_seconds(tmp_path / "out")) == 4
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<b>" not in page and page.count("<figure") == 8 and "&lt;b&gt;&amp;amp;.png" in page


def test_the_top_class(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """One question per picture; the truth is known where the data set has that class."""
    plan = Plan(
        str(tiny_bundle), variants(["gradcam"], [], {}), ("ebpg", "drop"), explain="top", provider="cpu"
    )
    found = evaluate(plan, open_dataset("folder", pictures), tmp_path)
    assert len(found.samples) == 10  # also the picture of a zebra, which the network does not know
    assert len(found.rows) == 9
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    for row in found.rows:
        assert row["target"] == explainer.explain(pictures / row["sample"], method="gradcam").target
        known = row["sample"].split("/")[0] == row["label"] and not row["sample"].endswith("5.png")
        assert math.isnan(row["ebpg"]) != known


def test_pictures_without_classes(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    plan = Plan(str(tiny_bundle), variants(["gradcam"], [], {}), ("drop",), provider="cpu")
    found = evaluate(plan, open_dataset("folder", pictures / "ant"), tmp_path)
    assert (
        len(found.rows) == 4
        and "explained: the top class, since the data set has no classes" in found.statements
    )


def test_class_maps(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "map.json"
    mapping.write_text('{"zebra": "cat", "bee": 3}')
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", "--class-map", mapping))
    assert result.exit_code == 0 and "zebra" not in result.stderr
    rows = (tmp_path / "out" / "rows.csv").read_text()
    assert "zebra/z.png,gradcam,cat,2" in rows and "bee/1.png,gradcam,1,3" in rows
    mapping.write_text("[1]")
    assert run(*arguments(tiny_bundle, pictures, tmp_path / "o2", "--class-map", mapping)).exit_code == 2
    plan = Plan(
        str(tiny_bundle), variants(["gradcam"], [], {}), class_map={"ant": "x", "bee": "y"}, provider="cpu"
    )
    with pytest.raises(
        DatasetError, match=r"the network knows none of the data set's classes \(x, y, zebra…\)"
    ):
        evaluate(plan, open_dataset("folder", pictures), tmp_path / "o3")


def test_raw_scores_have_no_drop(tiny_onnx: Path, pictures: Path, tmp_path: Path) -> None:
    sise_ort.export(
        tiny_onnx, tmp_path / "raw.sise", normalize="tf", head="none", labels=["ant", "bee", "c", "d"]
    )
    plan = Plan(str(tmp_path / "raw.sise"), variants(["gradcam"], [], {}), steps=4, provider="cpu")
    summary = summarise(evaluate(plan, open_dataset("folder", pictures), tmp_path / "out"))
    (line,) = summary.lines
    assert (
        line.metrics["drop"].n == 0 and str(line.metrics["drop"]) == "–" and line.metrics["insertion"].n == 8
    )
    assert any("no probabilities" in words for words in summary.statements)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--methods", "sise,grad"], "no method 'grad'; did you mean gradcam"),
        (["--mu", "2"], "mu is 2"),
        (["--set", "rise=3"], "METHOD.NAME=VALUE is needed"),
        (["--set", "rise.seed=many"], "seed is 'many', not a whole number"),
        (["--set", "rise.masks=50"], "--set gives rise.masks twice: 40 and 50"),
        (["--set", "sise.mu=0.5"], "--mu and --set mu= contradict each other"),
        (["--passes", "8", "--set", "sise.passes=9"], "--passes and --set passes= contradict each other"),
        (["--methods", "rise"], "--mu is for method sise"),
        (["--passes", "many"], "passes is 'many'; it must be a whole number"),
        (["--steps", "1000000"], "1000000 is not in the range"),
        (["--gallery", "-1"], "-1 is not in the range"),
        (["--workers", "1000000"], "--workers 1000000 is not a whole number from 1 to"),
        (["--limit", "0"], "0 is not in the range"),
        (["--class-map", os.devnull], "is no regular file"),
        (["--set", "fullgrad.x=1"], "has no parameter 'x'"),
        (["--set", "ablationcam.x"], "NAME=VALUE is needed"),
        (["--metrics", "ebpg,iou"], "no metric 'iou'"),
        (["--dataset-set", "split=val"], "of kind folder have no option 'split'"),
    ],
)
def test_wrong_usage(tiny_bundle: Path, pictures: Path, tmp_path: Path, more: list[str], words: str) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", *more))
    assert result.exit_code == 2 and words in result.output.replace("\n", " "), result.output
    assert not (tmp_path / "out").exists()


def test_a_method_without_its_graph_is_refused_before_anything_runs(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", "--methods", "sise,fullgrad,rise"))
    assert result.exit_code == 1 and "export it again with --with full-gradient" in result.output.replace(
        "\n", " "
    )
    assert not (tmp_path / "out").exists()


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Closed form: for normal values the bootstrap interval is the mean ± 1.96 σ/√n."""
    values = np.random.default_rng(1).normal(50, 10, 400)
    found = interval(values, 401)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean()) and (found.n, found.left_out) == (400, 1)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1)
    assert interval(values, 400).low == found.low  # the same for every run
    assert interval(np.array([math.nan]), 3).n == 0
    assert found.short == f"{found.mean:.1f} ±{(found.high - found.low) / 2:.1f}"


def test_intervals_take_little_memory() -> None:
    """The bootstrap of 50,000 pictures draws in portions; with 4,000,000 values of 8 bytes and their indices at once."""
    values = np.random.default_rng(2).normal(50, 10, 50_000)
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(summary_module, "RESAMPLES", 160)
            found = interval(values, len(values))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150e6 and found.low < found.mean < found.high


def test_differences_are_paired(evaluated: Path) -> None:
    """Mean and interval of the differences picture by picture, from the exported rows: the interval is that of resampled
    pictures, each of which brings its pair, and far narrower than resampling both methods apart would give."""
    summary = json.loads((evaluated / "summary.json").read_text())
    sise, cam = summary["lines"][0], summary["lines"][3]
    with (evaluated / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    value = {(row["sample"], row["variant"], name): row[name] for row in rows for name in METRICS}
    names = sorted({row["sample"] for row in rows})
    assert len(names) == 8
    for name in METRICS:
        pairs = np.array(
            [
                [100 * float(value[sample, variant, name]) for variant in ("sise mu=0", "gradcam")]
                for sample in names
                if value[sample, "sise mu=0", name] not in ("", "nan")
            ]
        )
        difference = pairs[:, 1] - pairs[:, 0]
        found = cam["difference"][name]
        assert found["n"] == len(pairs)
        assert found["mean"] == pytest.approx(difference.mean(), abs=1e-6)
        low, high = percentile_interval(difference)
        width = max(high - low, 1e-6)
        assert found["low"] == pytest.approx(low, abs=0.05 * width)
        assert found["high"] == pytest.approx(high, abs=0.05 * width)
        assert [sise["difference"][name][key] for key in ("mean", "low", "high")] == [0, 0, 0]


def percentile_interval(values: Any) -> tuple[float, float]:
    """The exact percentile bootstrap interval of the mean: the distribution of the mean of n draws with replacement, on a
    grid, by convolving that of one draw n times."""
    n, least, most = len(values), values.min(), values.max()
    if most == least:
        return least, least
    cells = 4000
    one = np.bincount(np.rint((values - least) / (most - least) * cells).astype(int), minlength=cells + 1) / n
    total = np.ones(1)
    for _ in range(n):
        total = np.maximum(np.fft.irfft(np.fft.rfft(total, 2**15) * np.fft.rfft(one, 2**15), 2**15), 0)
    summed = np.cumsum(total[: n * cells + 1])
    places = np.searchsorted(summed, [0.025, 0.975])
    low, high = least + (most - least) * places / (n * cells)
    return float(low), float(high)


def test_judging_needs_no_truth(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    result = explainer.explain(frame, 0)
    judge = Judge(explainer.model, explainer.model.upload(frame), 0, None, tuple(METRICS), 5)
    found = judge.judge(result)
    assert all(math.isnan(found[name]) == METRICS[name].truth for name in METRICS)
    assert found["tied"] == metrics.tied_share(result.heatmap)


@pytest.mark.parametrize("names", [("insertion",), ("deletion",), ("drop",)])
def test_answers_that_are_no_numbers(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """A network that answers masked pictures with NaN is named as the cause, not sise-ort."""
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    model, result = explainer.model, explainer.explain(frame, 0)
    judge = Judge(model, model.upload(frame), 0, None, names, 5)
    for phase in ("predict", "score"):
        found = getattr(model, phase)
        monkeypatch.setattr(
            model, phase, lambda *inputs, found=found: [np.full_like(a, np.nan) for a in found(*inputs)]
        )
    with pytest.raises(FrameError, match="NaN or infinite"):
        judge.judge(result)


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
