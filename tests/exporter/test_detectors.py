"""Detection heads: scores before their activation and boxes in pixels, as decoders written from the definitions give them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import cv2
import detector_heads as heads
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from sise_ort.errors import SourceError
from sise_ort.exporter.blocks import choose_blocks, require_rules
from sise_ort.exporter.detectors import LAYOUTS, FoundDetector, detector
from sise_ort.exporter.detectors.table import Table
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources.cleaning import clean
from sise_ort.exporter.sources.torch_model import from_module
from sise_ort.formulas.boxes import iou, suppress

Array = Any
CASES: dict[str, tuple[type[heads.Levels], dict[str, Any], dict[str, Any]]] = {
    "yolox": (heads.YoloX, {}, {"name": "yolox", "strides": (8, 16, 32)}),
    "yolox decoded": (heads.YoloXDecoded, {}, {"name": "yolov5"}),
    "yolov5": (heads.YoloV5, {}, {"name": "yolov5"}),
    "yolov5, one Sigmoid": (heads.YoloV5, {"split": False}, {"name": "yolov5"}),
    "yolov8": (heads.YoloV8, {}, {"name": "yolov8"}),
    "yolov8 with masks": (heads.YoloV8, {"masks": True}, {"name": "yolov8"}),
    "yolov6": (heads.YoloV8, {"ones": True}, {"name": "yolov8"}),
    "yunet 2021": (heads.YuNet2021, {}, {"name": "yunet", "background": 0, "strides": (8, 16, 32, 64)}),
    "yunet 2023": (heads.YuNet2023, {}, {"name": "yunet", "strides": (8, 16, 32)}),
    "ultraface": (heads.UltraFace, {}, {"name": "ultraface", "background": 0}),
    "ssd": (heads.Ssd, {}, {"name": "ssd", "background": 0}),
    "retinanet": (heads.RetinaNet, {}, {"name": "retinanet", "strides": (8, 16, 32, 48, 96)}),
    "ultraface, raw boxes": (heads.UltraFace, {"decode": False}, {"name": "ultraface", "background": 0}),
}  # fmt: skip


def exported(net: torch.nn.Module, names: tuple[str, ...] = ()) -> ir.Model:
    """A module as a cleaned network, its outputs named."""
    model = from_module(net, "net", heads.SIZE).model
    for value, name in zip(model.graph.outputs, names, strict=False):
        value.name = name
    return clean(model, every_output=True).model


def run(model: ir.Model, x: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    text = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def expected(net: Any, x: Array) -> tuple[Array, Array]:
    """Logits and corners by the head's own decoder, in float64."""
    with torch.no_grad():
        raw = net.double().raw(torch.tensor(x).double())
    rows = [net.decoded([[c[i].numpy() for c in level] for level in raw]) for i in range(len(x))]
    return np.array([[r[0] for r in one] for one in rows]), np.array([[r[1] for r in one] for one in rows])


@functools.cache
def source_of(name: str, gain: float) -> tuple[Any, ir.Model]:
    """A head and its cleaned network, traced once for all tests; both are copied before they are changed."""
    kind, options, _ = CASES[name]
    net: Any = kind(gain=gain, **options)
    return net, exported(net, getattr(net, "outputs", ()))


def rewritten(name: str, gain: float = 1.0) -> tuple[Any, FoundDetector, ir.Model]:
    net, cleaned = source_of(name, gain)
    model = cleaned.clone()
    return copy.deepcopy(net), detector(model), model


@pytest.mark.parametrize("name", CASES)
def test_layouts(name: str, rng: np.random.Generator) -> None:
    net, found, model = rewritten(name)
    x = rng.normal(0, 1, (2, 3, *heads.SIZE)).astype(np.float32)
    scores, boxes = run(model, x)
    theirs, corners = expected(net, x)
    assert scores.shape == theirs.shape and boxes.shape == corners.shape
    np.testing.assert_allclose(scores, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())
    np.testing.assert_allclose(boxes, corners, rtol=0, atol=2e-5 * np.abs(corners).max())
    assert np.ptp(corners[..., 0]) > 20 and np.ptp(theirs) > 0.5  # the comparison says something
    layout, facts = found.layout, CASES[name][2]
    assert {key: getattr(layout, key) for key in facts} == facts
    assert layout.activation == found.kind == ("softmax" if "background" in facts else "sigmoid")
    assert found.classes + found.has_objectness == theirs.shape[2] and found.candidates == theirs.shape[1]
    assert (
        found.has_objectness
        == layout.multiplied
        == (layout.name not in ("yolov8", "retinanet") and "background" not in facts)
    )
    assert [list(v.shape.dims[1:]) for v in model.graph.outputs] == [
        list(theirs.shape[1:]),
        [len(corners[0]), 4],
    ]
    assert not {node.op_type for node in model.graph if node.outputs[0].is_graph_output()} & {
        "Sigmoid",
        "Softmax",
    }


@pytest.mark.parametrize("name", ["yolox", "yolov5", "yolov8", "yunet 2021"])
def test_scores_of_saturated_probabilities(name: str, rng: np.random.Generator) -> None:
    """Where float32 gives a probability of exactly 1, logits still differ."""
    net, _, model = rewritten(name, gain=60.0)
    x = rng.normal(0, 1, (1, 3, *heads.SIZE)).astype(np.float32)
    scores, _ = run(model, x)
    with np.errstate(over="ignore", invalid="ignore"):  # boxes of such a head are nonsense
        theirs, _ = expected(net, x)
    assert (theirs > 20).sum() > 20
    np.testing.assert_allclose(scores, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


def logits_in_torch(net: Any, x: torch.Tensor, first: list[torch.Tensor]) -> torch.Tensor:
    """Logits [N, C] of one picture as elements of the convolutions' outputs: the decoder is given their numbers to find them."""
    raw = net.double().raw(x, first)
    flat = torch.cat([c[0].reshape(-1) for level in raw for c in level])
    numbers = iter(torch.arange(len(flat)).split([c[0].numel() for level in raw for c in level]))
    counted = [[next(numbers).reshape(c.shape[1:]).double().numpy() for c in level] for level in raw]
    with np.errstate(all="ignore"):  # boxes of such numbers are nonsense
        index = np.array([row[0] for row in net.decoded(counted)])
    return flat[torch.tensor(index).long()]


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str, rng: np.random.Generator) -> None:
    """Of weighted sums of all logits by the first feature maps, two questions of one picture at once, against torch in float64."""
    net, found, model = rewritten(name)
    graph = model.graph
    require_rules(graph, choose_blocks(graph, places=True))
    x = rng.normal(0, 1, (1, 3, *heads.SIZE)).astype(np.float32)
    weights = rng.normal(0, 1, (2, found.candidates, found.classes + found.has_objectness))
    op, scores = Ops(graph), graph.outputs[0]
    stem = next(node.outputs[0] for node in graph if node.op_type == "Relu")
    (gradient,) = differentiate(op, scores, op.constant(weights), [stem])
    gradient.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [gradient]
    graph.sort()
    (ours,) = run(model, x)

    first: list[torch.Tensor] = []
    logits = logits_in_torch(net, torch.tensor(x).double(), first)
    for k in range(2):
        (theirs,) = torch.autograd.grad(
            (logits * torch.tensor(weights[k])).sum(), first[0], retain_graph=True
        )
        np.testing.assert_allclose(ours[k], theirs[0], rtol=0, atol=1e-5 * float(theirs.abs().max()))
    assert np.abs(ours[0] - ours[1]).max() > 0.1 * np.abs(ours).max()


def test_scores_are_compared_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that were followed wrongly are found before a bundle is written."""
    model = source_of("yolov5", 1.0)[1].clone()
    take = Table.take
    monkeypatch.setattr(
        Table, "take", lambda table, op, start, stop: op.Mul(take(table, op, start, stop), 1.1)
    )
    with pytest.raises(SourceError, match=r"before their sigmoid do not give what the file gives: .* apart"):
        detector(model)


def test_logarithms_of_a_softmax() -> None:
    model = source_of("ultraface", 1.0)[1].clone()
    (node,) = [n for n in model.graph if n.op_type == "Softmax" and n.outputs[0].is_graph_output()]
    node.op_type = "LogSoftmax"
    assert detector(model).layout.activation == "softmax"


def test_names_that_are_asked_for() -> None:
    model = source_of("yolov8", 1.0)[1].clone()
    with pytest.raises(SourceError, match=r"no detector layout 'yolov11'; known are yolox, yolov5, yolov8"):
        detector(model, "yolov11")
    with pytest.raises(
        SourceError, match=r"not laid out as yolox, which has one output .*The file has '.*' \[n,7,126\]"
    ):
        detector(model, "yolox")
    assert [list(v.shape.dims[1:]) for v in model.graph.outputs] == [[7, 126]]  # a refusal changes nothing
    assert detector(model, "yolov8").layout.name == "yolov8"
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_a_classifier_is_no_detector(make_tiny: Any) -> None:
    model = clean(make_tiny(), every_output=True).model
    with pytest.raises(
        SourceError,
        match=r"no detector that is known .* The file has 'scores' \[n,4\] \(4 columns from Gemm\)",
    ):
        detector(model)


# Files that end with suppression --------------------------------------------------------------------


def by_product(op: Ops, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """YOLOv5 with corners x0, y0, x1, y1 and class probabilities times objectness."""
    xy, half = op.Slice(y, [0], [2], [2]), op.Mul(op.Slice(y, [2], [4], [2]), 0.5)
    product = op.Mul(op.Slice(y, [5], [8], [2]), op.Slice(y, [4], [5], [2]))
    return op.Concat(op.Sub(xy, half), op.Add(xy, half), axis=2), op.Transpose(product, perm=[0, 2, 1])


def by_centres(op: Ops, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """YOLOv8 with center_point_box=1."""
    return op.Transpose(op.Slice(y, [0], [4], [1]), perm=[0, 2, 1]), op.Slice(y, [4], [7], [1])


def by_faces(op: Ops, scores: ir.Value, boxes: ir.Value) -> tuple[ir.Value, ir.Value]:
    """UltraFace with y first, as ONNX defines it, and without the background."""
    turned = op.Gather(boxes, [1, 0, 3, 2], axis=2)
    return turned, op.Transpose(op.Slice(scores, [1], [2], [2]), perm=[0, 2, 1])


SUPPRESSED: dict[str, tuple[type[heads.Levels], Any, int, dict[str, Any]]] = {
    "product, corners": (heads.YoloV5, by_product, 0, {"activation": "sigmoid", "background": None}),
    "sigmoid, centres": (heads.YoloV8, by_centres, 1, {"activation": "sigmoid", "background": None}),
    "softmax, y first": (heads.UltraFace, by_faces, 0, {"activation": "softmax", "background": 0}),
}


@pytest.mark.parametrize("name", SUPPRESSED)
def test_suppression_is_taken_off(name: str, rng: np.random.Generator) -> None:
    kind, tail, centred, facts = SUPPRESSED[name]
    net: Any = kind()
    source = from_module(net, "net", heads.SIZE).model
    op = Ops(source.graph)
    boxes, scores = tail(op, *source.graph.outputs)
    chosen = op.NonMaxSuppression(
        boxes, scores, 10, op.constant(0.5), op.constant(0.2), center_point_box=centred
    )
    chosen.type, chosen.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([None, 3])
    source.graph.outputs[:] = [chosen]
    model = clean(source, every_output=True).model
    found = detector(model)
    assert found.layout.name == "suppressed"
    assert {key: getattr(found.layout, key) for key in facts} == facts
    assert ("y, x" in found.layout.decoder) == ("y first" in name) == ("shares" in found.layout.decoder)
    x = rng.normal(0, 1, (2, 3, *heads.SIZE)).astype(np.float32)
    ours = run(model, x)
    for mine, theirs in zip(ours, expected(net, x), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())
    assert not any(node.op_type == "NonMaxSuppression" for node in model.graph)


def test_suppression_of_candidates_that_depend_on_the_picture() -> None:
    """What a file drops before its suppression, as torchvision's own exports do, cannot be undone."""
    source = from_module(heads.YoloV8(), "net", heads.SIZE).model
    op = Ops(source.graph)
    boxes, scores = by_centres(op, source.graph.outputs[0])
    best = op.ReduceMax(scores, [1], keepdims=0)
    _, index = op.TopK(best, [20], axis=1, outputs=2)
    some = op.Gather(scores, op.Reshape(index, [-1]), axis=2)
    chosen = op.NonMaxSuppression(
        op.Gather(boxes, op.Reshape(index, [-1]), axis=1), some, 10, op.constant(0.5), op.constant(0.2)
    )
    chosen.type, chosen.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([None, 3])
    source.graph.outputs[:] = [chosen]
    with pytest.raises(SourceError, match=r"no detector that is known .* NonMaxSuppression is given"):
        detector(clean(source, every_output=True).model)


# Files as found -------------------------------------------------------------------------------------

WILD: dict[str, dict[str, Any]] = {
    "yolox_nano": {"layout": "yolox", "classes": 80, "mean": 0, "std": 1, "bgr": True},
    "yunet_120x160": {"layout": "yunet", "classes": 2, "mean": 0, "std": 1, "bgr": True},
    "ultraface_rfb320": {"layout": "ultraface", "classes": 2, "mean": 127, "std": 128, "bgr": False},
}
PEOPLE = {
    "000000192699": {
        "person": [(0, 201, 315, 451), (258, 42, 525, 457)],
        "face": [(65, 250, 135, 310), (395, 100, 465, 170)],
    }
}
"""Corners in pixels of the picture: of persons as COCO has them, of faces as one sees them."""


@pytest.mark.parametrize("name", WILD)
def test_wild_detectors(shared_data: Path, name: str) -> None:
    """Trained detectors find the two riders of a picture, or their faces, where they are."""
    path = shared_data / "wild" / f"{name}.onnx"
    picture = shared_data / "coco_val79" / "val2017" / "000000192699.jpg"
    if not path.is_file() or not picture.is_file():
        pytest.skip("shared/data/wild is not on this machine")
    facts = WILD[name]
    network = clean(onnx.load(path), every_output=True)
    found = detector(network.model)
    assert (found.layout.name, found.classes) == (facts["layout"], facts["classes"])
    x, scale = letterboxed(picture, network.height, network.width, facts)
    scores, boxes = run(network.model, np.repeat(x, 2, axis=0))
    np.testing.assert_array_equal(scores[0], scores[1])
    z = scores[0].astype(np.float64)
    if found.kind == "softmax":
        confidences = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        confidences = np.delete(confidences, found.layout.background, axis=1)
    else:
        confidences = 1 / (1 + np.exp(-z[:, :-1])) / (1 + np.exp(-z[:, -1:]))
    kept = suppress(boxes[0], confidences.max(axis=1), confidences.argmax(axis=1), least=0.6)
    truths = PEOPLE["000000192699"]["person" if found.classes == 80 else "face"]
    assert len(kept) == 2 and set(confidences[kept].argmax(axis=1)) == {0}
    for truth in truths:
        assert iou(boxes[0][kept] / scale, np.array(truth)).max() > (0.75 if found.classes == 80 else 0.5)


def letterboxed(picture: Path, height: int, width: int, facts: dict[str, Any]) -> tuple[Array, float]:
    """The network's input with the picture in its upper left corner, and the factor of its size."""
    frame = cv2.imread(str(picture))
    scale = min(height / frame.shape[0], width / frame.shape[1])
    small = cv2.resize(frame, (round(frame.shape[1] * scale), round(frame.shape[0] * scale)))
    whole = np.full((height, width, 3), 114, np.uint8)
    whole[: small.shape[0], : small.shape[1]] = small
    ordered = whole if facts["bgr"] else whole[..., ::-1]
    return ((ordered.astype(np.float32) - facts["mean"]) / facts["std"]).transpose(2, 0, 1)[None], scale
