"""Quantised operators: what they compute, and their gradients, against the same layers in float64."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from exporting import exported, own_scores
from gradcheck import relative, run_onnxruntime, with_gradient
from pointing import boxed_pictures
from tiny import tiny_model

import sise_ort
from sise_ort.errors import SourceError
from sise_ort.exporter.sources.quantized import as_real_numbers
from sise_ort.exporter.sources.shapes import infer_shapes

STEP = {"xs": 2.0**-4, "ws": 2.0**-6, "ys": 2.0**-2, "one": 2.0**-7}
"""Scales are powers of two, so that all numbers below are exact in float32."""
COARSE = np.array(1.0, np.float32)
MICROSOFT = ', "com.microsoft" : 1'


def integers(*shape: int, low: int = -100, high: int = 100, kind: Any = np.int8, seed: int = 5) -> Any:
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


WEIGHTS = {
    "w": integers(6, 4, 3, 3), "wz": np.array(3, np.int8), "m": integers(5, 7), "columns": np.array([1, -2, 0, 4, 9, 0, 3], np.int8),
    "b": integers(6, low=-2000, high=2000, kind=np.int32), "c": integers(7, low=-2000, high=2000, kind=np.int32),
    "many": (2.0 ** integers(6, low=-8, high=-4)).astype(np.float32), "zeros": np.zeros(6, np.int8),
    "cs": (2.0 ** integers(7, low=-8, high=-4)).astype(np.float32), "bias": integers(7).astype(np.float32) / 16,
}  # fmt: skip


def real(name: str, scale: Any = STEP["ws"], zero: Any = 0.0, axis: int = 0) -> torch.Tensor:
    """Constant integers as the real numbers that they stand for."""
    array = WEIGHTS[name].astype(np.float64)
    shape = [-1 if i == axis % array.ndim else 1 for i in range(array.ndim)]
    scale, zero = (np.reshape(v, shape) if np.ndim(v) else v for v in (scale, zero))
    return torch.tensor((array - zero) * scale)


@dataclass
class Case:
    """`body` from x (or its quantised form q) to p, and what p stands for."""

    name: str
    body: str
    function: Callable[[torch.Tensor], torch.Tensor]
    shape: tuple[int, ...] = (4, 6, 7)
    domain: str = "com.microsoft."
    real: bool = False
    params: dict[str, Any] = field(default_factory=dict)


ENDS = "ys, yz)"
CASES = [
    Case("QLinearConv", f"p = QLinearConv<pads=[1,1,1,1], strides=[2,1]>(q, xs, xz, w, ws, wz, {ENDS}",
         lambda x: F.conv2d(x, real("w", zero=3), None, (2, 1), 1), domain="", params={"ys": COARSE}),
    Case("QLinearConv/channels", "p = QLinearConv(q, xs, xz, w, many, zeros, ys, yz, b)",
         lambda x: F.conv2d(x, real("w", WEIGHTS["many"]), real("b", STEP["xs"] * WEIGHTS["many"])), domain="", params={"ys": COARSE}),
    Case("QLinearConv/one zero point", f"p = QLinearConv(q, xs, xz, w, many, wz, {ENDS}",
         lambda x: F.conv2d(x, real("w", WEIGHTS["many"], 3)), domain="", params={"ys": COARSE, "wz": np.full(6, 3, np.int8)}),
    Case("QLinearMatMul", f"p = QLinearMatMul(q, xs, xz, m, ws, wz, {ENDS}", lambda x: x @ real("m", zero=3), (6, 5), domain=""),
    Case("QLinearMatMul/columns", f"p = QLinearMatMul(q, xs, xz, m, cs, columns, {ENDS}",
         lambda x: x @ real("m", WEIGHTS["cs"], WEIGHTS["columns"], -1), (6, 5), domain=""),
    Case("QGemm", f"p = QGemm(q, xs, xz, m, ws, wz, c, {ENDS}",
         lambda x: x @ real("m", zero=3) + real("c", STEP["xs"] * STEP["ws"]), (5,)),
    Case("QGemm/real", "y = QGemm<transB=1>(q, xs, xz, t, ws, wz, c)",
         lambda x: x @ real("m", zero=3) + real("c", STEP["xs"] * STEP["ws"]), (5,), real=True, params={"t": WEIGHTS["m"].T.copy()}),
    Case("QLinearAdd", f"r = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(q)\n p = QLinearAdd(q, xs, xz, r, xs, xz, {ENDS}",
         lambda x: x + F.max_pool2d(x, 3, 1, 1)),
    Case("QLinearMul", f"r = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(q)\n p = QLinearMul(q, xs, xz, r, xs, xz, {ENDS}",
         lambda x: x * F.max_pool2d(x, 3, 1, 1), params={"ys": np.array(2.0**-1, np.float32)}),
    Case("QLinearAveragePool", f"p = QLinearAveragePool<kernel_shape=[3,2], strides=[2,1]>(q, xs, xz, {ENDS}",
         lambda x: F.avg_pool2d(x, (3, 2), (2, 1))),
    Case("QLinearGlobalAveragePool", f"p = QLinearGlobalAveragePool(q, xs, xz, {ENDS}", lambda x: x.mean((2, 3), keepdim=True)),
    Case("QLinearConcat", "r = MaxPool<kernel_shape=[1,1]>(q)\n p = QLinearConcat<axis=1>(ys, yz, q, xs, xz, r, xs, xz)",
         lambda x: torch.cat([x, x], 1)),
    Case("QLinearLeakyRelu", f"p = QLinearLeakyRelu<alpha=0.25>(q, xs, xz, {ENDS}", lambda x: F.leaky_relu(x, 0.25)),
    Case("QLinearSigmoid", "p = QLinearSigmoid(q, xs, xz, one, zero)\n", torch.sigmoid, params={"ys": np.array(2.0**-7, np.float32), "yz": np.array(0, np.uint8)}),
    Case("QLinearSoftmax", "p = QLinearSoftmax<axis=1, opset=13>(q, xs, xz, one, zero)", lambda x: torch.softmax(x, 1),
         params={"ys": np.array(2.0**-7, np.float32), "yz": np.array(0, np.uint8)}),
    Case("MaxPool", f"r = MaxPool<kernel_shape=[2,2], strides=[2,2]>(q)\n p = QLinearLeakyRelu<alpha=1.0>(r, xs, xz, {ENDS}",
         lambda x: F.max_pool2d(x, 2)),
    Case("ConvInteger", "i = ConvInteger<pads=[1,1,1,1]>(q, w, xz, wz)\n f = Cast<to=1>(i)\n u = Mul(xs, ws)\n y = Mul(f, u)",
         lambda x: F.conv2d(x, real("w", zero=3), None, 1, 1), domain="", real=True),
    Case("MatMulInteger", "i = MatMulInteger(q, m, xz, columns)\n f = Cast<to=1>(i)\n u = Mul(xs, cs)\n y = Mul(f, u)",
         lambda x: x @ real("m", WEIGHTS["cs"], WEIGHTS["columns"], -1), (5,), domain="", real=True),
]  # fmt: skip
DYNAMIC = [
    Case("ConvInteger", "d, s, z = DynamicQuantizeLinear(x)\n i = ConvInteger<strides=[2,2]>(d, w, z, wz)\n f = Cast<to=1>(i)\n u = Mul(s, ws)\n y = Mul(f, u)",
         lambda x: F.conv2d(x, real("w", zero=3), None, 2), domain=""),
    Case("ConvInteger/pooled", "d, s, z = DynamicQuantizeLinear(x)\n r = MaxPool<kernel_shape=[2,2]>(d)\n i = ConvInteger(r, w, z)\n f = Cast<to=1>(i)\n u = Mul(s, ws)\n y = Mul(f, u)",
         lambda x: F.conv2d(F.max_pool2d(x, 2, 1), real("w")), domain=""),
    Case("MatMulInteger", "d, s, z = DynamicQuantizeLinear(x)\n i = MatMulInteger(d, m, z, columns)\n f = Cast<to=1>(i)\n u = Mul(s, cs)\n y = Mul(f, u)",
         lambda x: x @ real("m", WEIGHTS["cs"], WEIGHTS["columns"], -1), (5,), domain=""),
    Case("DequantizeLinear", "d, s, z = DynamicQuantizeLinear(x)\n r = DequantizeLinear(d, s, z)\n y = Tanh(r)", torch.tanh, domain=""),
    Case("DynamicQuantizeMatMul", "y = com.microsoft.DynamicQuantizeMatMul(x, m, cs, columns, bias)",
         lambda x: x @ real("m", WEIGHTS["cs"], WEIGHTS["columns"], -1) + torch.tensor(WEIGHTS["bias"]).double(), (5,)),
    Case("MatMulIntegerToFloat", "d, s, z = DynamicQuantizeLinear(x)\n y = com.microsoft.MatMulIntegerToFloat(d, m, s, cs, z, columns, bias)",
         lambda x: x @ real("m", WEIGHTS["cs"], WEIGHTS["columns"], -1) + torch.tensor(WEIGHTS["bias"]).double(), (5,)),
]  # fmt: skip


def written(case: Case) -> ir.Model:
    params = {
        **WEIGHTS, **{name: np.array(step, np.float32) for name, step in STEP.items()},
        "xz": np.array(120, np.uint8), "yz": np.array(100, np.uint8), "zero": np.array(0, np.uint8), **case.params,
    }  # fmt: skip
    body = case.body
    if case.domain:
        for operator in ("QLinear", "QGemm"):
            body = body.replace(f"= {operator}", f"= {case.domain}{operator}")
    if case not in DYNAMIC:
        body = "q = QuantizeLinear(x, xs, xz)\n " + body
        body += "" if case.real else "\n y = DequantizeLinear(p, ys, yz)"
    used = {name: array for name, array in params.items() if any(name == word for word in _words(body))}
    dims = ",".join(map(str, case.shape))
    text = (
        f'<ir_version: 8, opset_import: ["" : 20{MICROSOFT}]> g (float[n,{dims}] x) => (float y) {{ {body} }}'
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in used.items())
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return ir.from_proto(proto)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text).split()


def rewritten(case: Case) -> onnx.ModelProto:
    model = written(case)
    assert as_real_numbers(model.graph) is True
    infer_shapes(model, 20)
    left = [
        n.op_type
        for n in model.graph
        if n.domain
        or n.op_type.endswith("Integer")
        or (n.op_type.startswith("Q") and n.op_type != "QuantizeLinear")
    ]
    assert left == []
    return with_gradient(model)


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_fixed_scales(case: Case) -> None:
    """x lies on its quantiser's grid, so the only rounding is that of the output."""
    rng = np.random.default_rng(1)
    x = ((rng.integers(60, 180, (2, *case.shape)) - 120) * STEP["xs"]).astype(np.float32)
    proto = rewritten(case)
    z = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    truth = case.function(z)
    seed = rng.normal(size=truth.shape).astype(np.float32)
    y, gradient = run_onnxruntime(proto, {"x": x, "seed": seed})
    step = 0.0 if case.real else float(case.params.get("ys", STEP["ys"]))
    assert np.abs(y - truth.detach().numpy()).max() <= step / 2 + 1e-4
    own = run_onnxruntime(ir.to_proto(written(case)), {"x": x})[0]
    assert np.abs(y - own).max() <= 1.001 * step + 1e-4
    (expected,) = torch.autograd.grad(truth, z, torch.tensor(seed).double())
    assert relative(gradient, expected.numpy()) < 1e-5


@pytest.mark.parametrize("case", DYNAMIC, ids=names(DYNAMIC))
def test_scales_while_running(case: Case) -> None:
    """The dequantised network itself; the file's own values differ by what it rounds, half a step of x times the weights."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, *case.shape)).astype(np.float32)
    proto = rewritten(case)
    z = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    truth = case.function(z)
    seed = rng.normal(size=truth.shape).astype(np.float32)
    y, gradient = run_onnxruntime(proto, {"x": x, "seed": seed})
    np.testing.assert_allclose(y, truth.detach().numpy(), rtol=1e-4, atol=1e-4)
    (expected,) = torch.autograd.grad(truth, z, torch.tensor(seed).double())
    assert relative(gradient, expected.numpy()) < 1e-5
    own = run_onnxruntime(ir.to_proto(written(case)), {"x": x})[0]
    assert 0 < relative(own, truth.detach().numpy()) < 0.02
    alone = run_onnxruntime(proto, {"x": x[:1], "seed": seed[:1]})[0]
    np.testing.assert_allclose(alone, y[:1], rtol=1e-5, atol=1e-5)  # whatever else is in the batch


def test_saturated_values_pass_no_gradient() -> None:
    case = next(c for c in CASES if c.name == "QLinearLeakyRelu")
    x = np.linspace(-12, 12, 2 * 4 * 6 * 7, dtype=np.float32).reshape(2, 4, 6, 7)
    gradient = run_onnxruntime(rewritten(case), {"x": x, "seed": np.ones_like(x)})[1]
    inside = (x >= -120 * STEP["xs"]) & (x <= 135 * STEP["xs"])
    assert 0.2 < inside.mean() < 0.9
    np.testing.assert_array_equal(gradient, np.where(inside, np.where(x >= 0, 1, 0.25), 0))


def test_what_is_not_covered() -> None:
    case = Case(
        "channels_last",
        f"p = QLinearAveragePool<kernel_shape=[2,2], channels_last=1>(q, xs, xz, {ENDS}",
        torch.tanh,
    )
    with pytest.raises(SourceError, match=r"QLinearAveragePool .* channels_last is not covered"):
        as_real_numbers(written(case).graph)


def quantised_file(folder: Path, kind: str) -> onnx.ModelProto:
    """tiny_model with integers, by onnxruntime's own quantiser."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(np.random.default_rng(0).normal(0, 0.3, (4, 1, 3, 32, 48)).astype(np.float32))

        def get_next(self) -> Any:
            found = next(self.left, None)
            return None if found is None else {"picture": found}

    before, after = folder / "float.onnx", folder / "quantised.onnx"
    onnx.save(tiny_model(opset=13), before)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        if kind == "dynamic":
            quantize_dynamic(before, after, weight_type=QuantType.QUInt8)
        else:
            quantize_static(
                before, after, Reader(), quant_format=QuantFormat.QOperator, per_channel=kind == "per channel",
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=True,
            )  # fmt: skip
    finally:
        logging.getLogger().setLevel(level)
    return onnx.load(after)


@pytest.mark.parametrize("kind", ["static", "per channel", "dynamic"])
def test_files(tmp_path: Path, frame: Any, kind: str) -> None:
    """Scores as the file's, heat maps as those of the float network."""
    model = quantised_file(tmp_path, kind)
    operators = {node.op_type for node in model.graph.node}
    assert ("ConvInteger" if kind == "dynamic" else "QLinearConv") in operators
    before = exported(tiny_model(), tmp_path).explain(frame, target=1, mu=0.0)
    explainer = exported(model, tmp_path, force=True)
    after = explainer.explain(frame, target=1, mu=0.0)
    own = own_scores(model, frame)
    assert np.abs(after.scores - own).max() < 0.1 * np.abs(own).max()
    assert len(explainer.manifest.layers) == 3
    assert np.corrcoef(before.heatmap.ravel(), after.heatmap.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("integers", [False, True], ids=["between", "operator"])
def test_quantised_probabilities(tmp_path: Path, frame: Any, integers: bool) -> None:
    """A Softmax behind which the file quantises once more is still the file's own: no second one is put on top."""
    between = "s = Softmax<axis=1>(scores)\n q = QuantizeLinear(s, k, z)\n f2 = Flatten(q)\n y = DequantizeLinear(f2, k, z)"
    operator = (
        "i = QuantizeLinear(scores, big, middle)\n"
        "q = com.microsoft.QLinearSoftmax<axis=1, opset=13>(i, big, middle, k, z)\n y = DequantizeLinear(q, k, z)"
    )
    model = tiny_model(opset=13, tail="y = Relu(scores)")
    del model.graph.node[-1]
    tail = onnx.parser.parse_graph(
        f"g (float[n,4] scores) => (float[n,4] y) {{ {operator if integers else between} }}"
    )
    model.graph.node.extend(tail.node)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    for name, array in {
        "k": np.array(2.0**-8, np.float32), "z": np.array(0, np.uint8), "big": np.array(0.25, np.float32),
        "middle": np.array(128, np.uint8),
    }.items():  # fmt: skip
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    explainer = exported(model, tmp_path)
    assert explainer.manifest.head.kind == "softmax" and not explainer.manifest.head.assumed
    result = explainer.explain(frame)
    confidence = np.exp(result.scores) / np.exp(result.scores).sum()
    np.testing.assert_allclose(confidence, own_scores(model, frame), atol=0.02)


def test_bytes_into_an_integer_convolution(tmp_path: Path, frame: Any) -> None:
    """A file that takes the bytes of a picture for the integers of its first convolution."""
    model = quantised_file(tmp_path, "static")
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.graph.node.remove(first)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = "picture" if name == first.output[0] else name
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    explainer = exported(model, tmp_path, normalize=None)
    own = run_onnxruntime(model, {"picture": frame.transpose(2, 0, 1)[None]})[0][0]
    result = explainer.explain(frame)
    assert np.abs(result.scores - own).max() < 0.1 * np.abs(own).max() and result.heatmap.max() == 1


@pytest.mark.parametrize("kind", ["qoperator", "dynamic"])
def test_real_files(shared_data: Path, tmp_path: Path, kind: str) -> None:
    """SqueezeNet 1.1 with integers against the same network in float: classes, blocks and heat maps."""
    options = {"normalize": "imagenet"}
    sise_ort.export(shared_data / "models" / "squeezenet1.1_fp32.onnx", tmp_path / "a.sise", **options)
    sise_ort.export(shared_data / "wild" / f"own_sq_{kind}.onnx", tmp_path / "b.sise", **options)
    a, b = (sise_ort.load(tmp_path / f"{name}.sise", provider="cpu") for name in "ab")
    sizes = [[(layer.channels, layer.height) for layer in e.manifest.layers] for e in (a, b)]
    assert sizes[0] == sizes[1]
    found = []
    for path, label, _ in boxed_pictures(shared_data)[:3]:
        maps = [e.explain(path, target=label, mu=0.5).heatmap for e in (a, b)]
        found.append(np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1])
    assert np.mean(found) > 0.9
