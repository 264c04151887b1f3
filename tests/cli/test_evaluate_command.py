"""`sise-ort evaluate`: what it writes, classes and class maps, wrong usage."""

from __future__ import annotations

import html
import json
import math
import os
import shutil
from pathlib import Path

import cv2
import pytest
from evaluating import arguments, rows_without_seconds, run

import sise_ort
from sise_ort.datasets import open_dataset
from sise_ort.errors import DatasetError
from sise_ort.runtime.evaluation import Plan, evaluate, summarise
from sise_ort.runtime.evaluation.plan import variants


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


def test_nothing_to_report(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(*arguments(tiny_bundle, pictures, tmp_path / "out", "--report"))
    assert result.exit_code == 2 and "nothing to report" in result.output and not (tmp_path / "out").exists()


def test_a_method_is_recommended(tiny_bundle: Path, pictures: Path, evaluated: Path, tmp_path: Path) -> None:
    """The sentence of the page, and one that fits the summary: its method, price and value are in the table."""
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    result = run(*arguments(tiny_bundle, pictures, out, "--report", "--recommend"))
    assert result.exit_code == 0, result.output
    sentence = next(line for line in result.stdout.splitlines() if line.startswith("Choose "))
    lines = {line["title"]: line for line in json.loads((out / "summary.json").read_text())["lines"]}
    chosen = lines[sentence.removeprefix("Choose ").partition(": ")[0]]
    assert f"EBPG {chosen['metrics']['ebpg']['mean']:.1f} [" in sentence and "7 pictures are few" in sentence
    page = html.unescape((out / "index.html").read_text(encoding="utf-8"))
    assert sentence in page and "Drop % ↓" in page and "EBPG ↑" in page


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
        (["--mu", "2"], "--mu is 2"),
        (["--set", "rise=3"], "METHOD.NAME=VALUE is needed"),
        (["--set", "rise.seed=many"], "--set seed= is 'many', not a whole number"),
        (["--set", "rise.masks=50"], "--set gives rise.masks twice: 40 and 50"),
        (["--set", "sise.mu=0.5"], "--mu and --set mu= contradict each other"),
        (["--passes", "8", "--set", "sise.passes=9"], "--passes and --set passes= contradict each other"),
        (["--methods", "rise"], "--mu is for method sise"),
        (["--passes", "many"], "--passes is 'many'; it must be a whole number"),
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
