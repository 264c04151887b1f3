"""Gradients of small ONNX graphs, in float64 by onnx.reference and in float32 by onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources.shapes import infer_shapes

Array = NDArray[Any]


class ConvTranspose(OpRun):
    """ConvTranspose from its definition: every input cell adds its kernel to the output (onnx.reference 1.23
    fails on groups)."""

    def _run(
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=None,
        kernel_shape=None,  # type: ignore[no-untyped-def]
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
    ):
        assert not output_shape and auto_pad in (None, "NOTSET")
        group, strides, dilations = group or 1, strides or [1, 1], dilations or [1, 1]
        pads, extra = pads or [0] * 4, output_padding or [0, 0]
        n, _, h, width = x.shape
        per = w.shape[1]
        kernel = w.shape[2:]
        size = [
            (length - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 + extra[i]
            for i, length in enumerate((h, width))
        ]
        y = np.zeros((n, group * per, *size), x.dtype)
        channels = x.shape[1] // group
        for g in range(group):
            cells = x[:, g * channels : (g + 1) * channels]
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    part = np.einsum("nchw,cm->nmhw", cells, w[g * channels : (g + 1) * channels, :, i, j])
                    rows = slice(i * dilations[0], i * dilations[0] + (h - 1) * strides[0] + 1, strides[0])
                    columns = slice(
                        j * dilations[1], j * dilations[1] + (width - 1) * strides[1] + 1, strides[1]
                    )
                    y[:, g * per : (g + 1) * per, rows, columns] += part
        y = y[:, :, pads[0] : size[0] - pads[2], pads[1] : size[1] - pads[3]]
        return (y if b is None else y + b.reshape(1, -1, 1, 1),)


ConvTranspose.op_domain = ""


class MaxPool(OpRun):
    """MaxPool with Indices, from the definition (onnx.reference 1.23 counts them wrongly where windows are padded)."""

    def _run(
        self,
        x,
        auto_pad=None,
        ceil_mode=None,
        dilations=None,
        kernel_shape=None,
        pads=None,  # type: ignore[no-untyped-def]
        storage_order=None,
        strides=None,
    ):
        strides, dilations, pads = strides or [1, 1], dilations or [1, 1], pads or [0] * 4
        assert dilations == [1, 1] and not storage_order and auto_pad in (None, "NOTSET")
        size = []
        for i, length in enumerate(x.shape[2:]):
            room = length + pads[i] + pads[i + 2] - kernel_shape[i]
            count = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
            size.append(count - 1 if (count - 1) * strides[i] >= length + pads[i] else count)
        y, places = np.empty((*x.shape[:2], *size), x.dtype), np.empty((*x.shape[:2], *size), np.int64)
        for n, c, i, j in np.ndindex(y.shape):
            rows, columns = (
                range(max(start, 0), min(start + kernel_shape[a], x.shape[2 + a]))
                for a, start in enumerate((i * strides[0] - pads[0], j * strides[1] - pads[1]))
            )
            y[n, c, i, j], r, k = max((x[n, c, r, k], -r, -k) for r in rows for k in columns)
            places[n, c, i, j] = np.ravel_multi_index((n, c, -r, -k), x.shape)
        return y, places


MaxPool.op_domain = ""


class Erf(OpRun):
    """Erf in the input's precision (onnx.reference 1.23 rounds to float32)."""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


Erf.op_domain = ""


def graph_of(
    body: str,
    params: Mapping[str, Array],
    shape: Sequence[int | str],
    dtype: Any = np.float64,
    opset: int = 20,
    domains: str = "",
) -> ir.Model:
    """An IR model x -> y from ONNX text; `params` become initializers, float64 ones in `dtype`."""
    kind = "double" if dtype == np.float64 else "float"
    dims = ",".join(map(str, shape))
    text = f'<ir_version: 10, opset_import: ["" : {opset}{domains}]> g ({kind}[{dims}] x) => ({kind} y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, array in params.items():
        array = np.asarray(array)
        array = array.astype(dtype) if array.dtype == np.float64 else array
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if all(isinstance(d, int) for d in shape[1:]):
        infer_shapes(model, opset)
    else:  # the exporter always fixes height and width; rules do not rely on it
        passes.ShapeInferencePass()(model)
    return model


def with_gradient(model: ir.Model, roots: Sequence[str] = ("x",)) -> onnx.ModelProto:
    """The model with a further input `seed` and, per root, an output ``d_ROOT``."""
    graph = model.graph
    output = graph.outputs[0]
    dtype = graph.inputs[0].dtype
    assert dtype is not None and output.shape is not None
    seed = ir.Value(
        name="seed", type=ir.TensorType(dtype), shape=ir.Shape(["k", *list(output.shape.dims)[1:]])
    )
    values = {v.name: v for node in graph for v in node.outputs} | {v.name: v for v in graph.inputs}
    graph.inputs.append(seed)
    op = Ops(graph, dtype)
    for root, gradient in zip(
        roots, differentiate(op, output, seed, [values[r] for r in roots]), strict=True
    ):
        gradient = op.Identity(gradient)
        gradient.name = f"d_{root}"
        gradient.type, gradient.shape = (
            ir.TensorType(dtype),
            ir.Shape(["k", *list(values[root].shape.dims)[1:]]),
        )
        graph.outputs.append(gradient)
    graph.sort()
    passes.RemoveUnusedNodesPass()(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto


def run_reference(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    return list(ReferenceEvaluator(proto, new_ops=[ConvTranspose, MaxPool, Erf]).run(None, dict(feeds)))


def run_onnxruntime(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # 1.24's blocked layout (NCHWc) does not run a FusedConv that adds a tensor
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))


def relative(a: Array, b: Array) -> float:
    """Relative L2 error of a against b."""
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))
