"""Heat maps judged: the metrics of a row, blurred pictures, answers that are no numbers."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort import metrics
from sise_ort.errors import FrameError
from sise_ort.readouts import Question
from sise_ort.runtime.evaluation import METRICS
from sise_ort.runtime.evaluation.judge import Judge, blurred


def number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


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
    whole, masked = (
        model.predict(np.asarray(inputs, np.float32))["confidence"][0, 0] for inputs in (x, x * mask)
    )
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
        inserted.append(model.predict(np.where(shown, x, soft))["confidence"][0, 0])
        deleted.append(model.predict((x * ~shown).astype(np.float32))["confidence"][0, 0])
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


def test_judging_needs_no_truth(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    result = explainer.explain(frame, 0)
    judge = Judge(
        explainer.model, explainer.model.upload(frame), Question.of_class(0), None, tuple(METRICS), 5
    )
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
    judge = Judge(model, model.upload(frame), Question.of_class(0), None, names, 5)
    answers = model.answers

    def spoilt(*asked: Any) -> Any:
        found = answers(*asked)
        found.psi[:] = np.nan
        return found

    monkeypatch.setattr(model, "answers", spoilt)
    with pytest.raises(FrameError, match="NaN or infinite"):
        judge.judge(result)
