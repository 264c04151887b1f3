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

Reference = Callable[[NDArray[np.float32], FileInput], NDArray[Any]]
"""Network inputs [n, C, H, W], and how the file takes them, to the values of a tensor [n, …] by the source's framework."""


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
    reference_at : callable, optional
        The name of a tensor in the source to what computes it as `reference` computes the output.
    notes : tuple of str
        What a user should know of it, reported while it is exported.
    """

    name: str
    model: onnx.ModelProto | ir.Model
    reference: Reference
    origin: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    words: str = "the model"
    reference_at: Callable[[str], Reference] | None = None
    notes: tuple[str, ...] = ()
