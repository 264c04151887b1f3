"""Exports of small models, and the source's own scores to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
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
