"""What every source of a model gives the exporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.exporter.sources.inputs import FileInput


@dataclass(frozen=True)
class Source:
    """A model as it came.

    Attributes
    ----------
    name : str
        For the default bundle name.
    model : onnx.ModelProto or ir.Model
        With its weights; an ir.Model has opset 20.
    reference : callable
        Network inputs float32 [n, C, H, W], and how a file takes them (`CleanNetwork.file_input`), to the source's own
        output [n, …], computed by its own framework.
    origin : mapping
        Facts for the manifest.
    defaults : mapping
        Export options that the source knows: mean, std, fit, resize.
    labels : tuple of str
        Class names, () if unknown.
    size : (int, int), optional
        Height and width where nobody asks for others.
    words : str
        The source as errors name it: "'model.onnx'".
    """

    name: str
    model: onnx.ModelProto | ir.Model
    reference: Callable[[NDArray[np.float32], FileInput], NDArray[Any]]
    origin: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    words: str = "the model"
