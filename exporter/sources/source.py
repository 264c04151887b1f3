"""What every source of a model gives the exporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray


@dataclass(frozen=True)
class Source:
    """A model as it came.

    name : for the default bundle name. model : with its weights; an ir.Model has opset 20.
    reference : network inputs float32 [n, C, H, W] -> the source's own output [n, …], by its own framework.
    origin : facts for the manifest. defaults : export options that the source knows (mean, std, fit…).
    labels : class names, () if unknown. size : (height, width) where nobody asks for another.
    """

    name: str
    model: onnx.ModelProto | ir.Model
    reference: Callable[[NDArray[np.float32]], NDArray[Any]]
    origin: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
