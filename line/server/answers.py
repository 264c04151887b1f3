"""Explanations and predictions as JSON, PNG and npz."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.drawing import encode_png
from sise_ort.explanation import Explanation
from sise_ort.line.server.wishes import Wish
from sise_ort.outputs import to_json

DIGITS = 6
"""Decimals of a heat map's numbers in JSON; npz holds float16, V2's tensors all of float32."""


def to_bytes(content: Any) -> bytes:
    """JSON in UTF-8; numbers that are not finite become null."""
    return to_json(content).encode()


def numbers(heatmap: NDArray[np.float32]) -> list[Any]:
    """A heat map as nested lists."""
    return np.round(heatmap.astype(np.float64), DIGITS).tolist()  # type: ignore[no-any-return]


def sized(result: Explanation, size: str) -> NDArray[np.float32]:
    """The heat map at the size that is asked for."""
    return result.frame_heatmap if size == "frame" else result.heatmap


def png(result: Explanation, drawing: str) -> bytes:
    """The overlay, or the heat map in gray, at the picture's size."""
    if drawing == "overlay":
        return bytes(encode_png(result.overlay()))
    gray = np.rint(result.frame_heatmap * 255).astype(np.uint8)
    return bytes(encode_png(np.repeat(gray[:, :, None], 3, axis=2)))


def npz(result: Explanation, size: str) -> bytes:
    """The heat map in float16 with the record as JSON text, compressed; read it with `numpy.load`, no pickle is needed."""
    stream = BytesIO()
    record = np.frombuffer(to_bytes(result.record()), np.uint8)
    np.savez_compressed(stream, heatmap=sized(result, size).astype(np.float16), record=record)
    return stream.getvalue()


def explanation(result: Explanation, wish: Wish) -> dict[str, Any]:
    """An explanation as JSON holds it: the record, and the heat map in the form that is asked for."""
    found: dict[str, Any] = {**result.record(), "caption": result.caption}
    if wish.heatmap == "numbers":
        found["heatmap"] = numbers(sized(result, wish.size))
    elif wish.heatmap == "npz":
        found["heatmap"] = base64.b64encode(npz(result, wish.size)).decode()
    elif wish.heatmap == "png":
        found["heatmap"] = base64.b64encode(png(result, wish.drawing)).decode()
    return found


def prediction(manifest: Manifest, outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """The network's answer to one picture: all outputs, and the top class where there are class scores."""
    found: dict[str, Any] = {}
    if manifest.task.name == "classes":
        top = int(np.argmax(outputs["scores"]))
        label = manifest.labels[top] if manifest.labels else str(top)
        found = {"target": top, "label": label, "confidence": float(outputs["confidence"][top])}
        found["confidences"] = outputs["confidence"].tolist()
        return {**found, "scores": outputs["scores"].tolist()}
    return {name: array.tolist() for name, array in outputs.items()}
