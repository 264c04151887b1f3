"""Checks of explanations, compared with the network itself in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from tiny import tiny_model

import sise_ort
from sise_ort.errors import FrameError, ParameterError
from sise_ort.metrics import correlation
from sise_ort.runtime.checking import Checks, runner_up


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Any:
    return sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)


def in_float64(frames: list[Any]) -> Any:
    """Softmax confidences of network inputs by onnx.reference, all in float64."""
    model = tiny_model()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    (scores,) = onnx.reference.ReferenceEvaluator(model).run(None, {"picture": np.stack(frames)})
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_drop_and_keep_are_those_of_the_network(explainer: Any, frame: Any) -> None:
    result = explainer.explain(frame, checks=True)
    verdict = result.verdict
    levels = np.sort(result.heatmap.ravel())[::-1]
    count = round(0.15 * levels.size)
    assert levels[count - 1] > levels[count]  # no tie at the edge: the highest pixels are known
    inside = result.heatmap >= levels[count - 1]
    picture = ((frame.astype(np.float64) - 127.5) / 127.5).transpose(2, 0, 1)  # what is hidden becomes 0
    whole, hidden, kept = in_float64([picture, picture * ~inside, picture * inside])[:, result.target]
    assert verdict.checks["drop"] == pytest.approx(1 - hidden / whole, abs=1e-4)
    assert verdict.checks["keep"] == pytest.approx(min(kept / whole, 2), abs=1e-4)


def test_contrast_is_with_the_next_classs_map(explainer: Any, frame: Any) -> None:
    result = explainer.explain(frame, checks=True)
    following = int(np.argsort(result.scores)[-2])
    rival = explainer.explain(frame, following, passes=0)
    assert result.verdict.checks["contrast"] == pytest.approx(
        correlation(result.heatmap, rival.heatmap), abs=1e-6
    )


def test_checks_change_no_map_and_are_counted(explainer: Any, frame: Any) -> None:
    plain, checked = explainer.explain(frame, passes=8), explainer.explain(frame, passes=8, checks=True)
    assert np.array_equal(plain.heatmap, checked.heatmap) and plain.verdict is None
    assert (
        checked.forward_passes == plain.forward_passes + 3
    )  # hidden, kept, and the runner-up's forward pass
    assert checked.backward_passes == plain.backward_passes + 1
    assert checked.timings["total"] >= checked.timings["check"] > 0
    assert checked.verdict.checks["agreement"] == plain.facts["agreement"]
    assert checked.record()["verdict"] == checked.verdict.record() and plain.record()["verdict"] is None


def test_many_pictures_get_the_verdicts_of_one(explainer: Any, frame: Any) -> None:
    frames = [frame, frame[::-1].copy(), frame[:, ::-1].copy()]
    found = list(explainer.explain_many(frames, ["ant", "bee"], method="gradcam", checks=True))
    for one, results in zip(frames, found, strict=True):
        alone = explainer.explain(one, ["ant", "bee"], method="gradcam", checks=True)
        for result, own in zip(results, alone, strict=True):
            assert result.verdict.trust == own.verdict.trust
            for name, value in own.verdict.checks.items():
                assert result.verdict.checks[name] == pytest.approx(value, abs=1e-5)


def test_heat_off_the_part_counts_outside_of_its_mask(explainer: Any, frame: Any) -> None:
    mask = np.zeros(frame.shape[:2], np.uint8)
    mask[:, :24] = 255
    result = explainer.explain(frame, checks=Checks(part=mask))
    heat = result.heatmap.astype(np.float64)
    assert result.verdict.checks["off_part"] == pytest.approx(heat[:, 24:].sum() / heat.sum())
    everywhere = explainer.explain(frame, checks=Checks(part=np.ones(frame.shape[:2], bool)))
    assert everywhere.verdict.checks["off_part"] == 0


def test_a_part_mask_follows_the_frame_to_network_size(explainer: Any, frame: Any) -> None:
    large = frame.repeat(3, axis=0).repeat(3, axis=1)
    mask = np.zeros(large.shape[:2], bool)
    mask[:48] = True
    result = explainer.explain(large, checks=Checks(part=mask))
    heat = result.heatmap.astype(np.float64)
    assert result.verdict.checks["off_part"] == pytest.approx(heat[16:].sum() / heat.sum())


def test_a_black_margin_is_off_the_part(explainer: Any, frame: Any) -> None:
    dark = frame.copy()
    dark[:, 30:] = 0
    result = explainer.explain(dark, checks=True)
    heat = result.heatmap.astype(np.float64)
    assert result.verdict.checks["off_part"] == pytest.approx(heat[:, 30:].sum() / heat.sum())


def test_masks_that_do_not_fit_are_refused(explainer: Any, frame: Any, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="both must have one size"):
        explainer.explain(frame, checks=Checks(part=np.ones((3, 4), bool)))
    for bad in (np.zeros((32, 48)), np.ones((32, 48, 3)), np.array([["a"]])):
        with pytest.raises(ParameterError, match="part_mask"):
            Checks(part=bad)
    with pytest.raises(FrameError):
        Checks(part=tmp_path / "none.png")
    with pytest.raises(ParameterError, match="True, False or Checks"):
        explainer.explain(frame, checks="yes")
    errors = list(explainer.explain_many([frame], errors="return", checks=Checks(part=np.ones((3, 4), bool))))
    assert isinstance(errors[0], FrameError)


def test_no_runner_up_where_none_is_meant(explainer: Any, sigmoid_bundle: Path, frame: Any) -> None:
    asked = sise_ort.RatherThan("ant", "bee")
    assert explainer.explain(frame, asked, checks=True).verdict.checks["contrast"] is None
    absent = sise_ort.load(sigmoid_bundle, provider="cpu").explain(frame, "not:ant", checks=True)
    assert absent.verdict.checks["contrast"] is None
    question, _ = explainer.ask(frame, "bee")
    assert runner_up(explainer.manifest, question, np.array([1.0, 5.0, 2.0, 0.0])).index == 2  # type: ignore[union-attr]
    assert runner_up(explainer.manifest, question, np.array([1.0])) is None


def test_raw_scores_have_nothing_to_drop(tmp_path: Path, frame: Any) -> None:
    onnx.save(tiny_model(), tmp_path / "tiny.onnx")
    sise_ort.export(tmp_path / "tiny.onnx", tmp_path / "raw.sise", normalize="tf", head="none")
    verdict = sise_ort.load(tmp_path / "raw.sise", provider="cpu").explain(frame, checks=True).verdict
    assert verdict is not None and verdict.trust == "weak"
    assert verdict.checks["drop"] is None and verdict.checks["contrast"] is not None
