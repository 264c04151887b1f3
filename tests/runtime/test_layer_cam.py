"""LayerCAM and its product over blocks: against torch autograd in float64, and by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from exporting import exported

import sise_ort
from sise_ort.errors import FrameError, ParameterError
from sise_ort.readouts import Question
from sise_ort.runtime.methods import LayerCam, Refine
from sise_ort.runtime.methods.layer_cam import layer_cam_maps
from sise_ort.runtime.methods.refine import APART

torch = pytest.importorskip("torch")
CUTS = {"plain": (2, 5, 8), "residual": (3, 5, 8)}
"""Behind which modules the blocks end, in the networks of tests/reference."""


def defined(networks: Any, name: str, frame: Any, target: int, sign: float = 1.0) -> list[Any]:
    """L_b = upsample(max(0, Σ_k max(0, ∂z_c/∂A_k) ⊙ A_k)) over its maximum, of every block, in float64."""
    net, found = networks.NETWORKS[name]().double(), []
    x = networks.network_input(frame).double()
    for cut in CUTS[name]:
        maps = net[:cut](x).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(sign * net[cut:](maps)[0, target], maps)
        total = torch.relu((torch.relu(gradient) * maps).sum(1, keepdim=True))
        wide = torch.nn.functional.interpolate(
            total, size=networks.SIZE, mode="bilinear", align_corners=False
        )
        found.append((wide / wide.max()).detach().numpy()[0, 0])
    return found


@pytest.mark.parametrize("name", CUTS)
def test_layer_cam_against_its_definition(reference_explainers: Any, networks: Any, name: str) -> None:
    explainer, frame = reference_explainers[name], networks.pictures(2)[1]
    assert len(explainer.manifest.layers) == 3
    expected = defined(networks, name, frame, 2)
    for block, theirs in enumerate(expected, 1):
        result = explainer.explain(frame, 2, method="layercam", block=block)
        assert np.abs(result.heatmap - theirs).max() < 1e-3 and theirs.std() > 0.05
        assert (result.forward_passes, result.backward_passes) == (1, 1)
    last = explainer.explain(frame, 2, method=LayerCam())
    np.testing.assert_array_equal(last.heatmap, explainer.explain(frame, 2, method=LayerCam(3)).heatmap)
    # neither Grad-CAM nor another block is within the tolerance
    assert np.abs(explainer.explain(frame, 2, method="gradcam").heatmap - expected[2]).max() > 0.02
    assert np.abs(expected[0] - expected[1]).max() > 0.1


@pytest.mark.parametrize("blocks", [1, 2, 3, 9])
@pytest.mark.parametrize("name", CUTS)
def test_refine_against_its_definition(
    reference_explainers: Any, networks: Any, name: str, blocks: int
) -> None:
    explainer, frame = reference_explainers[name], networks.pictures(2)[1]
    theirs = np.prod(defined(networks, name, frame, 2)[-blocks:], axis=0)
    result = explainer.explain(frame, 2, method="refine", blocks=blocks)
    assert np.abs(result.heatmap - theirs / theirs.max()).max() < 1e-3 and result.heatmap.max() == 1
    assert (result.forward_passes, result.backward_passes) == (1, 1)


def test_refine_takes_all_of_three_blocks_and_several_classes(
    reference_explainers: Any, networks: Any
) -> None:
    explainer, frame = reference_explainers["plain"], networks.pictures(1)[0]
    results = explainer.explain(frame, [0, 4, None], method="refine")
    for result in results:
        theirs = np.prod(defined(networks, "plain", frame, result.target), axis=0)
        assert np.abs(result.heatmap - theirs / theirs.max()).max() < 1e-3
    assert Refine() == Refine(blocks=4)


@pytest.mark.parametrize("method", ["layercam", "refine"])
def test_absence_takes_the_negative_score(networks: Any, method: str, tmp_path: Path) -> None:
    sise_ort.export(
        networks.plain(), tmp_path / "net.sise", mean=networks.MEAN, std=networks.STD,
        input_size=networks.SIZE, head="sigmoid",
    )  # fmt: skip
    frame = networks.pictures(1)[0]
    maps = defined(networks, "plain", frame, 1, sign=-1.0)
    theirs = maps[2] if method == "layercam" else np.prod(maps, axis=0)
    with sise_ort.load(tmp_path / "net.sise", provider="cpu") as explainer:
        result = explainer.explain(frame, "not:1", method=method)
    assert np.abs(result.heatmap - theirs / theirs.max()).max() < 1e-3


def made(features: Any, gradients: Any) -> Any:
    """What `extract` gives, from nested lists [N, h, w] and [K, N, h, w]."""
    arrays = (np.float32(features)[None], np.float32(gradients))
    return SimpleNamespace(
        features=[SimpleNamespace(numpy=lambda: arrays[0])],
        gradients=[SimpleNamespace(numpy=lambda: arrays[1])],
    )


def test_by_hand_with_negative_maps_and_gradients() -> None:
    """Places whose gradient is negative do not count, nor do sums under 0."""
    extracted = made([[[2, -3]], [[5, 1]]], [[[[1, 4]], [[-7, 2]]]])
    (there,) = layer_cam_maps(extracted, 0, [Question.of_class(0)])
    np.testing.assert_array_equal(there, [[2, 0]])  # 2·1 + 5·0, and -3·4 + 1·2 = -10
    (absent,) = layer_cam_maps(extracted, 0, [Question.of_class(0, absent=True)])
    np.testing.assert_array_equal(absent, [[35, 0]])  # 2·0 + 5·7, and nothing speaks for absence


def test_gradients_that_are_not_finite() -> None:
    with pytest.raises(FrameError, match="NaN or infinite"):
        layer_cam_maps(made([[[1.0]]], [[[[np.nan]]]]), 0, [Question.of_class(0)])


def test_a_dead_class_gives_a_zero_map_and_says_so(tmp_path: Path, make_tiny: Any, frame: Any) -> None:
    model = make_tiny()
    for tensor in model.graph.initializer:
        if tensor.name == "fc":
            dead = -np.abs(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(dead, "fc"))
    explainer = exported(model, tmp_path)
    for method in ("layercam", "refine"):
        result = explainer.explain(frame, 0, method=method)
        assert not result.heatmap.any() and any("no evidence" in note for note in result.notes)
    assert any(note.startswith("block 3 (") for note in result.notes)


def test_blocks_without_a_common_place(tmp_path: Path, tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    extract = explainer.model.extract
    blocks = explainer.model.blocks

    def one_place_each(*arguments: Any) -> Any:
        """Features that are 1 at a corner, which differs from block to block, and gradients of 1."""
        found = extract(*arguments)
        for place in range(blocks):
            maps = np.zeros_like(found.features[place].numpy())
            maps[..., -(place % 2), 0] = 1
            ones = np.ones_like(found.gradients[place].numpy())
            found.features[place] = SimpleNamespace(numpy=lambda maps=maps: maps)
            found.gradients[place] = SimpleNamespace(numpy=lambda ones=ones: ones)
        return found

    explainer.model.extract = one_place_each  # type: ignore[method-assign]
    one = explainer.explain(frame, 0, method="refine", blocks=1)
    assert one.heatmap[:, 0].max() == 1 and APART not in one.notes
    both = explainer.explain(frame, 0, method="refine", blocks=2)
    assert not both.heatmap.any() and APART in both.notes


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("layercam", {"block": 7}, "blocks 1 to 3"),
        ("layercam", {"block": -1}, "block= is -1"),
        ("refine", {"blocks": 0}, "blocks= is 0; it must be a whole number from 1"),
        ("refine", {"block": 1}, "no parameter 'block'; it has blocks"),
    ],
)
def test_what_is_refused(
    tiny_bundle: Path, frame: Any, method: str, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        sise_ort.load(tiny_bundle, provider="cpu").explain(frame, method=method, **parameters)
