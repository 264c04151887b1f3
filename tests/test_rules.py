"""Every gradient rule against torch autograd: in float64 by onnx.reference, in float32 by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradcheck import (
    ConvTranspose,
    MaxPool,
    graph_of,
    relative,
    run_onnxruntime,
    run_reference,
    with_gradient,
)
from torch import Tensor

from sise_ort.errors import GradientError
from sise_ort.exporter.gradients import RULES, register
from sise_ort.exporter.gradients.engine import Rule

rng = np.random.default_rng(3)


def weights(*shape: int) -> Any:
    return rng.normal(0, 1, shape)


@dataclass
class Case:
    """x -> y as ONNX text and as a torch function of (x, params)."""

    name: str
    body: str
    torch: Callable[..., Tensor]
    shape: tuple[int, ...] = (4, 6, 5)
    params: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    dynamic: bool = True  # also with dynamic height and width
    forward: float = 1e-9  # onnx.reference's own forward error


def conv(name: str, shape: tuple[int, ...], w: tuple[int, ...], text: str = "", **options: Any) -> Case:
    pads = options.pop("pads", None)

    def function(x: Tensor, w: Tensor) -> Tensor:
        if pads is not None:  # top, left, bottom, right
            x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]))
        return F.conv2d(x, w, **options)

    return Case(name, f"y = Conv{f'<{text}>' if text else ''}(x, w)", function, shape, {"w": weights(*w)})


CASES = [
    Case("Add", "y = Add(x, b)", lambda x, b: x + b, params={"b": weights(4, 1, 1)}),
    Case("Add/twice", "y = Add(x, x)", lambda x: x + x),
    Case("Add/pooled", "p = GlobalAveragePool(x)\n y = Add(p, x)", lambda x: x.mean((2, 3), keepdim=True) + x),
    Case("Sub", "s = Sigmoid(x)\n y = Sub(s, x)", lambda x: torch.sigmoid(x) - x),
    Case("Sub/constant", "y = Sub(b, x)", lambda x, b: b - x, params={"b": weights(1, 4, 1, 1)}),
    Case("Mul", "s = Sigmoid(x)\n y = Mul(x, s)", lambda x: x * torch.sigmoid(x)),
    Case("Mul/squeeze-excite", "p = GlobalAveragePool(x)\n s = HardSigmoid<alpha=0.25>(p)\n y = Mul(s, x)",
         lambda x: torch.clamp(0.25 * x.mean((2, 3), keepdim=True) + 0.5, 0, 1) * x),
    Case("Div", "s = Sigmoid(x)\n y = Div(x, s)", lambda x: x / torch.sigmoid(x)),
    Case("Div/constant", "y = Div(x, b)", lambda x, b: x / b, params={"b": 1 + weights(4, 1, 1) ** 2}),
    Case("Sum", "s = Sigmoid(x)\n y = Sum(x, s, x)", lambda x: 2 * x + torch.sigmoid(x)),
    Case("Neg", "y = Neg(x)", lambda x: -x),
    Case("Identity", "y = Identity(x)", lambda x: x.clone()),
    Case("Dropout", "y, m = Dropout(x)", lambda x: x.clone()),
    Case("Relu", "y = Relu(x)", F.relu),
    Case("Clip", "y = Clip(x, lo, hi)", lambda x, lo, hi: torch.clamp(x, -0.3, 0.9),
         params={"lo": np.array(-0.3), "hi": np.array(0.9)}),
    Case("Clip/below", "y = Clip(x, lo)", lambda x, lo: torch.clamp(x, min=-0.3), params={"lo": np.array(-0.3)}),
    Case("Clip/above", "y = Clip(x, , hi)", lambda x, hi: torch.clamp(x, max=0.3), params={"hi": np.array(0.3)}),
    Case("Sigmoid", "y = Sigmoid(x)", torch.sigmoid),
    Case("HardSigmoid", "y = HardSigmoid<alpha=0.25, beta=0.375>(x)", lambda x: torch.clamp(0.25 * x + 0.375, 0, 1), scale=2.0),
    Case("HardSwish", "y = HardSwish(x)", F.hardswish, scale=3.0, forward=1e-7),
    Case("Softmax", "y = Softmax<axis=1>(x)", lambda x: torch.softmax(x, 1)),
    Case("Softmax/last", "y = Softmax(x)", lambda x: torch.softmax(x, -1)),
    conv("Conv/1x1", (4, 5, 6), (3, 4, 1, 1)),
    conv("Conv/3x3 padded", (4, 5, 6), (3, 4, 3, 3), "pads=[1,1,1,1]", padding=1),
    conv("Conv/unpadded", (4, 7, 6), (3, 4, 3, 2)),
    conv("Conv/strided", (4, 8, 7), (3, 4, 3, 3), "pads=[1,1,1,1], strides=[2,2]", padding=1, stride=2),
    conv("Conv/strided 1x1", (4, 8, 7), (3, 4, 1, 1), "strides=[2,3]", stride=(2, 3)),
    conv("Conv/7x7 stride 4", (2, 19, 17), (3, 2, 7, 7), "pads=[3,3,3,3], strides=[4,4]", padding=3, stride=4),
    conv("Conv/dilated", (4, 9, 8), (3, 4, 3, 3), "pads=[2,2,2,2], dilations=[2,2]", padding=2, dilation=2),
    conv("Conv/dilated strided", (4, 9, 8), (3, 4, 3, 2), "dilations=[2,3], strides=[2,1]", dilation=(2, 3), stride=(2, 1)),
    conv("Conv/depthwise", (4, 6, 5), (4, 1, 3, 3), "group=4, pads=[1,1,1,1]", padding=1, groups=4),
    conv("Conv/depthwise strided", (4, 6, 5), (4, 1, 3, 3), "group=4, pads=[1,1,1,1], strides=[2,2]", padding=1, groups=4, stride=2),
    conv("Conv/depth multiplier", (4, 6, 5), (8, 1, 3, 3), "group=4, pads=[1,1,1,1]", padding=1, groups=4),
    conv("Conv/grouped", (6, 6, 5), (4, 3, 3, 3), "group=2, pads=[1,1,1,1]", padding=1, groups=2),
    conv("Conv/grouped strided", (6, 7, 6), (4, 3, 3, 3), "group=2, strides=[2,2]", groups=2, stride=2),
    conv("Conv/asymmetric", (2, 7, 6), (3, 2, 3, 3), "pads=[0,1,2,0]", pads=(0, 1, 2, 0)),
    conv("Conv/asymmetric strided", (2, 8, 8), (3, 2, 3, 3), "pads=[0,0,1,1], strides=[2,2]", pads=(0, 0, 1, 1), stride=2),
    conv("Conv/wide padding", (2, 4, 4), (3, 2, 1, 1), "pads=[1,1,1,1]", padding=1),
    conv("Conv/SAME_UPPER", (2, 8, 7), (3, 2, 3, 3), 'auto_pad="SAME_UPPER", strides=[2,2]', pads=(0, 1, 1, 1), stride=2),
    conv("Conv/SAME_LOWER", (2, 8, 7), (3, 2, 3, 3), 'auto_pad="SAME_LOWER", strides=[2,2]', pads=(1, 1, 0, 1), stride=2),
    conv("Conv/VALID", (2, 8, 7), (3, 2, 3, 3), 'auto_pad="VALID"'),
    Case("Conv/biased", "y = Conv(x, w, b)", lambda x, w, b: F.conv2d(x, w, b),
         params={"w": weights(3, 4, 2, 2), "b": weights(3)}),
    Case("BatchNormalization", "y = BatchNormalization<epsilon=0.01>(x, s, b, m, v)",
         lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, eps=0.01),
         params={"s": weights(4), "b": weights(4), "m": weights(4), "v": weights(4) ** 2 + 0.1}),
    Case("Gemm", "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)", lambda x, w, b: 0.5 * x @ w + 2 * b, (7,),
         {"w": weights(7, 3), "b": weights(3)}, dynamic=False),
    Case("Gemm/transB", "y = Gemm<transB=1>(x, w, b)", lambda x, w, b: x @ w.T + b, (7,), {"w": weights(3, 7), "b": weights(3)}, dynamic=False),
    Case("Gemm/residual", "r = Sigmoid(x)\n y = Gemm<beta=0.5>(x, w, r)", lambda x, w: x @ w + 0.5 * torch.sigmoid(x), (5,),
         {"w": weights(5, 5)}, dynamic=False),
    Case("MatMul", "y = MatMul(x, w)", lambda x, w: x @ w, (7,), {"w": weights(7, 3)}, dynamic=False),
    Case("MatMul/maps", "y = MatMul(x, w)", lambda x, w: x @ w, (4, 6, 5), {"w": weights(5, 3)}, dynamic=False),
    Case("MaxPool", "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", lambda x: F.max_pool2d(x, 2), (3, 6, 8)),
    Case("MaxPool/overlapping", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
         lambda x: F.max_pool2d(x, 3, 2, 1), (3, 7, 8)),
    Case("MaxPool/stride 1", "y = MaxPool<kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]>(x)", lambda x: F.max_pool2d(x, 3, 1, 1), (3, 5, 6)),
    Case("MaxPool/ceil", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
         lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), (3, 6, 8), dynamic=False),
    Case("AveragePool", "y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)", lambda x: F.avg_pool2d(x, 2), (3, 6, 8)),
    Case("AveragePool/remainder", "y = AveragePool<kernel_shape=[2,3], strides=[2,3]>(x)",
         lambda x: F.avg_pool2d(x, (2, 3)), (3, 7, 8)),
    Case("AveragePool/padded", "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
         lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (3, 7, 8)),
    Case("AveragePool/count pad",
         "y = AveragePool<kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1], count_include_pad=1>(x)",
         lambda x: F.avg_pool2d(x, 3, 1, 1), (3, 5, 6)),
    Case("AveragePool/ceil", "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
         lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), (3, 6, 8), dynamic=False),
    Case("GlobalAveragePool", "y = GlobalAveragePool(x)", lambda x: x.mean((2, 3), keepdim=True)),
    Case("ReduceMean", "y = ReduceMean<keepdims=0>(x, a)", lambda x, a: x.mean((2, 3)), params={"a": np.array([-1, -2])}),
    Case("ReduceMean/kept", "y = ReduceMean(x, a)", lambda x, a: x.mean(1, keepdim=True), params={"a": np.array([1])}),
    Case("Reshape", "y = Reshape(x, s)", lambda x, s: x.reshape(x.shape[0], -1), params={"s": np.array([0, -1])}, dynamic=False),
    Case("Flatten", "y = Flatten(x)", lambda x: x.flatten(1), dynamic=False),
    Case("Squeeze", "p = GlobalAveragePool(x)\n y = Squeeze(p, a)", lambda x, a: x.mean((2, 3)), params={"a": np.array([2, 3])}),
    Case("Unsqueeze", "y = Unsqueeze(x, a)", lambda x, a: x.unsqueeze(2), params={"a": np.array([2])}),
    Case("Transpose", "y = Transpose<perm=[0,2,3,1]>(x)", lambda x: x.permute(0, 2, 3, 1)),
    Case("Concat", "r = Relu(x)\n y = Concat<axis=1>(x, r, x)", lambda x: torch.cat([x, F.relu(x), x], 1)),
    Case("Gather/number", "y = Gather<axis=1>(x, i)", lambda x, i: x[:, 2], params={"i": np.array(2)}, dynamic=False),
    Case("Gather/list", "y = Gather<axis=1>(x, i)", lambda x, i: x[:, [2, 0, 2]], params={"i": np.array([2, 0, -2])}, dynamic=False),
    Case("Slice", "y = Slice(x, s, e, a)", lambda x, s, e, a: x[:, 1:3, :, -3:],
         params={"s": np.array([1, -3]), "e": np.array([3, 99]), "a": np.array([1, 3])}, dynamic=False),
    Case("Pad", "y = Pad(x, p)", lambda x, p: F.pad(x, (2, 0, 1, 3)), params={"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
]  # fmt: skip


def torch_gradient(case: Case, x: Any, seed: Any) -> Any:
    leaf = torch.tensor(x, dtype=torch.float64).expand(len(seed), *x.shape[1:]).clone().requires_grad_()
    params = {k: torch.tensor(v) for k, v in case.params.items()}
    y = case.torch(leaf, **params)
    (y * torch.tensor(seed, dtype=torch.float64)).sum().backward()
    assert leaf.grad is not None
    return y.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize("batch", ["1 picture, 3 classes", "3 pictures, 3 gradients"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_rule_against_autograd(case: Case, batch: str) -> None:
    x = case.scale * rng.normal(0, 1, (1 if batch.startswith("1") else 3, *case.shape))
    with torch.no_grad():
        y = case.torch(torch.tensor(x), **{k: torch.tensor(v) for k, v in case.params.items()})
    seed = rng.normal(0, 1, (3, *y.shape[1:]))
    _, expected = torch_gradient(case, x, seed)

    y64, g64 = run_reference(
        with_gradient(graph_of(case.body, case.params, ("n", *case.shape))), {"x": x, "seed": seed}
    )
    assert relative(y64, y.numpy()) < case.forward  # the ONNX text and the torch function mean the same
    assert g64.shape == expected.shape
    assert relative(g64, expected) < 1e-9

    model = with_gradient(graph_of(case.body, case.params, ("n", *case.shape), np.float32))
    _, g32 = run_onnxruntime(model, {"x": x.astype(np.float32), "seed": seed.astype(np.float32)})
    assert relative(g32, expected) < 1e-5


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.dynamic and "auto_pad" not in c.body], ids=lambda c: c.name
)
def test_rule_with_dynamic_size(case: Case) -> None:
    x = case.scale * rng.normal(0, 1, (2, *case.shape))
    with torch.no_grad():
        y = case.torch(torch.tensor(x), **{k: torch.tensor(v) for k, v in case.params.items()})
    seed = rng.normal(0, 1, y.shape)
    _, expected = torch_gradient(case, x, seed)
    model = graph_of(case.body, case.params, ("n", case.shape[0], "h", "w"))
    _, gradient = run_reference(with_gradient(model), {"x": x, "seed": seed})
    assert relative(gradient, expected) < 1e-9


def test_every_rule_is_covered() -> None:
    tested = {op for case in CASES for (_, op) in RULES if f" {op}" in case.body or f"={op}" in case.body}
    assert tested == {op for domain, op in RULES if domain == ""}


def test_a_rule_wrong_by_a_thousandth_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in CASES if c.name == "Conv/strided")
    right = RULES["", "Conv"]
    wrong = Rule(lambda op, node, g: op.Mul(right.function(op, node, g), 1.001))
    monkeypatch.setitem(RULES, ("", "Conv"), wrong)
    with pytest.raises(AssertionError):
        test_rule_against_autograd(case, "3 pictures, 3 gradients")


def test_a_rule_of_ones_own() -> None:
    domains = ', "my.ops" : 1'
    body = "s = my.ops.Square(x)\n y = Relu(s)"
    try:
        model = graph_of(body, {}, ("n", 2, 3, 3), domains=domains)
        _same_shape_everywhere(model)
        with pytest.raises(GradientError, match=r"no gradient rule for operator my\.ops\.Square \(node"):
            with_gradient(model)

        @register("Square", domain="my.ops")
        def square(op, node, gradient):  # type: ignore[no-untyped-def]
            return op.Mul(gradient, op.Mul(2.0, node.inputs[0]))

        model = graph_of(body, {}, ("n", 2, 3, 3), domains=domains)
        _same_shape_everywhere(model)
        ops = [node.op_type for node in with_gradient(model).graph.node]
        assert ops.count("Mul") == 2
    finally:
        RULES.pop(("my.ops", "Square"), None)


def _same_shape_everywhere(model: Any) -> None:
    """Shape inference does not know operators of our own."""
    for value in [v for node in model.graph for v in node.outputs]:
        value.shape, value.type = model.graph.inputs[0].shape, model.graph.inputs[0].type


@pytest.mark.parametrize(
    ("body", "params", "shape", "words"),
    [
        ("y = Gemm<transA=1>(x, w)", {"w": weights(2, 3)}, (4,), "transA"),
        ("y = Transpose<perm=[1,0,2,3]>(x)", {}, (2, 3, 3), "moves the batch"),
        ("y = ReduceMean(x, a)", {"a": np.array([0, 1])}, (2, 3, 3), "over the batch"),
        ("y = MaxPool<kernel_shape=[2,2], storage_order=1>(x)", {}, (2, 4, 4), "storage_order"),
        ("y = MatMul(x, x)", {}, (2, 3, 3), "constant matrix"),
    ],
)
def test_refusals_name_operator_and_node(
    body: str, params: dict[str, Any], shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(GradientError, match=rf"operator \w+ \(node .*{words}"):
        with_gradient(graph_of(body, params, ("n", *shape)))


@pytest.mark.parametrize(
    ("group", "stride", "padding", "extra", "dilation"), [(1, 2, 1, 1, 1), (2, 2, 1, 0, 2), (4, 1, 0, 0, 1)]
)
def test_our_conv_transpose_against_torch(
    group: int, stride: int, padding: int, extra: int, dilation: int
) -> None:
    x, w = rng.normal(0, 1, (2, 4, 5, 6)), rng.normal(0, 1, (4, 3, 3, 2))
    expected = F.conv_transpose2d(
        torch.tensor(x),
        torch.tensor(w),
        stride=stride,
        padding=padding,
        output_padding=extra,
        groups=group,
        dilation=dilation,
    )
    (ours,) = ConvTranspose._run(
        None,
        x,
        w,
        group=group,
        strides=[stride] * 2,
        pads=[padding] * 4,
        output_padding=[extra] * 2,
        dilations=[dilation] * 2,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil"), [(3, 1, 1, False), (2, 2, 0, False), (3, 2, 0, True)]
)
def test_our_max_pool_against_torch(kernel: int, stride: int, padding: int, ceil: bool) -> None:
    x = rng.normal(0, 1, (2, 3, 6, 8))
    y, places = F.max_pool2d(torch.tensor(x), kernel, stride, padding, ceil_mode=ceil, return_indices=True)
    ours, ours_places = MaxPool._run(
        None,
        x,
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[padding] * 4,
        ceil_mode=ceil,  # type: ignore[arg-type]
    )
    np.testing.assert_array_equal(ours, y.numpy())
    planes = np.arange(6).reshape(2, 3, 1, 1) * 48
    np.testing.assert_array_equal(ours_places, places.numpy() + planes)
