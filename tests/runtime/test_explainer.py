"""The public API: targets, frames, results, saving."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.errors import FrameError, OutputError, ParameterError, ProviderError, TargetError


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, provider="cpu")


def test_result(explainer: sise_ort.Explainer, frame: Any) -> None:
    big = cv2.resize(frame, (120, 64), interpolation=cv2.INTER_CUBIC)
    result = explainer.explain(big)
    assert result.heatmap.shape == (32, 48) and result.heatmap.dtype == np.float32
    assert result.heatmap.min() >= 0 and result.heatmap.max() == 1
    assert result.frame_heatmap.shape == (64, 120) and result.frame_heatmap.dtype == np.float32
    assert result.frame_heatmap.max() <= 1
    assert result.visualization_maps.shape == (3, 32, 48)
    assert len(result.mask_counts) == 3
    assert result.label == ("ant", "bee", "cat", "1")[result.target]
    p = np.exp(result.scores - result.scores.max())
    assert result.confidence == pytest.approx(p[result.target] / p.sum(), rel=1e-5)
    assert result.target == int(np.argmax(result.scores))
    assert {"prepare", "ask", "extract", "select", "score", "fuse", "total"} == set(result.timings)
    overlay = result.overlay()
    assert overlay.shape == (64, 120, 3) and overlay.dtype == np.uint8
    assert (overlay[result.frame_heatmap == 0] == big[result.frame_heatmap == 0]).all()


def test_targets(explainer: sise_ort.Explainer, frame: Any) -> None:
    assert explainer.explain(frame, 1).label == "bee"
    assert explainer.explain(frame, np.int64(1)).target == 1
    assert explainer.explain(frame, "1").target == 3  # the class that is named "1"
    assert [r.target for r in explainer.explain(frame, ["cat", 0, None])][:2] == [2, 0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (4, "out of range: the network has classes 0 to 3"),
        (-1, "out of range"),
        ("bea", "did you mean 'bee'"),
        ("zebra", "there are 4 labels"),
        ([], "empty sequence"),
        (1.5, "target is 1.5"),
        ([True], "True"),
        ("positive", "a softmax head does not have"),
        ("not:bee", "only a sigmoid head knows"),
    ],
)
def test_targets_that_are_refused(explainer: sise_ort.Explainer, frame: Any, target: Any, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        explainer.explain(frame, target)


def test_raw_scores_refuse_probabilities(tiny_onnx: Path, tmp_path: Path, frame: Any) -> None:
    sise_ort.export(tiny_onnx, tmp_path / "raw.sise", normalize="tf", head="none")
    raw = sise_ort.load(tmp_path / "raw.sise", provider="cpu")
    for target in ("positive", "not:0"):
        with pytest.raises(TargetError, match="raw scores, not probabilities"):
            raw.explain(frame, target)
    with pytest.raises(TargetError, match="the bundle has no labels"):
        raw.explain(frame, "bee")
    assert raw.explain(frame, 2).label == "class 2"
    assert "score" in raw.explain(frame, 2).caption


def test_one_output_and_its_absence(tmp_path: Path, frame: Any) -> None:
    import onnx
    from tiny import tiny_model

    onnx.save(tiny_model(classes=1), tmp_path / "one.onnx")
    sise_ort.export(tmp_path / "one.onnx", tmp_path / "one.sise", normalize="tf", labels=["defect"])
    one = sise_ort.load(tmp_path / "one.sise", provider="cpu")
    present, absent = one.explain(frame, ["defect", "not:defect"])
    assert present.confidence + absent.confidence == pytest.approx(1)
    assert (present.label, absent.label) == ("defect", "not defect")


def test_classes_that_are_named_like_a_question(tiny_onnx: Path, tmp_path: Path, frame: Any) -> None:
    labels = ["positive", "not:bee", "bee", "cat"]
    sise_ort.export(tiny_onnx, tmp_path / "t.sise", normalize="tf", head="sigmoid", labels=labels)
    explainer = sise_ort.load(tmp_path / "t.sise", provider="cpu")
    assert explainer.explain(frame, "positive").target == 0
    assert explainer.explain(frame, "not:bee").label == "not:bee"
    assert explainer.explain(frame, "not:cat").label == "not cat"
    assert [r.target for r in explainer.explain(frame, np.array([2, 1]))] == [2, 1]


@pytest.mark.parametrize("mu", [-0.1, 1, "most"])
def test_mu_out_of_range(explainer: sise_ort.Explainer, frame: Any, mu: Any) -> None:
    with pytest.raises(ParameterError, match="mu= is"):
        explainer.explain(frame, mu=mu)


def test_higher_mu_scores_fewer_masks(explainer: sise_ort.Explainer, frame: Any) -> None:
    counts = [sum(explainer.explain(frame, mu=mu).mask_counts) for mu in (0.0, 0.3, 0.75)]
    assert counts[0] > counts[1] > counts[2] > 0


def test_frames_that_are_refused(explainer: sise_ort.Explainer, frame: Any) -> None:
    with pytest.raises(FrameError, match='pass levels=255 to round it, or export with frame_dtype="float32"'):
        explainer.explain(frame.astype(np.float32))
    rounded = explainer.explain(frame.astype(np.float32) + 0.2, levels=255)
    assert rounded.heatmap.tobytes() == explainer.explain(frame).heatmap.tobytes()
    with pytest.raises(FrameError, match="empty"):
        explainer.explain(np.zeros((0, 4, 3), np.uint8))


def test_levels_and_notes_of_a_frame(explainer: sise_ort.Explainer, frame: Any, tmp_path: Path) -> None:
    deep = frame.astype(np.uint16) * 16
    by_levels, plain = explainer.explain(deep, levels=255 * 16), explainer.explain(frame)
    assert by_levels.heatmap.tobytes() == plain.heatmap.tobytes()
    note = "pixel values 0 to 4080 were taken as 0 to 255"
    assert note in by_levels.notes and note not in plain.notes
    assert by_levels.record()["levels"] == [0, 4080] and plain.record()["levels"] is None
    (many,) = explainer.explain_many([deep], levels=(0, 4080))
    assert many.heatmap.tobytes() == plain.heatmap.tobytes()  # type: ignore[union-attr]
    with pytest.raises(ParameterError, match="levels="):
        explainer.explain_many([deep], levels=-1)
    assert len({p.stem for r in (by_levels, plain) for p in r.save(tmp_path, "x")}) == 2


def test_a_result_owns_its_frame(explainer: sise_ort.Explainer, frame: Any) -> None:
    ring, before = frame.copy(), frame.copy()
    result = explainer.explain(ring)
    ring[:] = 0
    np.testing.assert_array_equal(result.frame, before)


def test_nan_in_a_float_frame(
    tiny_onnx: Path, tmp_path: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sise_ort.export(tiny_onnx, tmp_path / "f.sise", normalize="tf", frame_dtype="float32")
    explainer = sise_ort.load(tmp_path / "f.sise", provider="cpu")
    bad = frame.astype(np.float32)
    assert explainer.explain(frame).heatmap.tobytes() == explainer.explain(bad).heatmap.tobytes()
    bad[3, 4, 1] = np.nan
    with pytest.raises(FrameError, match="1 values that are NaN"):
        explainer.explain(bad)
    sise_ort.export(tiny_onnx, tmp_path / "s.sise", mean=(0, 0, 0), std=(2, 2, 2), frame_dtype="float32")
    monkeypatch.setattr("sise_ort.frame._check_range", lambda *_: None)  # such frames are refused at the door
    with pytest.raises(FrameError, match="scores or gradients that are NaN or infinite"):  # overflow inside
        sise_ort.load(tmp_path / "s.sise", provider="cpu").explain(np.full((32, 48, 3), 3e38, np.float32))


def test_providers(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sise_ort.runtime.providers import opening as providers

    monkeypatch.setattr(providers.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "provider auto took cpu" in sise_ort.load(tiny_bundle).notes[-1]
    with pytest.raises(ProviderError, match="provider cuda is not part of the installed onnxruntime"):
        sise_ort.load(tiny_bundle, provider="cuda")
    with pytest.raises(
        ParameterError,
        match="must be one of auto, cpu, cuda, tensorrt, openvino, openvino:DEVICE, plugin:NAME",
    ):
        sise_ort.load(tiny_bundle, provider="npu")
    for size in (0, -3, 2.5, True):
        with pytest.raises(ParameterError, match="batch_size"):
            sise_ort.load(tiny_bundle, batch_size=size)  # type: ignore[arg-type]


def test_a_provider_that_falls_back_is_an_error(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime claims CUDA and then runs on the CPU, as it does where libraries are missing."""
    from sise_ort.runtime.providers import opening as providers

    opened = providers.ort.InferenceSession
    monkeypatch.setattr(
        providers.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        providers.ort,
        "InferenceSession",
        lambda model, options, **_: opened(model, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(
        ProviderError, match="provider cuda was asked for, but onnxruntime runs on CPUExecutionProvider"
    ):
        sise_ort.load(tiny_bundle, provider="cuda")
    explainer = sise_ort.load(tiny_bundle, provider="auto")
    assert explainer.provider == "cpu"
    assert "provider auto took cpu: provider cuda was asked for" in explainer.notes[-1]


def test_a_program_with_an_arena_of_its_own(
    tiny_bundle: Path, frame: Any, explainer: sise_ort.Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime 1.18 refuses a second shared arena; sessions then use the first."""
    from sise_ort.runtime.providers import opening as providers

    def refuse(words: str) -> Any:
        def register(*_: Any) -> None:
            raise RuntimeError(words)

        return register

    monkeypatch.setattr(
        providers.ort, "create_and_register_allocator", refuse("An allocator has already been registered")
    )
    providers._share_arena.cache_clear()
    ours = sise_ort.load(tiny_bundle, provider="cpu").explain(frame)
    assert ours.heatmap.tobytes() == explainer.explain(frame).heatmap.tobytes()
    monkeypatch.setattr(providers.ort, "create_and_register_allocator", refuse("out of luck"))
    providers._share_arena.cache_clear()
    with pytest.raises(RuntimeError, match="out of luck"):
        sise_ort.load(tiny_bundle, provider="cpu")
    monkeypatch.undo()
    providers._share_arena.cache_clear()


def test_the_explained_region_is_framed_at_the_pictures_size(
    explainer: sise_ort.Explainer, frame: Any
) -> None:
    big = cv2.resize(frame, (96, 64), interpolation=cv2.INTER_CUBIC)
    plain = explainer.explain(big)
    assert plain.frame_region is None
    region = np.zeros((32, 48), np.float32)
    region[10:20, 8:24] = 0.25  # a region smaller than its grid's places has shares under a half
    result = dataclasses.replace(plain, region=region)
    inside = np.zeros((64, 96), bool)
    inside[20:40, 16:48] = True
    assert result.frame_region is not None and (result.frame_region == inside).mean() > 0.99
    drawn, before = result.overlay(), plain.overlay()
    assert (drawn[23:37, 19:45] == before[23:37, 19:45]).all() and (drawn[:15] == before[:15]).all()
    assert (drawn[30, 14:18] == 255).all(-1).any() and (drawn[30, 45:50] == 255).all(-1).any()


def test_save(explainer: sise_ort.Explainer, frame: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "strip 7.png"), frame[..., ::-1])
    result = explainer.explain(tmp_path / "strip 7.png", "bee")
    files = result.save(tmp_path / "deep" / "out")
    assert [f.name for f in files] == ["strip-7-bee.png", "strip-7-bee.npz", "strip-7-bee.json"]
    picture = cv2.imread(str(files[0]))
    assert picture.shape[0] > 32 * (picture.shape[1] // 48)  # the frame, enlarged, and a caption
    np.testing.assert_allclose(sise_ort.read_heatmap(files[1]), result.frame_heatmap, rtol=0, atol=2**-12)
    record = json.loads(files[2].read_text())
    assert record["label"] == "bee" and record["target"] == 1 and record["parameters"]["mu"] == 0.0
    assert len(record["model"]["bundle_sha256"]) == 64
    assert record["masks"] == list(result.mask_counts) and len(record["blocks"]) == 3
    assert {"sise_ort", "numpy"} <= set(record["versions"]) and record["model"]["onnxruntime"]


def test_save_where_nothing_can_be_written(
    explainer: sise_ort.Explainer, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = explainer.explain(frame)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        result.save(tmp_path / "file")
    written = result.save(tmp_path / "out", "a")
    before = {p: p.read_bytes() for p in written}

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        result.save(tmp_path / "out", "a")
    assert before == {p: p.read_bytes() for p in (tmp_path / "out").iterdir()}
