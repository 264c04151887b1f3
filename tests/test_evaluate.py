"""Evaluation: metrics per heat map, resuming after a kill, intervals, tables, plots and the page."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
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
from sise_ort.errors import DatasetError, OutputError, ParameterError
from sise_ort.runtime.evaluation import METRICS, Plan, Variant, evaluate, summarise
from sise_ort.runtime.evaluation.judge import Judge, blurred
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.rows import Rows
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


def without_seconds(out: Path) -> Any:
    summary = json.loads((out / "summary.json").read_text())
    for line in summary["lines"]:
        line.pop("seconds")
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
        and "SISE, μ = 0: 1 of the pictures have no EBPG, mIoU, Bbox" in markdown
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
    columns = (evaluated / "rows.csv").read_text().splitlines()[0].split(",")
    rows = Rows(evaluated / "rows.csv", columns, write=False).all
    (row,) = [r for r in rows if r["sample"] == "ant/2.png" and r["variant"] == "gradcam"]
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


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_and_started_again(
    evaluated: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path, workers: str
) -> None:
    """SIGKILL in the middle, a torn last line, started again: the same summary, and no picture twice."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sise_ort.cli.main",
        *arguments(tiny_bundle, pictures, out, "--workers", workers),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    rows = out / "rows.csv"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if rows.is_file() and rows.read_bytes().count(b"\n") > 12:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = rows.read_bytes()
    assert 12 < before.count(b"\n") < 49
    rows.write_bytes(
        before[: before.rfind(b"\n") - 7]
    )  # as if the machine had stopped in the middle of a line
    kept = rows.read_bytes()[: rows.read_bytes().rfind(b"\n") + 1]
    result = run(*arguments(tiny_bundle, pictures, out, "--workers", workers))
    assert result.exit_code == 0, result.output
    assert rows.read_bytes().startswith(kept)
    lines = rows.read_text().splitlines()
    assert len(lines) == 49 and len({tuple(line.split(",")[:2]) for line in lines[1:]}) == 48
    assert without_seconds(out) == without_seconds(evaluated)


def test_workers_end_with_their_parent(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sise_ort.cli.main",
               *arguments(tiny_bundle, pictures, tmp_path / "out", "--workers", "2", "--set", "rise.masks=4000")]  # fmt: skip
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
    rows = (out / "rows.csv").read_text()
    assert len(rows.splitlines()) == 1 + 3 - few.output.count("left out: ant/cut.png")
    more = run(*first, "--limit", "5")
    assert (out / "rows.csv").read_text().startswith(rows)
    rows = (out / "rows.csv").read_text()
    assert len(rows.splitlines()) == 1 + 5 - more.output.count("left out: ant/cut.png")
    told = run(*arguments(tiny_bundle, pictures, out, "--report"))
    assert told.exit_code == 0 and (out / "rows.csv").read_text() == rows
    result = run(*arguments(tiny_bundle, pictures, out))
    assert result.exit_code == 0, result.output
    assert without_seconds(out) == without_seconds(evaluated)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with Rows(tmp_path / "rows.csv", ["sample", "ebpg"]) as rows:
        rows.append([{"sample": "a", "ebpg": 1}])
        with (tmp_path / "rows.csv").open("ab") as stream:
            stream.write(b"b,")  # another process may be in the middle of a line
        with pytest.raises(OutputError, match="another evaluation is writing"):
            Rows(tmp_path / "rows.csv", ["sample", "ebpg"])
        looked = Rows(tmp_path / "rows.csv", ["sample", "ebpg"], write=False)
        assert looked.all == [{"sample": "a", "ebpg": 1.0}] and (tmp_path / "rows.csv").read_bytes().endswith(
            b"b,"
        )
    with Rows(tmp_path / "rows.csv", ["sample", "ebpg"]) as rows:
        assert len(rows.all) == 1 and (tmp_path / "rows.csv").read_bytes() == b"sample,ebpg\na,1\n"


def test_nothing_to_report(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", "--report"))
    assert result.exit_code == 2 and "nothing to report" in result.output and not (tmp_path / "out").exists()


def test_other_settings_need_another_folder(
    evaluated: Path, tiny_bundle: Path, sigmoid_bundle: Path, pictures: Path
) -> None:
    rows = (evaluated / "rows.csv").read_bytes()
    for more in (["--steps", "7"], ["--class", "top"], ["--metrics", "ebpg"]):
        result = run(*arguments(tiny_bundle, pictures, evaluated, *more))
        assert result.exit_code == 2 and "holds an evaluation with other settings" in result.output
    assert "bundle_sha256" in run(*arguments(sigmoid_bundle, pictures, evaluated)).output
    assert (evaluated / "rows.csv").read_bytes() == rows


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
        (["--set", "rise.masks=many"], "masks is 'many', not a whole number"),
        (["--set", "fullgrad.x=1"], "has no parameter 'x'"),
        (["--set", "ablationcam.x"], "NAME=VALUE is needed"),
        (["--metrics", "ebpg,iou"], "no metric 'iou'"),
        (["--dataset-set", "split=val"], "of kind folder have no option 'split'"),
    ],
)
def test_wrong_usage(tiny_bundle: Path, pictures: Path, tmp_path: Path, more: list[str], words: str) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", *more))
    assert result.exit_code == 2 and words in result.output.replace("\n", " "), result.output


def test_a_method_without_its_graph_is_refused_before_anything_runs(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", "--methods", "sise,fullgrad,rise"))
    assert result.exit_code == 1 and "export it again with --with full-gradient" in result.output.replace(
        "\n", " "
    )
    assert not (tmp_path / "out").exists()


def test_a_full_disk_keeps_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(tmp_path / "rows.csv", ["sample", "variant", "ebpg"])
    rows.append([{"sample": 'a, "b"\nc', "variant": "v", "ebpg": 0.1}])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device; what was found before is kept"):
            rows.append([{"sample": "x", "variant": "v", "ebpg": math.nan}])
    rows.close()
    assert Rows(tmp_path / "rows.csv", ["sample", "variant", "ebpg"], write=False).all[0] == {
        "sample": 'a, "b"\nc', "variant": "v", "ebpg": 0.1,
    }  # fmt: skip
    with pytest.raises(OutputError, match="has the columns sample, variant, ebpg"):
        Rows(tmp_path / "rows.csv", ["sample", "variant", "miou"], write=False)


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


def test_names_of_variants() -> None:
    found = variants(["rise", "sise", "rise"], [0, "adaptive"], {"rise": {"masks": 10, "probability": 0.25}})
    assert [v.name for v in found] == ["rise masks=10 probability=0.25", "sise mu=0", "sise mu=adaptive"]
    assert Variant("extremal-perturbation", {"areas": (0.1, 0.2), "iterations": 800}).name == (
        "extremal-perturbation areas=0.1,0.2"
    )
    with pytest.raises(ParameterError, match="given for method rise, which is not among the methods"):
        variants(["sise"], [0], {"rise": {"masks": 3}})


def test_judging_needs_no_truth(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    result = explainer.explain(frame, 0)
    judge = Judge(explainer.model, explainer.model.upload(frame), 0, None, tuple(METRICS), 5)
    found = judge.judge(result)
    assert all(math.isnan(found[name]) == METRICS[name].truth for name in METRICS)
    assert found["tied"] == metrics.tied_share(result.heatmap)
