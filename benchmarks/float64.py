"""ONNX graphs in float64: onnx.reference, with torch's kernels where it is slow or wrong (only forward ones)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = NDArray[Any]


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _padded(x: torch.Tensor, pads: list[int], value: float = 0.0) -> torch.Tensor:
    """ONNX pads (all begins, then all ends) of the spatial axes."""
    half = len(pads) // 2
    flat = [p for i in reversed(range(half)) for p in (pads[i], pads[i + half])]
    return F.pad(x, flat, value=value) if any(pads) else x


def _window(x: Array, kernel: Any, strides: Any, dilations: Any, pads: Any, auto_pad: Any) -> Any:
    axes = x.ndim - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    pads = list(pads or [0] * (2 * axes))
    if auto_pad and auto_pad.startswith("SAME"):
        for i in range(axes):
            span, length = dilations[i] * (kernel[i] - 1) + 1, x.shape[2 + i]
            total = max((-(-length // strides[i]) - 1) * strides[i] + span - length, 0)
            pads[i] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            pads[i + axes] = total - pads[i]
    return strides, dilations, pads


class Conv(OpRun):
    op_domain = ""

    def _run(
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=None,
        kernel_shape=None,
        pads=None,
        strides=None,
    ):  # type: ignore[no-untyped-def]
        strides, dilations, pads = _window(x, w.shape[2:], strides, dilations, pads, auto_pad)
        function = F.conv2d if x.ndim == 4 else F.conv1d
        y = function(
            _padded(_tensor(x), pads),
            _tensor(w).double(),
            None if b is None else _tensor(b),
            strides,
            0,
            dilations,
            group or 1,
        )
        return (y.numpy(),)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None,
        output_padding=None, output_shape=None, pads=None, strides=None,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        strides, dilations, pads = _window(x, w.shape[2:], strides, dilations, pads, auto_pad)
        axes = x.ndim - 2
        assert pads[:axes] == pads[axes:] and not output_shape
        function = F.conv_transpose2d if axes == 2 else F.conv_transpose1d
        y = function(
            _tensor(x), _tensor(w).double(), None if b is None else _tensor(b),
            strides, pads[:axes], output_padding or 0, group or 1, dilations,
        )  # fmt: skip
        return (y.numpy(),)


class MaxPool(OpRun):
    op_domain = ""

    def _run(
        self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None,
        storage_order=None, strides=None,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        strides, dilations, pads = _window(x, kernel_shape, strides, dilations, pads, auto_pad)
        wide = _padded(_tensor(x), pads, -np.inf)
        y, places = F.max_pool2d(
            wide, kernel_shape, strides, 0, dilations, bool(ceil_mode), return_indices=True
        )
        n, c, h, w = x.shape
        rows, columns = places // wide.shape[3] - pads[0], places % wide.shape[3] - pads[1]
        planes = torch.arange(n * c).reshape(n, c, 1, 1) * (h * w)
        return y.numpy(), (planes + rows * w + columns).numpy()


class AveragePool(OpRun):
    op_domain = ""

    def _run(
        self, x, auto_pad=None, ceil_mode=None, count_include_pad=None, dilations=None, kernel_shape=None,
        pads=None, strides=None,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        strides, dilations, pads = _window(x, kernel_shape, strides, dilations, pads, auto_pad)
        assert all(d == 1 for d in dilations)
        inside = torch.ones(1, 1, *x.shape[2:], dtype=torch.float64)
        options = {"ceil_mode": bool(ceil_mode), "divisor_override": 1}
        total = F.avg_pool2d(_padded(_tensor(x), pads), kernel_shape, strides, **options)
        counted = _padded(inside, pads, 1.0 if count_include_pad else 0.0)
        return ((total / F.avg_pool2d(counted, kernel_shape, strides, **options)).numpy(),)


class ScatterElements(OpRun):
    op_domain = ""

    def _run(self, data, indices, updates, axis=None, reduction=None):  # type: ignore[no-untyped-def]
        assert reduction == "add"
        y = _tensor(data).clone()
        return (y.scatter_add_(axis or 0, _tensor(indices), _tensor(updates)).numpy(),)


class Erf(OpRun):
    op_domain = ""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (torch.erf(_tensor(x)).numpy(),)


class Gelu(OpRun):
    op_domain = ""

    def _run(self, x, approximate=None):  # type: ignore[no-untyped-def]
        return (F.gelu(_tensor(x), approximate=approximate or "none").numpy(),)


class HardSwish(OpRun):
    op_domain = ""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (F.hardswish(_tensor(x)).numpy(),)


class Resize(OpRun):
    op_domain = ""

    def _run(
        self,
        x,
        roi=None,
        scales=None,
        sizes=None,
        mode=None,
        coordinate_transformation_mode=None,
        axes=None,
        **_,
    ):  # type: ignore[no-untyped-def]
        size = [int(s) for s in sizes[-2:]] if sizes is not None and len(sizes) else None
        factor = None if size else [float(s) for s in scales[-2:]]
        if mode == "linear":
            corners = coordinate_transformation_mode == "align_corners"
            assert corners or coordinate_transformation_mode in ("half_pixel", "pytorch_half_pixel")
            y = F.interpolate(_tensor(x), size, factor, "bilinear", align_corners=corners)
        else:
            assert mode == "nearest" and coordinate_transformation_mode == "asymmetric"
            y = F.interpolate(_tensor(x), size, factor)
        return (y.numpy(),)


class Pad(OpRun):
    op_domain = ""

    def _run(self, x, pads, value=None, axes=None, mode=None):  # type: ignore[no-untyped-def]
        places = range(x.ndim) if axes is None else axes
        half = len(pads) // 2
        widths, cut = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
        for axis, before, after in zip(places, pads[:half], pads[half:], strict=True):
            cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
            widths[axis] = (max(before, 0), max(after, 0))
        options = {"constant_values": 0.0 if value is None else value} if mode in (None, "constant") else {}
        return (np.pad(x[tuple(cut)], widths, mode or "constant", **options),)


_OPERATORS = [Pad, Conv, ConvTranspose, MaxPool, AveragePool, ScatterElements, Erf, Gelu, HardSwish, Resize]


LARGE = 1 << 20
"""Convolution weights of this many elements stay float32, which float64 holds exactly, until a Conv reads them."""


def run_float64(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of an .onnx file, with every float32 constant, Cast and input taken as float64."""
    model = onnx.load(path)
    float32, float64 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        if tensor.data_type == float32 and not (len(tensor.dims) == 4 and np.prod(tensor.dims) >= LARGE):
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(
                    onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name
                )
            )
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == float32:
                attribute.i = float64
    feeds = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
    names = [output.name for output in model.graph.output]
    evaluator = ReferenceEvaluator(model, new_ops=_OPERATORS)
    del model.graph.initializer[:]  # the evaluator has its own copy
    return dict(zip(names, evaluator.run(None, feeds), strict=True))
