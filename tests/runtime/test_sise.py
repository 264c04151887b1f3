"""The runtime against the slow SISE of reference_sise.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import reference_sise
import torch
import torch.nn.functional as F
from tiny import tiny_model
from torch import Tensor

import sise_ort
from sise_ort.formulas.selection import select_maps
from sise_ort.readouts import Question
from sise_ort.runtime.methods.selection import Selection


def torch_tiny(model: onnx.ModelProto) -> Any:
    """The tiny model as a torch function in float64: x -> scores, block outputs."""
    p = {
        i.name: torch.tensor(onnx.numpy_helper.to_array(i).astype(np.float64))
        for i in model.graph.initializer
    }

    def net(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = x.requires_grad_()
        r1 = F.relu(F.conv2d(x, p["w1"], p["b1"], padding=1))
        r2 = F.relu(F.conv2d(F.max_pool2d(r1, 2), p["w2"], p["b2"], padding=1))
        r3 = F.relu(F.conv2d(F.max_pool2d(r2, 2), p["w3"], p["b3"], padding=1))
        return r3.mean((2, 3)) @ p["fc"].T + p["bias"], [r1, r2, r3]

    return net


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("mu", [0.0, 0.3, "adaptive"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_the_definition(tmp_path: Path, frame: Any, head: str, mu: float | str, seed: int) -> None:
    model = tiny_model(seed=seed)
    onnx.save(model, tmp_path / "tiny.onnx")
    sise_ort.export(tmp_path / "tiny.onnx", tmp_path / "tiny.sise", normalize="tf", head=head)
    explainer = sise_ort.load(tmp_path / "tiny.sise", provider="cpu", batch_size=5)
    result = explainer.explain(frame, mu=mu)

    net = torch_tiny(model)
    x = torch.tensor((frame.astype(np.float64) - 127.5) / 127.5).permute(2, 0, 1)[None]
    scores, _ = net(x)
    assert result.target == int(scores.argmax())
    contrast = 1.0 if head == "softmax" else 0.0
    extracted = explainer.model.extract(explainer.model.upload(frame), [result.target], contrast)
    np.testing.assert_allclose(extracted.scores, scores[0].detach().numpy(), rtol=1e-5, atol=1e-5)
    asked = [Question.of_class(result.target)]
    selection = Selection(explainer.model, explainer.model.upload(frame), asked, mu)
    chosen = [s.tolist() for s in selection.selected(0)]

    _, own = reference_sise.explain(net, x, result.target, mu, head)
    for block, ours, alpha, tensor in zip(
        own, chosen, extracted.pooled_gradients, extracted.features, strict=True
    ):
        np.testing.assert_allclose(
            tensor.numpy()[0], block.features, rtol=0, atol=1e-5 * np.abs(block.features).max()
        )
        a, b = alpha[0].astype(np.float64), block.alpha  # equal up to a positive factor
        assert np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)) < 1e-4
        beta = block.alpha.max()
        threshold = 0.0 if mu == "adaptive" else float(mu)
        for k in set(ours) ^ set(block.selected):
            assert abs(block.alpha[k] - threshold * beta) <= 1e-3 * beta
    expected, blocks = reference_sise.explain(net, x, result.target, mu, head, selections=chosen)
    for block, ours_map in zip(blocks, result.visualization_maps, strict=True):
        np.testing.assert_allclose(
            ours_map, 0 if block.visualization is None else block.visualization, atol=1e-3
        )
    assert expected is not None
    assert np.corrcoef(expected.ravel(), result.heatmap.ravel())[0, 1] >= 0.999
    assert result.mask_counts == tuple(len(c) for c in chosen)
    assert result.forward_passes == 1 + sum(result.mask_counts)

    refused = reference_sise.fuse([v if v.any() else None for v in result.visualization_maps])
    assert refused is not None  # the same maps fused by the definition
    np.testing.assert_allclose(result.heatmap, refused, atol=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_fusion_of_the_same_maps(tiny_bundle: Path, frame: Any, seed: int) -> None:
    """Random weights, some blocks empty: no exceptions from 1e-5, Otsu's ties included."""
    rng = np.random.default_rng(seed)
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    model = explainer.model
    extracted = model.extract(model.upload(frame), [0, 1], 1.0)
    weights = []
    for layer in explainer.manifest.layers:
        w = rng.exponential(1, (2, layer.channels)) * (rng.random((2, layer.channels)) < 0.3)
        weights.append((w * (rng.random((2, 1)) < 0.8)).astype(np.float32))
    maps, heatmaps = model.fuse(extracted.features, weights)
    for k in range(2):
        for b, (weight, tensor) in enumerate(zip(weights, extracted.features, strict=True)):
            features = tensor.numpy()[0].astype(np.float64)
            summed = np.tensordot(weight[k].astype(np.float64), features, 1)
            if np.ptp(summed) <= 1e-9:
                assert not maps[k, b].any()
            else:
                np.testing.assert_allclose(
                    maps[k, b], reference_sise.mask_of(summed, maps.shape[2:]), atol=1e-4
                )
        expected = reference_sise.fuse([v if v.any() else None for v in maps[k]])
        np.testing.assert_allclose(heatmaps[k], 0 if expected is None else expected, atol=1e-5)


def test_several_classes_share_their_masks(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=8)
    together = explainer.explain(frame, [0, "bee", 2])
    alone = [explainer.explain(frame, k) for k in range(3)]
    assert [r.target for r in together] == [0, 1, 2]
    for a, b in zip(together, alone, strict=True):
        assert a.mask_counts == b.mask_counts
        np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-5)
    assert together[0].forward_passes < sum(r.forward_passes for r in alone)


def test_same_input_same_bytes(tiny_bundle: Path, frame: Any) -> None:
    first, second = (sise_ort.load(tiny_bundle, provider="cpu").explain(frame) for _ in range(2))
    assert first.heatmap.tobytes() == second.heatmap.tobytes()
    assert first.visualization_maps.tobytes() == second.visualization_maps.tobytes()


def test_batch_size_does_not_change_the_map(tiny_bundle: Path, frame: Any) -> None:
    maps = [
        sise_ort.load(tiny_bundle, provider="cpu", batch_size=n).explain(frame).heatmap for n in (1, 3, 64)
    ]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5)
    np.testing.assert_allclose(maps[0], maps[2], atol=1e-5)


def test_absence_is_the_other_side(sigmoid_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(sigmoid_bundle, provider="cpu")
    for label in ("ant", "bee", "cat"):
        present, absent = explainer.explain(frame, [label, f"not:{label}"])
        assert present.confidence + absent.confidence == pytest.approx(1.0)
        assert absent.label == f"not {label}"
        model = explainer.model
        alpha = model.extract(model.upload(frame), [present.target], 0.0).pooled_gradients
        spans = model.extract(model.upload(frame), [present.target], 0.0).spans
        counts = [int(select_maps(-a[0], s).sum()) for a, s in zip(alpha, spans, strict=True)]
        assert absent.mask_counts == tuple(counts)


def test_positive_explains_every_class_over_half(sigmoid_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(sigmoid_bundle, provider="cpu")
    every = explainer.explain(frame, [0, 1, 2, 3])
    positive = explainer.explain(frame, "positive")
    assert [r.target for r in positive] == [r.target for r in every if r.confidence > 0.5]
    assert positive


def test_no_evidence_is_a_zero_map_and_a_note(tmp_path: Path) -> None:
    model = tiny_model()
    fc = next(i for i in model.graph.initializer if i.name == "fc")
    fc.CopyFrom(onnx.numpy_helper.from_array(-np.abs(onnx.numpy_helper.to_array(fc)), "fc"))
    onnx.save(model, tmp_path / "negative.onnx")
    sise_ort.export(
        tmp_path / "negative.onnx", tmp_path / "n.sise", normalize="tf", head="sigmoid", layers=["r3"]
    )
    result = sise_ort.load(tmp_path / "n.sise", provider="cpu").explain(np.full((32, 48, 3), 200, np.uint8))
    assert not result.heatmap.any()
    assert result.mask_counts == (0,)
    assert "no feature map speaks for the class" in result.notes[-2]
    assert "the heat map is zero" in result.notes[-1]


def test_raw_scores(tmp_path: Path, frame: Any, tiny_onnx: Path) -> None:
    sise_ort.export(tiny_onnx, tmp_path / "raw.sise", normalize="tf", head="none")
    result = sise_ort.load(tmp_path / "raw.sise", provider="cpu").explain(frame)
    assert result.confidence == pytest.approx(float(result.scores[result.target]))
    assert result.heatmap.max() == 1
