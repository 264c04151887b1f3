"""Many pictures at once: the results of one by one, in order, from fuller batches."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.errors import BundleError, FrameError, ParameterError, TargetError
from sise_ort.runtime.maps import to_heatmap


@pytest.fixture
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, provider="cpu", batch_size=7)


@pytest.fixture
def frames(frame: Any) -> list[Any]:
    rng = np.random.default_rng(3)
    return [np.roll(frame, rng.integers(1, 30, 2), (0, 1)) for _ in range(5)]


def batches(explainer: sise_ort.Explainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects how many inputs each run of predict.onnx takes."""
    found: list[int] = []
    session = explainer.model.sessions.opened["predict"]
    run = session.run

    def counted(inputs: Any, **options: Any) -> Any:
        found.append(inputs["input"].shape[0])
        return run(inputs, **options)

    monkeypatch.setattr(session, "run", counted)
    return found


@pytest.mark.parametrize("target", [None, "bee", [0, 2]])
def test_same_results_in_order_from_full_batches(
    explainer: sise_ort.Explainer, frames: list[Any], target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [explainer.explain(frame, target, mu=0.2) for frame in frames]
    sizes = batches(explainer, monkeypatch)
    together = list(explainer.explain_many(frames, target, mu=0.2))
    assert len(together) == len(frames)
    masks = 0
    for one, other in zip(alone, together, strict=True):
        ones, others = (r if isinstance(r, list) else [r] for r in (one, other))
        assert isinstance(one, list) == isinstance(other, list)
        for a, b in zip(ones, others, strict=True):
            assert (a.target, a.label, a.mask_counts, a.forward_passes) == (b.target, b.label, b.mask_counts, b.forward_passes)  # fmt: skip
            assert a.confidence == pytest.approx(b.confidence) and a.notes == b.notes
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-5)
            np.testing.assert_allclose(a.visualization_maps, b.visualization_maps, atol=1e-5)
            np.testing.assert_array_equal(a.frame, b.frame)
        masks += others[0].forward_passes - 1
    assert sizes == [7] * (masks // 7) + ([masks % 7] if masks % 7 else [])


def test_frames_are_taken_one_by_one(explainer: sise_ort.Explainer, frames: list[Any]) -> None:
    taken = []

    def endless() -> Iterator[Any]:
        for frame in itertools.cycle(frames):
            taken.append(1)
            yield frame

    found = list(itertools.islice(explainer.explain_many(endless()), 6))
    assert len(found) == 6 and len(taken) <= 6 + 3  # one ahead, and one or two whose masks fill the batch
    assert list(explainer.explain_many([])) == []


def test_errors_in_their_places(explainer: sise_ort.Explainer, frames: list[Any], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), frames[0])
    (tmp_path / "b.png").write_bytes(b"no picture")
    mixed = [tmp_path / "a.png", tmp_path / "b.png", frames[1], np.zeros((3, 3, 3, 3)), tmp_path / "none.png"]
    found = list(explainer.explain_many(mixed, errors="return"))
    assert [isinstance(f, FrameError) for f in found] == [False, True, False, True, True]
    assert "b.png" in str(found[1]) and "none.png" in str(found[4])
    assert found[0].source == str(tmp_path / "a.png")  # type: ignore[union-attr]
    raising = explainer.explain_many(mixed)
    assert isinstance(next(raising), sise_ort.Explanation)
    with pytest.raises(FrameError, match=r"b\.png"):
        next(raising)


def test_masked_copies_that_are_not_finite(
    explainer: sise_ort.Explainer, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture whose masked inputs give NaN does not spoil the others in its batches."""
    uploaded: list[Any] = []
    upload, score_maps = explainer.model.upload, explainer.model.score_maps

    def remembered(frame: Any) -> Any:
        uploaded.append(upload(frame))
        return uploaded[-1]

    def spoilt(picks: Any) -> Any:
        found = score_maps(picks)
        for pick, scored in zip(picks, found, strict=True):
            if any(pick.image is u for u in uploaded[1:2]):
                scored.answers.psi[:] = np.nan
        return found

    monkeypatch.setattr(explainer.model, "upload", remembered)
    monkeypatch.setattr(explainer.model, "score_maps", spoilt)
    found = list(explainer.explain_many(frames, errors="return"))
    assert [isinstance(f, FrameError) for f in found] == [False, True, False, False, False]
    assert "masked copies of this frame with NaN" in str(found[1])


def test_pictures_without_a_positive_class(
    sigmoid_bundle: Path, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = sise_ort.load(sigmoid_bundle, provider="cpu")
    whole = explainer.model.whole
    scores = [whole(explainer.model.upload(frame))["scores"].max() for frame in frames]
    middle = np.median(scores)  # raise the bar until half of the pictures have no class over it
    monkeypatch.setattr(explainer.model, "whole", lambda image: {"scores": whole(image)["scores"] - middle})
    alone = [explainer.explain(frame, "positive") for frame in frames]
    assert {bool(one) for one in alone} == {True, False}
    together = list(explainer.explain_many(frames, "positive"))
    assert [[r.target for r in one] for one in alone] == [[r.target for r in one] for one in together]  # type: ignore[union-attr]


@pytest.mark.parametrize("options", [{"passes": 5}, {"method": "gradcam"}, {"method": "scorecam"}])
def test_other_ways(explainer: sise_ort.Explainer, frames: list[Any], options: Any) -> None:
    together = explainer.explain_many(frames, 1, **options)
    for frame, found in zip(frames, together, strict=True):
        assert isinstance(found, sise_ort.Explanation)
        alone = explainer.explain(frame, 1, **options)
        assert (found.method, found.forward_passes) == (alone.method, alone.forward_passes)
        np.testing.assert_allclose(found.heatmap, alone.heatmap, atol=1e-5)


def test_times_of_every_method(tiny_onnx: Path, tmp_path: Path, frames: list[Any]) -> None:
    """One explanation: all that its parts took and what lies between. Many: a picture's own parts, its share of batches."""
    graphs = ("head", "image-gradient", "full-gradient")
    sise_ort.export(tiny_onnx, tmp_path / "all.sise", normalize="tf", graphs=graphs)
    explainer = sise_ort.load(tmp_path / "all.sise", provider="cpu")
    few: dict[str, dict[str, int]] = {"rise": {"masks": 9}, "extremal-perturbation": {"iterations": 2}}
    for options in [{"method": m, **few.get(m, {})} for m in explainer.methods] + [{"passes": 4}]:
        one = explainer.explain(frames[0], **options).timings  # type: ignore[arg-type]
        many = [r.timings for r in explainer.explain_many(frames[:2], **options)]  # type: ignore[union-attr,arg-type]
        for timings in (one, *many):
            parts = {name: value for name, value in timings.items() if name != "total"}
            assert {"prepare", "ask"} < set(parts) and min(parts.values()) > 0, options
            assert timings["total"] >= sum(parts.values()) * (1 - 1e-9), options
            if timings is not one:
                assert timings["total"] == pytest.approx(sum(parts.values())), options


def test_progress(explainer: sise_ort.Explainer, frames: list[Any]) -> None:
    seen: list[tuple[int, int]] = []
    found = list(
        explainer.explain_many(frames, progress=lambda done, everything: seen.append((done, everything)))
    )
    for result in found:
        count = sum(result.mask_counts)  # type: ignore[union-attr]
        assert (count, count) in seen


def test_wrong_words(explainer: sise_ort.Explainer, frames: list[Any]) -> None:
    with pytest.raises(ParameterError, match="errors is 'ignore'"):
        explainer.explain_many(frames, errors="ignore")
    with pytest.raises(ParameterError, match="no parameter 'masks'"):
        explainer.explain_many(frames, masks=3)
    with pytest.raises(TargetError, match="no label 'wasp'"):
        next(explainer.explain_many(frames, "wasp"))
    with pytest.raises(BundleError, match=r"graphs=\['head'\]"):
        next(explainer.explain_many(frames, method="ablationcam"))


def test_a_deadline_counts_what_was_done_before(
    explainer: sise_ort.Explainer, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that took longer to read than the deadline is explained without a mask; the others have their own time."""
    from sise_ort.runtime import explainer as module

    explainer.warm_up()
    prepare, taken = module.prepare, itertools.count()

    def slowly(*arguments: Any) -> Any:
        found = prepare(*arguments)
        return dataclasses.replace(found, seconds=5000.0) if next(taken) == 1 else found

    monkeypatch.setattr(module, "prepare", slowly)
    found = list(explainer.explain_many(frames[:3], 1, deadline=1000.0))
    assert [r.facts["scored"] == 0 for r in found] == [False, True, False]  # type: ignore[union-attr]
    assert found[1].facts["stopped_by"] == "deadline"  # type: ignore[union-attr]


def test_a_buffer_that_is_used_again(
    explainer: sise_ort.Explainer, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera writes each picture over the last one: it is asked for the next when the last was read, not before."""
    from sise_ort.runtime import explainer as module

    prepare = module.prepare

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.05)  # the next picture would come meanwhile
        return prepare(*arguments)

    monkeypatch.setattr(module, "prepare", slowly)
    buffer = np.empty_like(frames[0])

    def camera() -> Iterator[Any]:
        for frame in frames:
            buffer[:] = frame
            yield buffer

    for frame, result in zip(frames, explainer.explain_many(camera(), mu=0.5), strict=True):
        np.testing.assert_array_equal(result.frame, frame)


def test_scores_that_are_no_numbers_are_no_empty_answer(
    sigmoid_bundle: Path, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is over 0.5 in no class: "positive" would say that there is nothing to explain; and no confidence is NaN."""
    explainer = sise_ort.load(sigmoid_bundle, provider="cpu")
    model, predict, calls = explainer.model, explainer.model.predict, itertools.count()

    def second_is_nan(inputs: Any) -> Any:
        factor = np.float32(np.nan if next(calls) == 1 else 1)
        return {name: answer * factor for name, answer in predict(inputs).items()}

    monkeypatch.setattr(model, "predict", second_is_nan)
    first, second, third = explainer.explain_many(frames[:3], "positive", mu=0.5, errors="return")
    assert isinstance(first, list) and isinstance(second, FrameError) and isinstance(third, list)
    for method in ({"method": "rise", "masks": 5}, {}):
        calls = itertools.count(1)
        with pytest.raises(FrameError, match="NaN or infinite"):
            explainer.explain(frames[0], 1 if method else "positive", **method)


def test_maps_that_are_no_numbers() -> None:
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(FrameError, match="NaN or infinity"):
            to_heatmap(np.array([[0.0, value], [1.0, 2.0]]), (4, 4))


@pytest.mark.parametrize("frames", [3, True, 0.5, np.int64(2), None])
def test_what_holds_no_pictures(explainer: sise_ort.Explainer, frames: Any) -> None:
    with pytest.raises(ParameterError, match=r"frames is .*; a sequence or generator of pictures is needed"):
        explainer.explain_many(frames)
