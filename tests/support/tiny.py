"""A small network that most tests use."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser


def tiny_model(
    *,
    classes: int = 4,
    channels: int = 3,
    size: tuple[Any, Any] = (32, 48),
    batch: Any = "n",
    tail: str = "",
    opset: int = 20,
    seed: int = 0,
    width: int = 1,
) -> onnx.ModelProto:
    """A CNN of three blocks: Conv, Relu, MaxPool twice, Conv, Relu, mean, Gemm, `tail` (scores -> y); they have 8, 12 and
    16 times `width` maps."""
    h, w = size
    n1, n2, n3 = 8 * width, 12 * width, 16 * width
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    tiny (float[{batch},{channels},{h},{w}] picture) => (float[{batch},{classes}] {"y" if tail else "scores"})
    {{
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
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    shapes = {
        "w1": (n1, channels, 3, 3), "b1": (n1,), "w2": (n2, n1, 3, 3), "b2": (n2,), "w3": (n3, n2, 3, 3), "b3": (n3,),
        "fc": (classes, n3), "bias": (classes,),
    }  # fmt: skip
    for name, shape in shapes.items():
        fan = float(np.prod(shape[1:])) if len(shape) > 1 else 25.0
        data = rng.normal(0, (2 / fan) ** 0.5 * (4 if name == "fc" else 1), shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    return model
