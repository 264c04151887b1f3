"""Exports of small models, and the source's own scores to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime

import sise_ort

OPTIONS: dict[str, Any] = {"normalize": "tf"}


def own_scores(model: onnx.ModelProto, frame: Any, mean: Any = 127.5, std: Any = 127.5) -> Any:
    """The source's scores by onnxruntime, preprocessing in NumPy."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = ((frame.astype(np.float64) - mean) / std).transpose(2, 0, 1)[None]
    dtype = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
    return session.run(None, {session.get_inputs()[0].name: x.astype(dtype)})[0][0]


def exported(model: onnx.ModelProto, folder: Path, **options: Any) -> sise_ort.Explainer:
    onnx.save(model, folder / "m.onnx")
    sise_ort.export(folder / "m.onnx", folder / "m.sise", **{**OPTIONS, **options})
    return sise_ort.load(folder / "m.sise", provider="cpu")


def agrees(
    explainer: sise_ort.Explainer, model: onnx.ModelProto, frame: Any, tolerance: float = 1e-4
) -> None:
    """The explained scores are the file's own, for two classes at once, with a heat map for each."""
    results = explainer.explain(frame, target=[0, 1])
    theirs = own_scores(model, frame)
    for result in results:
        ours = result.scores
        if explainer.manifest.head.kind == "softmax" and not explainer.manifest.head.assumed:
            ours = np.exp(ours - ours.max()) / np.exp(ours - ours.max()).sum()
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.abs(theirs).max()))
        assert np.isfinite(result.heatmap).all()
    assert any(result.heatmap.any() for result in results)


def parsed(
    body: str, params: dict[str, Any], *, opset: int = 20, batch: Any = "n", extra: str = ""
) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : {opset}{extra}]> g (float[{batch},3,32,48] picture) => (float[{batch},4] scores) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, array in params.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def weights(*shape: int, seed: int = 3) -> Any:
    return (
        np.random.default_rng(seed)
        .normal(0, (2 / max(np.prod(shape[1:]), 1)) ** 0.5, shape)
        .astype(np.float32)
    )


STEM = "c = Conv<pads=[1,1,1,1], strides=[2,2]>(picture, w)\n r = Relu(c)\n d = Conv<pads=[1,1,1,1], strides=[2,2]>(r, v)\n s = Relu(d)\n"
HEAD = "g = GlobalAveragePool({0})\n f = Flatten(g)\n scores = Gemm(f, fc)"
WEIGHTS = {"w": weights(8, 3, 3, 3), "v": weights(16, 8, 3, 3), "fc": 4 * weights(16, 4)}
