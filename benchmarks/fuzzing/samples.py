"""Networks, bundles and pictures to start from, made once per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.parser

LABELS = ["ant", "bee", "cat", "1"]


def tiny(tail: str = "", seed: int = 0, size: tuple[int, int] = (32, 48)) -> onnx.ModelProto:
    """A network of three blocks with 4, 6 and 8 maps and four classes."""
    name = "y" if tail else "scores"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        tiny (float[n,3,{size[0]},{size[1]}] picture) => (float[n,4] {name}) {{
          c1 = Conv<pads=[1,1,1,1]>(picture, w1, b1)
          r1 = Relu(c1)
          p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
          c2 = Conv<pads=[1,1,1,1]>(p1, w2, b2)
          r2 = Relu(c2)
          p2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)
          c3 = Conv<pads=[1,1,1,1]>(p2, w3, b3)
          r3 = Relu(c3)
          g = GlobalAveragePool(r3)
          f = Flatten(g)
          scores = Gemm<transB=1>(f, fc, bias)
          {tail}
        }}"""
    )
    rng = np.random.default_rng(seed)
    shapes = {
        "w1": (4, 3, 3, 3), "b1": (4,), "w2": (6, 4, 3, 3), "b2": (6,), "w3": (8, 6, 3, 3), "b3": (8,), "fc": (4, 8),
        "bias": (4,),
    }  # fmt: skip
    for key, shape in shapes.items():
        fan = float(np.prod(shape[1:])) if len(shape) > 1 else 25.0
        values = rng.normal(0, (2 / fan) ** 0.5 * (4 if key == "fc" else 1), shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, key))
    return model


def make(folder: Path) -> None:
    """Write all samples: tiny.onnx, sigmoid.onnx, their bundles, and pictures in every format that OpenCV writes."""
    import sise_ort

    folder.mkdir(parents=True)
    for name, tail in (("tiny", ""), ("sigmoid", "y = Sigmoid(scores)")):
        onnx.save(tiny(tail), folder / f"{name}.onnx")
        sise_ort.export(
            folder / f"{name}.onnx", folder / f"{name}.sise", normalize="tf", labels=LABELS,
            graphs=("head", "image-gradient", "full-gradient"),
        )  # fmt: skip
    (folder / "pictures").mkdir()
    for ending in ("png", "jpg", "bmp", "tiff", "webp", "ppm"):
        cv2.imwrite(str(folder / "pictures" / f"strip.{ending}"), frame(np.random.default_rng(1)))
    cv2.imwrite(str(folder / "pictures" / "gray.png"), frame(np.random.default_rng(2))[..., 0])
    cv2.imwrite(
        str(folder / "pictures" / "deep.png"), frame(np.random.default_rng(3)).astype(np.uint16) * 257
    )
    dataset(folder / "dataset")


def frame(rng: np.random.Generator, height: int = 64, width: int = 96) -> Any:
    """uint8 [height, width, 3], smooth with some noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 128 + 90 * np.sin(rows / 7)[..., None] * np.cos(columns[..., None] / np.array([8, 13, 17]))
    return np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def dataset(folder: Path) -> None:
    """A data set of the kind `folder`: a folder of pictures per class."""
    for index, name in enumerate(LABELS[:2]):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(
                str(folder / name / f"{number}.png"),
                frame(np.random.default_rng(10 * index + number), 32, 48),
            )
