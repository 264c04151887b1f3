"""torchvision's detectors, cut before non-maximum suppression, against torchvision's own post-processing of the same heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from sise_ort.exporter.detectors import FoundDetector, detector
from sise_ort.exporter.sources.cleaning import clean
from sise_ort.exporter.sources.torch_model import from_module, torchvision_package

Array = Any
LEAST = 0.05
FAST = ("ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn")
MODELS = {
    "ssdlite320_mobilenet_v3_large": ("ssd", (96, 160), False),
    "ssd300_vgg16": ("ssd", (300, 300), False),
    "retinanet_resnet50_fpn": ("retinanet", (96, 160), True),
    "fcos_resnet50_fpn": ("fcos", (96, 160), True),
}
"""The layout, the size of pictures, and whether boxes and scores come as a list per level where they are processed."""


class BeforeSuppression(torch.nn.Module):
    """The form that docs/detectors.md tells users to export."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.backbone, self.head = net.backbone, net.head

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.head(list(self.backbone(x).values()))
        return tuple(found[k] for k in ("cls_logits", "bbox_regression", "bbox_ctrness") if k in found)


def build(name: str) -> Any:
    """A detector with random weights whose heads are not as quiet as new ones are."""
    torchvision_package()
    import torchvision.models.detection as detection

    torch.manual_seed(3)
    net = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=7).eval()
    for key, parameter in net.head.named_parameters():
        if key.endswith("bias"):
            parameter.data.normal_(0, 0.3)
        elif "cls_logits" in key or "bbox" in key or "module_list" in key:
            parameter.data.normal_(0, 1.5 / np.sqrt(parameter[0].numel()))
    return net


def rewritten(net: Any, size: tuple[int, int]) -> tuple[FoundDetector, ir.Model]:
    model = clean(from_module(BeforeSuppression(net), "net", size).model, every_output=True).model
    return detector(model), model


def run(model: ir.Model, x: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})


def processed(net: Any, x: Array, per_level: bool, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Array]]:
    """Everything that torchvision's post-processing gives to its suppression, which a CPU-only torch may lack: boxes cut at the
    picture's borders, confidences and labels."""
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import boxes as box_ops

    monkeypatch.setattr(box_ops, "batched_nms", lambda boxes, *_: torch.arange(len(boxes)))
    net.score_thresh, net.topk_candidates, net.detections_per_img = LEAST, 10**6, 10**6
    with torch.no_grad():
        pictures = torch.tensor(x)
        features = list(net.backbone(pictures).values())
        heads = net.head(features)
        sizes = [tuple(pictures.shape[-2:])] * len(x)
        anchors = net.anchor_generator(ImageList(pictures, sizes), features)
        if per_level:
            places = [f.shape[2] * f.shape[3] for f in features]
            each = heads["cls_logits"].shape[1] // sum(places)
            counts = [p * each for p in places]
            heads = {key: list(value.split(counts, dim=1)) for key, value in heads.items()}
            anchors = [list(a.split(counts)) for a in anchors]
        found = net.postprocess_detections(heads, anchors, sizes)
    return [{key: value.numpy() for key, value in one.items()} for one in found]


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_torchvision(name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, size, per_level = MODELS[name]
    net = build(name)
    found, model = rewritten(net, size)
    assert found.layout.name == layout and found.classes == 7
    assert found.layout.background == (0 if layout == "ssd" else None)
    x = rng.normal(0, 1, (2, 3, *size)).astype(np.float32)
    scores, boxes = run(model, x)

    with torch.no_grad():  # every candidate, before anything is chosen
        features = list(net.backbone(torch.tensor(x)).values())
        heads = {key: value.numpy() for key, value in net.head(features).items()}
    theirs = heads["cls_logits"]
    if found.has_objectness:
        theirs = np.concatenate([theirs, heads["bbox_ctrness"]], axis=2)
    np.testing.assert_allclose(scores, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())

    for i, candidates in enumerate(processed(net, x, per_level, monkeypatch)):
        matched(candidates, *decided(found, scores[i].astype(np.float64), boxes[i], size), rng)


def decided(
    found: FoundDetector, z: Array, boxes: Array, size: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Boxes, confidences and labels from scores and boxes as the exporter rewrites them."""
    if found.kind == "softmax":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        confidences = e / e.sum(axis=1, keepdims=True)
        confidences[:, found.layout.background] = 0
    else:
        confidences = 1 / (1 + np.exp(-z))
        if found.has_objectness:
            confidences = np.sqrt(confidences[:, :-1] * confidences[:, -1:])  # as torchvision ranks FCOS
    boxes = np.clip(boxes, 0, np.array([size[1], size[0], size[1], size[0]]))
    row, label = np.nonzero(confidences > LEAST)
    return boxes[row], confidences[row, label], label


def matched(
    theirs: dict[str, Array], boxes: Array, sure: Array, labels: Array, rng: np.random.Generator
) -> None:
    """Both hold the same candidates: as many, and any that is drawn is among the others."""
    count = len(theirs["scores"])
    assert count > 500 and abs(len(sure) - count) <= 0.005 * count  # rounding may decide at the threshold
    assert np.ptp(theirs["boxes"], axis=0).min() > 20
    for k in rng.choice(count, 400, replace=False):
        near = (labels == theirs["labels"][k]) & (np.abs(sure - theirs["scores"][k]) < 1e-4)
        assert np.abs(boxes[near] - theirs["boxes"][k]).max(axis=1).min() < 5e-3
