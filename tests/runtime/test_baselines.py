"""The methods that SISE is compared with: against pytorch-grad-cam, captum, torch, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from exporting import STEM, WEIGHTS, exported, parsed, weights
from gradcheck import relative
from rounding import Float64, Rounding

import sise_ort
from sise_ort.errors import BundleError, ExportError, ParameterError, TargetError
from sise_ort.formulas.resampling import hat_matrix
from sise_ort.readouts import Question
from sise_ort.runtime.maps import upsample
from sise_ort.runtime.methods import METHODS, Call
from sise_ort.runtime.methods.integrated_gradients import baseline_input, integrate

torch = pytest.importorskip("torch")
GRAPHS = ("head", "image-gradient", "full-gradient")
NAMES = ("residual", "plain")


@pytest.fixture(scope="module")
def tiny_all(tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[..., onnx.ModelProto]) -> Any:
    """The tiny model with a sigmoid head and all graphs."""
    return exported(make_tiny(tail="y = Sigmoid(scores)"), tmp_path_factory.mktemp("all"), graphs=GRAPHS)


def scaled(values: Any) -> Any:
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "ablationcam", "scorecam", "fullgrad"])
def test_against_pytorch_grad_cam(
    reference_explainers: Any, reference: Any, name: str, method: str, networks: Any
) -> None:
    steeply = method in ("gradcam++", "fullgrad") and name == "residual"
    explainer = reference_explainers["steep" if steeply else name]
    target = None if method == "ablationcam" else int(reference["target"])
    result = explainer.explain(networks.pictures(1)[0], target, method=method)
    assert result.heatmap.max() == 1 and result.heatmap.std() > 0.05
    assert np.abs(scaled(result.heatmap) - reference[f"{name}/{method}"]).max() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_integrated_gradients_against_captum(
    reference_explainers: Any, reference: Any, name: str, networks: Any
) -> None:
    explainer, theirs = reference_explainers[name], reference[f"{name}/integrated-gradients"]
    frame, target = networks.pictures(1)[0], int(reference["target"])
    x = explainer.model.network_input(explainer.model.upload(frame))
    found = integrate(
        explainer.model, x, baseline_input(explainer.model, "black"), Question.of_class(target), 200, Call()
    )
    assert np.abs(found.values - theirs).max() < 1e-3 * np.ptp(theirs)
    result = explainer.explain(frame, target, method="integrated-gradients", steps=200)
    positive = np.maximum(theirs.sum(0), 0)
    assert np.abs(result.heatmap - positive / positive.max()).max() < 1e-3
    assert result.facts["completeness_error"] == pytest.approx(found.completeness_error)
    assert (result.forward_passes, result.backward_passes) == (203, 200)


def test_integrated_gradients_says_where_steps_are_too_few(reference_explainers: Any, networks: Any) -> None:
    result = reference_explainers["residual"].explain(
        networks.pictures(1)[0], 2, method="integrated-gradients", steps=1
    )
    assert any("completeness error" in note and "1 steps are too few" in note for note in result.notes)
    for baseline, pixel in (("white", 255), ("gray", 127.5), ("mean", networks.MEAN)):
        value = (np.float64(pixel) - networks.MEAN) / networks.STD
        np.testing.assert_allclose(
            baseline_input(reference_explainers["residual"].model, baseline).ravel(),
            np.broadcast_to(value, 3),
            rtol=1e-6,
        )


@pytest.mark.parametrize("name", NAMES)
def test_gradient_and_full_gradient_against_autograd(
    reference_explainers: Any, name: str, networks: Any
) -> None:
    """The gradient in float64; FullGrad's terms add up to the score (its completeness, exact for these networks)."""
    explainer, net = reference_explainers[name], networks.NETWORKS[name]().double()
    frames = networks.pictures(3)
    x = torch.cat([networks.network_input(f) for f in frames]).double().requires_grad_(True)
    z = net(x)
    (gradient,) = torch.autograd.grad(z[0, 1] + z[1, 4] + z[2].max(), x)
    inputs = x.detach().float().numpy()
    for i, asked in enumerate([1, 4, -1]):
        question, answers, found = explainer.model.image_gradient(inputs[i : i + 1], asked)
        assert question.index == (asked if asked >= 0 else int(z[2].argmax()))
        feeds = {"input": inputs[i : i + 1], "class": np.array([question.index]), "other": np.array([-1])}
        rounding = Rounding(Float64(explainer.model.folder / "image_gradient.onnx"), feeds)
        parts = ("scores", answers.scores, z[i : i + 1]), ("gradient", found, gradient[i : i + 1])
        for key, ours, theirs in parts:
            for value in (ours, rounding.exact[key]):
                assert relative(value, theirs.detach().numpy()) < rounding.limit(key), key
        assert rounding.limit("scores") < 1e-3
    heatmap = explainer.explain(frames[0], 1, method="gradient").heatmap
    largest = gradient[0].abs().amax(0).numpy()
    assert np.abs(heatmap - largest / largest.max()).max() < 1e-3
    results = explainer.explain(frames[0], [0, 1, None], method="fullgrad")
    for result in results:
        assert result.facts["completeness_error"] < 1e-4
    one = explainer.explain(frames[0], 1, method="fullgrad").heatmap
    np.testing.assert_allclose(results[1].heatmap, one, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_score_cam_against_its_definition(reference_explainers: Any, name: str, networks: Any) -> None:
    net, frame = networks.NETWORKS[name]().double(), networks.pictures(2)[1]
    x = networks.network_input(frame).double()
    with torch.no_grad():
        maps = net[: networks.LAST[name] + 1](x)
        wide = torch.nn.functional.interpolate(
            maps, size=networks.SIZE, mode="bilinear", align_corners=False
        )[0]
        alive = wide.amax((1, 2)) > wide.amin((1, 2))
        wide, maps = wide[alive], maps[:, alive]
        least, most = wide.amin((1, 2), keepdim=True), wide.amax((1, 2), keepdim=True)
        logits = net(x * ((wide - least) / (most - least))[:, None])[:, 3]
        cam = torch.relu((torch.softmax(logits, 0)[:, None, None] * maps[0]).sum(0))[None, None]
        theirs = torch.nn.functional.interpolate(
            cam, size=networks.SIZE, mode="bilinear", align_corners=False
        )[0, 0]
    result = reference_explainers[name].explain(frame, 3, method="scorecam")
    assert np.abs(result.heatmap - (theirs / theirs.max()).numpy()).max() < 1e-3
    assert result.mask_counts == (int(alive.sum()),)


def test_upsampling_is_opencvs() -> None:

    values = np.random.default_rng(0).normal(0, 1, (5, 7))
    theirs = cv2.resize(values, (40, 31), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(upsample(values, (31, 40)), theirs, atol=1e-5)
    np.testing.assert_allclose(hat_matrix(31, 5, 4, 9), hat_matrix(31, 5)[4:13])


def test_grad_cam_by_hand(reference_explainers: Any, networks: Any) -> None:
    """With global pooling and one dense layer, Grad-CAM is CAM: the dense layer's weights are the map's."""
    net, frame = networks.residual().double(), networks.pictures(1)[0]
    with torch.no_grad():
        maps = net[:8](networks.network_input(frame).double())[0]
        cam = torch.relu((net[10].weight[4][:, None, None] * maps).sum(0))[None, None]
        cam = torch.nn.functional.interpolate(cam, size=networks.SIZE, mode="bilinear", align_corners=False)[
            0, 0
        ]
    result = reference_explainers["residual"].explain(frame, 4, method="gradcam")
    assert np.abs(result.heatmap - (cam / cam.max()).numpy()).max() < 1e-4


@pytest.mark.parametrize("block", [1, 2])
def test_grad_cam_of_another_block(reference_explainers: Any, block: int, networks: Any) -> None:
    explainer, frame = reference_explainers["plain"], networks.pictures(1)[0]
    layer = {1: 2, 2: 5}[block]
    net = networks.plain()
    maps = net[:layer](networks.network_input(frame)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(net[layer:](maps)[0, 0], maps)
    cam = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
    cam = torch.nn.functional.interpolate(cam, size=networks.SIZE, mode="bilinear", align_corners=False)[0, 0]
    result = explainer.explain(frame, 0, method="gradcam", block=block)
    assert np.abs(result.heatmap - (cam / cam.max()).detach().numpy()).max() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_absence_is_the_negative_evidence(reference: Any, networks: Any, name: str, tmp_path: Path) -> None:
    """The map of a class's absence is that of a network whose score is -z: by torch in float64, and by captum."""
    class_index = int(reference["target"])
    sise_ort.export(
        networks.NETWORKS[name](), tmp_path / "net.sise", mean=networks.MEAN, std=networks.STD,
        input_size=networks.SIZE, head="sigmoid", graphs=("head", "image-gradient"),
    )  # fmt: skip
    explainer = sise_ort.load(tmp_path / "net.sise", provider="cpu", batch_size=4)
    net, frame = networks.NETWORKS[name]().double(), networks.pictures(1)[0]
    cut = networks.LAST[name] + 1
    maps = net[:cut](networks.network_input(frame).double()).detach().requires_grad_(True)
    score = -net[cut:](maps)[0, class_index]
    (gradient,) = torch.autograd.grad(score, maps)
    ablated = maps.detach().repeat(maps.shape[1], 1, 1, 1)
    ablated[range(maps.shape[1]), range(maps.shape[1])] = 0
    with torch.no_grad():
        falls = score + net[cut:](ablated)[:, class_index]
    theirs = {"integrated-gradients": np.maximum(-reference[f"{name}/integrated-gradients"].sum(0), 0)}
    for method, weight in (("gradcam", gradient[0].mean((1, 2))), ("ablationcam", falls)):
        cam = torch.relu(torch.einsum("n,nhw->hw", weight, maps[0]))[None, None]
        wide = torch.nn.functional.interpolate(cam, networks.SIZE, mode="bilinear", align_corners=False)
        theirs[method] = wide[0, 0].detach().numpy()
    for method, expected in theirs.items():
        options = {"steps": 200} if method == "integrated-gradients" else {}
        result = explainer.explain(frame, f"not:{class_index}", method=method, **options)
        assert expected.max() > 0
        assert np.abs(result.heatmap - expected / expected.max()).max() < 1e-3, method


def test_the_words_of_absence(tiny_all: sise_ort.Explainer, frame: Any) -> None:
    for method in ("gradcam", "ablationcam", "integrated-gradients"):
        there = tiny_all.explain(frame, 0, method=method)
        absent = tiny_all.explain(frame, "not:0", method=method)
        assert absent.label == "not class 0" and absent.confidence == pytest.approx(
            1 - there.confidence, abs=1e-6
        )
    for method in ("gradient", "fullgrad"):
        with pytest.raises(TargetError, match="takes absolute values"):
            tiny_all.explain(frame, "not:0", method=method)


def test_every_method_takes_every_kind_of_target(tiny_all: sise_ort.Explainer, frame: Any) -> None:
    fast: dict[str, dict[str, Any]] = {"rise": {"masks": 9}, "extremal-perturbation": {"iterations": 2}}
    assert tiny_all.methods == tuple(METHODS)
    top = tiny_all.explain(frame).target
    for method in METHODS:
        one, two = tiny_all.explain(frame, [None, 1], method=method, **fast.get(method, {}))
        assert (one.target, two.target) == (top, 1)
        assert one.method == method and one.heatmap.shape == (32, 48) and one.heatmap.dtype == np.float32
        assert one.heatmap.min() >= 0 and one.heatmap.max() <= 1
        record = one.record()
        assert record["method"] == method and set(record["parameters"]) == set(METHODS[method].defaults())
        assert one.caption.startswith("class" if method == "sise" else METHODS[method].title)


def test_methods_whose_graph_is_missing_say_how_to_get_it(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    assert explainer.methods == ("sise", "gradcam", "gradcam++", "layercam", "refine", "scorecam", "rise")
    for method, option in (
        ("ablationcam", "head"),
        ("gradient", "image-gradient"),
        ("fullgrad", "full-gradient"),
        ("extremal-perturbation", "image-gradient"),
    ):
        with pytest.raises(BundleError, match=rf"export it again with graphs=\['{option}'\]"):
            explainer.explain(frame, method=method)


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("grad-cam", {}, "did you mean gradcam"),
        ("gradcam", {"mu": 0.3}, "no parameter 'mu'; it has block"),
        ("gradcam", {"block": 7}, "blocks 1 to 3"),
        ("rise", {"masks": 0}, "masks= is 0"),
        ("rise", {"probability": 1.0}, "probability= is 1.0"),
        ("rise", {"seed": -1}, "seed= is -1"),
        ("integrated-gradients", {"baseline": "red"}, "baseline= is 'red'"),
        ("extremal-perturbation", {"areas": (0.1, 2)}, "areas= is 2"),
        ("extremal-perturbation", {"areas": ()}, "areas= has 0 values"),
        ("gradient", {"steps": 3}, "it has none"),
    ],
)
def test_parameters_that_are_refused(
    tiny_all: sise_ort.Explainer, frame: Any, method: str, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        tiny_all.explain(frame, method=method, **parameters)


def test_a_dead_class_gives_a_zero_map_and_says_so(tmp_path: Path, make_tiny: Any, frame: Any) -> None:
    model = make_tiny()
    for tensor in model.graph.initializer:
        if tensor.name == "fc":
            dead = -np.abs(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(dead, "fc"))
    result = exported(model, tmp_path).explain(frame, 0, method="gradcam")
    assert not result.heatmap.any() and any("no evidence" in note for note in result.notes)


def test_batches_of_one(tmp_path: Path, frame: Any) -> None:
    """A file that takes one picture at a time gives what the same network gives with any batch, by every method."""
    pooled = STEM + "g = GlobalAveragePool(s)\n f = Flatten(g)\n"
    params = {"more": weights(1, 2), "all": 4 * weights(18, 4)}
    joined = parsed(pooled + "j = Concat<axis=1>(f, more)\n scores = Gemm(j, all)", WEIGHTS | params, batch=1)
    plain = {"fc": params["all"][:16].copy(), "bias": params["more"] @ params["all"][16:]}
    free = parsed(pooled + "scores = Gemm(f, fc, bias)", WEIGHTS | plain)
    explainers = []
    for name, model in (("one", joined), ("any", free)):
        (tmp_path / name).mkdir()
        explainers.append(exported(model, tmp_path / name, graphs=GRAPHS))
    assert [e.manifest.input.batch for e in explainers] == [1, None]
    fast: dict[str, Any] = {
        "rise": {"masks": 9},
        "extremal-perturbation": {"iterations": 3, "areas": (0.1, 0.3)},
    }
    for method in METHODS:
        one, any_ = (e.explain(frame, 1, method=method, **fast.get(method, {})) for e in explainers)
        np.testing.assert_allclose(one.heatmap, any_.heatmap, atol=1e-4, err_msg=method)
        assert one.backward_passes == any_.backward_passes


def test_the_page_of_methods_is_up_to_date() -> None:
    import write_methods

    page = write_methods.FILE.read_text(encoding="utf-8")
    assert page == write_methods.page()  # else: python docs/write_methods.py
    for method in METHODS.values():
        assert set(dict(write_methods._parameters(method))) == set(method.defaults()), method.name


def test_head_needs_a_cut(tmp_path: Path, make_tiny: Any) -> None:
    """A last layer that not all paths cross cannot be the head's only input."""
    model = make_tiny()
    node = onnx.helper.make_node("GlobalAveragePool", ["r2"], ["g2"])
    flat = onnx.helper.make_node("Flatten", ["g2"], ["f2"])
    side = onnx.helper.make_node("MatMul", ["f2", "side"], ["s2"])
    total = onnx.helper.make_node("Add", ["scores", "s2"], ["y"])
    model.graph.node.extend([node, flat, side, total])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((12, 4), np.float32), "side"))
    model.graph.output[0].name = "y"
    with pytest.raises(
        ExportError, match=r"graphs=.*head.*: the network's outputs do not depend on the picture through 'r3'"
    ):
        exported(model, tmp_path, graphs=("head",), layers=["r3"])
    with pytest.raises(ParameterError, match="graphs=: there is no graph 'heads'"):
        exported(model, tmp_path, graphs=("heads",))


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("rise", {"masks": 10**11}),
        ("rise", {"cells": 10**5}),
        ("rise", {"seed": -1}),
        ("integrated-gradients", {"steps": 10**5}),
        ("extremal-perturbation", {"iterations": 10**9}),
        ("extremal-perturbation", {"areas": (0.1,) * 33}),
    ],
)
def test_numbers_beyond_any_bound(tiny_all: Any, frame: Any, method: str, parameters: Any) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(parameters))}= (is|has) -?[0-9]"):
        tiny_all.explain(frame, method=method, **parameters)
