"""The files that the code blocks of README and docs/ name: small networks, bundles and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from tiny import tiny_model

import sise_ort

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("sound", "scratch", "crack", "patch")


def segmentation() -> onnx.ModelProto:
    """The tiny network with a class score at every place, in place of their mean."""
    model = tiny_model(width=2)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[6])
    del model.graph.initializer[6:], model.graph.node[-3:], model.graph.output[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights[:, :, None, None].copy(), "w4"))
    model.graph.node.append(onnx.helper.make_node("Conv", ["r3", "w4"], ["map"]))
    shape = ["n", len(LABELS), 8, 12]
    model.graph.output.append(onnx.helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    return model


def write_inputs(work: Path) -> None:
    """A classifier, a segmentation network, their labels, and pictures."""
    (work / "photos" / "masks").mkdir(parents=True)
    onnx.save(tiny_model(width=6), work / "model.onnx")
    onnx.save(segmentation(), work / "segment.onnx")
    (work / "names.txt").write_text("\n".join(LABELS))
    rng = np.random.default_rng(3)
    for name in ("strip.png", "other.png", *(f"photos/{i}.png" for i in range(2))):
        cv2.imwrite(str(work / name), _smooth(rng, 64, 96))
    cv2.imwrite(str(work / "xray.tif"), 12 * _smooth(rng, 64, 96)[:, :, 0].astype(np.uint16))


def _smooth(rng: np.random.Generator, height: int, width: int) -> Any:
    noise = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 3)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


def readouts(work: Path) -> None:
    """Networks of every task, under the names of the real ones, and a street."""
    torch = pytest.importorskip("torch")
    import readout_networks as networks

    rng = np.random.default_rng(4)
    for name in ("street.jpg", "person.jpg", "person2.jpg"):
        cv2.imwrite(str(work / name), _smooth(rng, 448, 640))
    sise_ort.export("segment.onnx", "deeplab.sise", normalize="tf")
    covers_most = sise_ort.load("deeplab.sise").explain("street.jpg", method="gradcam").target
    labels = ["bus" if i == covers_most else f"other {i}" for i in range(len(LABELS))]
    sise_ort.export("segment.onnx", "deeplab.sise", normalize="tf", labels=labels, force=True)
    net: Any = networks.Yolo()
    for box, _, _ in net.heads:  # as large as the page's box, at the second level
        box.bias.data = torch.tensor([0.5, 0.5, 0.92, 0.78])
    sise_ort.export(
        net, "yolox.sise", input_size=(448, 640), mean=0, std=255, task="detection", labels=["person", "bus", "car"]
    )  # fmt: skip
    sise_ort.export(networks.Unit(16, 1), "facenet.sise", input_size=(32, 48), normalize="tf")
    sise_ort.export(networks.Tiny(5, 2), "age.sise", input_size=(32, 48), normalize="tf", task="value")


PREPARED: Mapping[str, Callable[[Path], object]] = {
    "docs/threads.md": lambda work: shutil.copytree("model.sise", "strips.sise"),
    "docs/bundle.md": lambda work: shutil.copytree("model.sise", "theirs.sise"),
    "docs/trust.md": lambda work: shutil.copy("other.png", "part.png"),
    "docs/tutorial.md": lambda work: shutil.copytree(ROOT / "cli" / "steel", work / "cli" / "steel"),
    "docs/readouts.md": readouts,
}
"""What a page needs besides: the page, and what writes it."""
