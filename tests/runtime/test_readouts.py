"""Networks of every task through the exporter: gradients, Ψ and heat maps against torch in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import readout_networks as nets
import reference_sise
import torch

import sise_ort
from sise_ort.errors import NotSeenError, TargetError
from sise_ort.readouts import Question
from sise_ort.runtime.asking import Asking, questions_of
from sise_ort.runtime.methods.selection import Selection
from sise_ort.runtime.preparing import prepare
from sise_ort.targets import Detection, LikenessTo, RatherThan, Region, Value

Array = Any


def frame_of(size: tuple[int, int], seed: int = 11) -> Array:
    """uint8 [H, W, 3], smooth with some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    waves = 128 + 90 * np.sin(rows / (3 + seed % 5))[..., None] * np.cos(
        columns[..., None] / np.array([4, 7, 9])
    )
    return np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


SMALL, WIDE = (32, 48), nets.detector_heads.SIZE
MASK = np.zeros(SMALL, bool)
MASK[5:20, 30:41], MASK[25:, :7] = True, True


@dataclass
class Case:
    """A network, how it is exported, and what is asked of it."""

    build: Callable[[], Any]
    task: str
    kind: str
    targets: list[Any]
    size: tuple[int, int] = SMALL


CASES = {
    "classes, softmax": Case(
        lambda: nets.Softmax(4, 1), "classes", "softmax",
        [0, 2, RatherThan(1, 3), RatherThan("bee"), RatherThan(None, None)],
    ),
    "classes, sigmoid": Case(
        lambda: nets.Sigmoid(4, 2), "classes", "sigmoid", [1, "not:bee", RatherThan("cat", "ant"), RatherThan()]
    ),
    "segmentation, softmax": Case(
        lambda: nets.UNet("softmax", 3), "segmentation", "softmax",
        [Region(1, mask=MASK), Region("cat", box=(8, 4, 30, 22)), Region("ant"), None],
    ),
    "segmentation, sigmoid": Case(
        lambda: nets.UNet("sigmoid", 4), "segmentation", "sigmoid",
        [Region(3, mask=MASK), Region("bee", box=(8, 4, 30, 22)), Region(0, box=(0, 0, 48, 32))],
    ),
    "segmentation, channels last": Case(
        lambda: nets.UNet("last", 5), "segmentation", "softmax", [Region(2, mask=MASK), Region(0, box=(1, 2, 3, 4))]
    ),
    "detection": Case(
        nets.Yolo, "detection", "sigmoid",
        [Detection(0), Detection("ant"), Detection("bee", (24, 11, 56, 37)), Detection(2, (16, 0, 80, 42))], WIDE,
    ),
    "embedding": Case(
        lambda: nets.Unit(10, 6), "embedding", "none", [LikenessTo(frame_of(SMALL, 5)), LikenessTo(frame_of(SMALL, 8))]
    ),
    "embedding of any length": Case(
        lambda: nets.Tiny(10, 7), "embedding", "none", [LikenessTo(frame_of(SMALL, 5))]
    ),
    "value": Case(
        lambda: nets.Table(6, 8), "value", "none", [Value((1, 2)), Value(0), Value((slice(None), slice(0, 2))), None]
    ),
}  # fmt: skip
LABELS = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Case, Any, sise_ort.Explainer]]:
    """A case with its network and its explainer, exported once."""
    folder, found = tmp_path_factory.mktemp("readouts"), {}

    def get(name: str) -> tuple[Case, Any, sise_ort.Explainer]:
        if name not in found:
            case = CASES[name]
            net = case.build().eval()
            classes = 3 if case.task == "detection" else 4
            labels = LABELS[:classes] if case.task in ("classes", "segmentation", "detection") else None
            path = folder / f"{len(found)}.sise"
            sise_ort.export(
                net, path, normalize="tf", input_size=case.size, task=case.task, labels=labels, graphs=()
            )
            found[name] = case, net, sise_ort.load(path, provider="cpu", batch_size=5)
        return found[name]

    return get


def asked(explainer: sise_ort.Explainer, frame: Array, targets: Any) -> list[Question]:
    asking = Asking(explainer.model, prepare(explainer.manifest, frame, "rgb"))
    questions, _ = questions_of(asking, targets)
    return explainer.model.settle(questions, asking.image)[0]


def network_input(frame: Array) -> torch.Tensor:
    return torch.tensor((frame.astype(np.float64) - 127.5) / 127.5).permute(2, 0, 1)[None]


def joined(parts: Any) -> Array:
    return np.concatenate([np.asarray(p, np.float64).ravel() for p in parts])


@pytest.mark.parametrize("name", CASES)
def test_gradients(loaded: Any, name: str) -> None:
    """Those of Ψ up to one positive factor per question, over all blocks; those of the score in exact scale."""
    case, net, explainer = loaded(name)
    model, frame = explainer.model, frame_of(case.size)
    questions = asked(explainer, frame, case.targets)
    manifest = explainer.manifest
    assert (manifest.task.name, manifest.head.kind) == (case.task, case.kind)
    scores, blocks = nets.doubled(net)(network_input(frame))
    assert [(x.channels, x.height, x.width) for x in manifest.layers] == [tuple(b.shape[1:]) for b in blocks]
    image = model.upload(frame)
    for contrast in {manifest.contrast, 0.0}:
        extracted = model.extract(image, questions, contrast)
        for tensor, block in zip(extracted.features, blocks, strict=True):
            theirs = block.detach().numpy()
            np.testing.assert_allclose(tensor.numpy(), theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
        for k, question in enumerate(questions):
            ours = joined(g.numpy()[k] for g in extracted.gradients)
            psi = nets.psi_of(case.task, case.kind, question)
            for explained, exact in ((psi, False), (nets.score_of(case.task, question), True)):
                if exact != (contrast == 0) and not (
                    question.absent or (manifest.contrast == 0 and not exact)
                ):
                    continue
                theirs = joined(torch.autograd.grad(explained(scores), blocks, retain_graph=True))
                assert np.abs(theirs).max() > 0
                if exact and contrast == 0:
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
                else:
                    sign = question.sign
                    apart = sign * ours / np.linalg.norm(ours) - theirs / np.linalg.norm(theirs)
                    assert np.linalg.norm(apart) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_psi_of_masked_pictures(loaded: Any, name: str, rng: np.random.Generator) -> None:
    case, net, explainer = loaded(name)
    model, frame = explainer.model, frame_of(case.size)
    questions = asked(explainer, frame, case.targets)
    masks = np.concatenate([np.ones((1, 1, *case.size)), rng.random((6, 1, *case.size))]).astype(np.float32)
    answers = model.answers(questions, masks, model.upload(frame))
    network, x = nets.doubled(net), network_input(frame)
    for n, mask in enumerate(masks):
        with torch.no_grad():
            scores, _ = network(x * torch.tensor(mask, dtype=torch.float64))
        for k, question in enumerate(questions):
            psi = float(nets.psi_of(case.task, case.kind, question)(scores))
            score = question.sign * float(nets.score_of(case.task, question)(scores))
            assert answers.psi[k, n] == pytest.approx(psi, rel=2e-4, abs=1e-6)
            assert answers.score[k, n] == pytest.approx(score, rel=2e-4, abs=1e-4)
    found = explainer.explain(frame, case.targets)
    np.testing.assert_allclose([r.confidence for r in found], answers.psi[:, 0], rtol=1e-5)


@pytest.mark.parametrize("mu", [0.0, "adaptive"])
@pytest.mark.parametrize("name", CASES)
def test_heat_maps_against_the_definition(loaded: Any, name: str, mu: float | str) -> None:
    case, net, explainer = loaded(name)
    model, frame = explainer.model, frame_of(case.size)
    target = case.targets[0]
    result = explainer.explain(frame, target, mu=mu)
    (question,) = asked(explainer, frame, target)
    selection = Selection(model, model.upload(frame), [question], mu)
    chosen = [s.tolist() for s in selection.selected(0)]
    network, x = nets.doubled(net), network_input(frame)
    psi = nets.psi_of(case.task, case.kind, question)

    _, own = reference_sise.explain_any(network, x, psi, mu)
    for block, ours in zip(own, chosen, strict=True):
        beta = block.alpha.max()
        threshold = 0.0 if mu == "adaptive" else float(mu)
        for k in set(ours) ^ set(block.selected):
            assert abs(block.alpha[k] - threshold * beta) <= 1e-3 * beta
    expected, blocks = reference_sise.explain_any(network, x, psi, mu, selections=chosen)
    for block, ours_map in zip(blocks, result.visualization_maps, strict=True):
        theirs = 0 if block.visualization is None else block.visualization
        np.testing.assert_allclose(ours_map, theirs, atol=1e-3)
    assert expected is not None
    assert np.corrcoef(expected.ravel(), result.heatmap.ravel())[0, 1] >= 0.999
    assert result.mask_counts == tuple(len(c) for c in chosen) and sum(result.mask_counts)


@pytest.mark.parametrize("name", CASES)
def test_several_questions_and_many_pictures(loaded: Any, name: str) -> None:
    """Together and alone, one picture after the other and by themselves: the same heat maps."""
    case, _, explainer = loaded(name)
    frames = [frame_of(case.size, seed) for seed in (11, 11, 3)]
    targets = [t for t in case.targets if not (isinstance(t, Detection) and t.box is None)]
    together = explainer.explain(frames[0], targets)
    for target, ours in zip(targets, together, strict=True):
        alone = explainer.explain(frames[0], target)
        assert alone.label == ours.label and alone.mask_counts == ours.mask_counts
        np.testing.assert_allclose(alone.heatmap, ours.heatmap, atol=1e-5)
        assert alone.confidence == pytest.approx(ours.confidence, rel=1e-6)
    for frame, several in zip(frames, explainer.explain_many(frames, targets), strict=True):
        for ours, theirs in zip(several, explainer.explain(frame, targets), strict=True):
            assert ours.label == theirs.label
            np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=1e-5)
            assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_method_answers(loaded: Any, name: str) -> None:
    case, _, explainer = loaded(name)
    for method in ("gradcam", "layercam", "refine"):
        for result in explainer.explain(frame_of(case.size), case.targets, method=method):
            assert np.isfinite(result.heatmap).all() and result.heatmap.max() <= 1
            assert result.method == method and result.task == case.task


@pytest.mark.parametrize("name", ["detection", "segmentation, sigmoid", "classes, sigmoid"])
def test_refine_leaves_out_blocks_that_say_nothing(loaded: Any, name: str) -> None:
    """The product of LayerCAM's maps over the last two blocks whose gradient is not zero, from torch."""
    case, net, explainer = loaded(name)
    frame = frame_of(case.size)
    questions = asked(explainer, frame, case.targets)
    scores, blocks = nets.doubled(net)(network_input(frame))
    results = explainer.explain(frame, case.targets, method="refine", blocks=2)
    reached = set()
    for question, result in zip(questions, results, strict=True):
        score = nets.score_of(case.task, question)(scores)
        gradients = torch.autograd.grad(score, blocks, retain_graph=True, allow_unused=True)
        pairs = [
            (b, g) for b, g in zip(blocks, gradients, strict=True) if g is not None and g.abs().max() > 0
        ]
        reached.add(len(pairs))
        product = torch.ones(case.size, dtype=torch.float64)
        for block, gradient in pairs[-2:]:
            cam = ((question.sign * gradient).clamp(min=0) * block).sum(1, keepdim=True).clamp(min=0)
            wide = torch.nn.functional.interpolate(cam, size=case.size, mode="bilinear", align_corners=False)
            product = product * wide[0, 0] / wide.max().clamp(min=1e-300)
        expected = (product / product.max().clamp(min=1e-300)).detach().numpy()
        np.testing.assert_allclose(result.heatmap, expected, atol=1e-4)
    assert len(reached) > 1 or name != "detection"


def test_the_last_block_that_matters(loaded: Any) -> None:
    """The surest detection lies on a shallow feature map: Grad-CAM and LayerCAM take that, and say so."""
    case, _, explainer = loaded("detection")
    for method in ("gradcam", "gradcam++", "layercam"):
        found = explainer.explain(frame_of(case.size), case.targets, method=method)
        assert all(result.heatmap.any() for result in found)
        assert any(
            "does not depend on the blocks behind it" in note for result in found for note in result.notes
        )
        last = explainer.explain(
            frame_of(case.size), case.targets, method=method, block=explainer.model.blocks
        )
        assert not all(result.heatmap.any() for result in last)


# Where a region lies --------------------------------------------------------------------------------


def refitted(loaded: Any, tmp_path: Path, name: str, fit: str) -> sise_ort.Explainer:
    case, net, _ = loaded(name)
    labels = LABELS[:3] if case.task == "detection" else LABELS
    sise_ort.export(
        net,
        tmp_path / "fit.sise",
        normalize="tf",
        input_size=case.size,
        task=case.task,
        fit=fit,
        labels=labels,
    )
    return sise_ort.load(tmp_path / "fit.sise", provider="cpu")


def rectangle(rows: slice, columns: slice) -> Array:
    found = np.zeros(SMALL, bool)
    found[rows, columns] = True
    return found


@pytest.mark.parametrize(
    ("fit", "size", "box", "place"),
    [  # the frame's size, a box in it as x0, y0, x1, y1, and rows and columns of the network's 32 × 48
        ("letterbox", (64, 48), (10, 20, 30, 60), rectangle(slice(10, 30), slice(12 + 5, 12 + 15))),
        ("letterbox", (32, 96), (20, 8, 60, 32), rectangle(slice(8 + 4, 8 + 16), slice(10, 30))),
        ("crop", (64, 64), (16, 32, 48, 48), rectangle(slice(24 - 8, 36 - 8), slice(12, 36))),
        ("crop", (64, 64), (0, 0, 64, 64), rectangle(slice(0, 32), slice(0, 48))),
        ("stretch", (64, 48), (10, 20, 30, 60), rectangle(slice(10, 30), slice(10, 30))),
    ],
)  # fmt: skip
def test_the_place_of_a_region(
    loaded: Any, tmp_path: Path, fit: str, size: tuple[int, int], box: Any, place: Array
) -> None:
    explainer = refitted(loaded, tmp_path, "segmentation, softmax", fit)
    mask = np.zeros(size)
    mask[box[1] : box[3], box[0] : box[2]] = 7
    by_box, by_mask = asked(explainer, frame_of(size), [Region(1, box=box), Region(1, mask=mask)])
    weights = by_box.tensors["region"]
    assert weights.tolist() == by_mask.tensors["region"].tolist()
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(weights > weights.max() / 2, place)
    assert weights.max() == pytest.approx(1 / place.sum(), rel=0.02)
    result = explainer.explain(frame_of(size), Region(1, box=box))
    assert result.label == f"bee in the box {', '.join(map(str, box))}"
    assert result.facts["region_share"] == pytest.approx(place.mean(), rel=0.02)


def test_where_the_network_sees_a_class(loaded: Any) -> None:
    _, net, explainer = loaded("segmentation, softmax")
    frame = frame_of(SMALL)
    with torch.no_grad():
        best = nets.doubled(net)(network_input(frame))[0][0].argmax(0).numpy()
    counts = np.bincount(best.ravel(), minlength=4)
    there = int(counts.argmax())
    (top,) = asked(explainer, frame, None)
    assert top.index == there
    wrong = (top.tensors["region"] > 0) != (best == there)
    assert wrong.mean() < 1e-3  # places where two classes are equal but for rounding
    gone = [int(c) for c in np.flatnonzero(counts == 0)]
    for index in gone:
        with pytest.raises(NotSeenError, match=r"sees '.*' nowhere in this picture: give a region"):
            explainer.explain(frame, index)


def test_regions_that_are_empty(loaded: Any, tmp_path: Path) -> None:
    explainer = refitted(loaded, tmp_path, "segmentation, softmax", "crop")
    frame = frame_of((64, 64))
    for region in (
        Region(1, box=(0, 0, 64, 8)),  # cropped away
        Region(1, box=(100, 100, 120, 120)),
        Region(1, mask=np.zeros((64, 64))),
    ):
        with pytest.raises(
            NotSeenError, match="the region is empty, or lies where the network does not look"
        ):
            explainer.explain(frame, region)
        (error,) = explainer.explain_many([frame], region, errors="return")
        assert isinstance(error, NotSeenError)


def test_the_place_of_a_detection(loaded: Any, tmp_path: Path) -> None:
    """A letterbox: 128 × 96 lies in 64 × 96 halved, 24 pixels from the left."""
    explainer = refitted(loaded, tmp_path, "detection", "letterbox")
    frame = frame_of((128, 96))
    asking = Asking(explainer.model, prepare(explainer.manifest, frame, "rgb"))
    boxes = asking.outputs["boxes"].astype(np.float64)
    to_frame = (boxes - [24, 0, 24, 0]) * 2
    found = explainer.detections(frame)
    assert found and [one.index for one in found] == list(range(len(found)))
    assert [f.confidence for f in found] == sorted((f.confidence for f in found), reverse=True)
    for one in found:
        assert np.abs(to_frame - one.box).max(1).min() < 1e-3
        (numbered, boxed) = asked(explainer, frame, [Detection(one.index), Detection(one.label, one.box)])
        assert numbered.index == boxed.index == one.target
        assert numbered.tensors["candidates"].tolist() == boxed.tensors["candidates"].tolist()
        overlaps = np.array([overlap(b, one.box) for b in to_frame])
        clear = np.abs(overlaps - 0.5) > 1e-4
        assert np.array_equal(numbered.tensors["candidates"][clear] > 0, overlaps[clear] >= 0.5)
        confidence = explainer.explain(frame, Detection(one.index)).confidence
        assert confidence >= one.confidence - 1e-5


def overlap(a: Any, b: Any) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    area = wide * high
    return float(area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area))


def test_likeness_to_itself(loaded: Any) -> None:
    _, _, explainer = loaded("embedding")
    frame = frame_of(SMALL)
    result = explainer.explain(frame, LikenessTo(frame))
    assert result.confidence == pytest.approx(1, abs=1e-6) and result.confidence <= 1
    assert any("no part of it speaks for more likeness" in note for note in result.notes)


# Errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("value", Value(2), r"has the shape \[2, 3\]: \[2\] is no place in it"),
        ("value", Value((0, 1, 2)), "is no place in it"),
        ("value", Value(slice(2, 2)), "takes no value"),
        ("value", Value("x"), "is no place in it"),
        ("value", Value(0, output="other"), "not 'other'"),
        ("value", Region(0), r"Region does not go with a bundle of the task value: ask for Value\(index\)"),
        ("value", "positive", "asks for classes, which the task value does not have"),
        ("embedding", None, r"its likeness to a reference picture, LikenessTo\(picture\)"),
        ("embedding", 3, r"its likeness to a reference picture, LikenessTo\(picture\)"),
        ("classes, softmax", Detection(0), "Detection does not go with a bundle of the task classes"),
        ("classes, softmax", RatherThan(1, 1), "both are 1"),
        ("classes, softmax", RatherThan("bee", "wasp"), "there is no label 'wasp'"),
        ("segmentation, softmax", Region(4), "target 4 is out of range: the network has classes 0 to 3"),
        ("segmentation, softmax", Region(1, mask=np.ones((3, 3))), "the mask of the region is 3 × 3, the frame 32 × 48"),
        ("segmentation, softmax", RatherThan(1, 2), "RatherThan does not go with a bundle of the task segmentation"),
        ("detection", Detection(10_000), r"there is no detection 10000: there are 0 to \d+"),
        ("detection", Detection("wasp", (0, 0, 9, 9)), "there is no label 'wasp'"),
        ("detection", Detection("ant", (-900, -900, -890, -899)), "no candidate of the network overlaps the box"),
    ],
)  # fmt: skip
def test_errors(loaded: Any, name: str, target: Any, words: str) -> None:
    case, _, explainer = loaded(name)
    with pytest.raises(TargetError, match=words) as caught:
        explainer.explain(frame_of(case.size), target)
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Region(1, box=(3, 3, 3, 9)), "x0 < x1 and y0 < y1"),
        (lambda: Region(1, box=(1, 2, 3)), "a box is x0, y0, x1, y1"),
        (lambda: Region(1, box="four"), "a box is four numbers"),
        (lambda: Region(1, box=(0, 0, float("nan"), 3)), "a box is x0, y0, x1, y1"),
        (lambda: Region(1, mask=np.ones((2, 2)), box=(0, 0, 1, 1)), "a mask or a box, not both"),
        (lambda: Region(1, mask=np.ones((2, 2, 3))), r"\[height, width\], of the frame's size; this one is \[2, 2, 3\]"),
        (lambda: Detection("ant", (1, 1, 0, 0)), "x0 < x1 and y0 < y1"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(TargetError, match=words):
        make()
