"""One case or more for every gradient rule: ONNX text and the same function in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def weights(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape)


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
    reference: bool = True  # onnx.reference knows the operator


def conv(name: str, shape: tuple[int, ...], w: tuple[int, ...], text: str = "", **options: Any) -> Case:
    pads = options.pop("pads", None)

    def function(x: Tensor, w: Tensor) -> Tensor:
        if pads is not None:  # top, left, bottom, right
            x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]))
        return F.conv2d(x, w, **options)

    return Case(name, f"y = Conv{f'<{text}>' if text else ''}(x, w)", function, shape, {"w": weights(*w)})


def quantised(x: Tensor, scale: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
    low, high = (least - zero.double()) * scale, (most - zero.double()) * scale
    clipped = x.clamp(low, high)
    rounded = (torch.clamp(torch.round(x / scale) + zero, least, most) - zero) * scale
    return clipped + (rounded - clipped).detach()


def depth_to_space(x: Tensor, b: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, b, b, c // b**2, h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def space_to_depth(x: Tensor, b: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // b, b, w // b, b)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


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
    Case("BatchNormalization", "y = BatchNormalization<epsilon=0.0078125>(x, s, b, m, v)",
         lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, eps=0.0078125),
         params={"s": weights(4), "b": weights(4, seed=1), "m": weights(4, seed=2), "v": weights(4, seed=3) ** 2 + 0.1}),
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
    # arithmetic
    Case("Mean", "s = Sigmoid(x)\n y = Mean(x, s, x)", lambda x: (2 * x + torch.sigmoid(x)) / 3),
    Case("Max", "s = Neg(x)\n y = Max(x, s, b)", lambda x, b: torch.maximum(torch.maximum(x, -x), b), params={"b": weights(4, 1, 1)}),
    Case("Max/ties", "r = Relu(x)\n y = Max(r, z)", lambda x, z: torch.maximum(F.relu(x), z), params={"z": np.zeros(1)}),
    Case("Min", "s = Sigmoid(x)\n y = Min(x, s)", lambda x: torch.minimum(x, torch.sigmoid(x))),
    Case("Where", "c = Greater(x, b)\n s = Sigmoid(x)\n y = Where(c, x, s)", lambda x, b: torch.where(x > b, x, torch.sigmoid(x)),
         params={"b": weights(4, 1, 1)}),
    Case("Where/pooled", "c = Less(x, b)\n p = GlobalAveragePool(x)\n y = Where(c, p, x)",
         lambda x, b: torch.where(x < b, x.mean((2, 3), keepdim=True), x), params={"b": weights(4, 1, 1)}),
    Case("Pow", "y = Pow(x, p)", lambda x, p: x**p, params={"p": np.array(3.0)}),
    Case("Pow/square", "y = Pow(x, p)", lambda x, p: x**2, params={"p": np.array(2)}),
    Case("Pow/gem", "s = Softplus(x)\n q = Pow(s, p)\n g = GlobalAveragePool(q)\n y = Pow(g, r)",
         lambda x, p, r: (F.softplus(x) ** p).mean((2, 3), keepdim=True) ** r, params={"p": np.array([3.0]), "r": np.array([1 / 3])}),
    Case("Pow/exponent", "s = Softplus(x)\n e = Sigmoid(x)\n y = Pow(s, e)", lambda x: F.softplus(x) ** torch.sigmoid(x)),
    Case("Reciprocal", "s = Softplus(x)\n y = Reciprocal(s)", lambda x: 1 / F.softplus(x)),
    Case("Sqrt", "s = Softplus(x)\n y = Sqrt(s)", lambda x: F.softplus(x).sqrt()),
    Case("Exp", "y = Exp(x)", torch.exp),
    Case("Log", "s = Softplus(x)\n y = Log(s)", lambda x: F.softplus(x).log()),
    Case("Abs", "y = Abs(x)", torch.abs),
    Case("Sin", "y = Sin(x)", torch.sin),
    Case("Cos", "y = Cos(x)", torch.cos),
    Case("Erf", "y = Erf(x)", torch.erf),
    Case("Cast", "y = Cast<to=1>(x)", lambda x: x.clone(), reference=False),
    # activations
    Case("LeakyRelu", "y = LeakyRelu<alpha=0.25>(x)", lambda x: F.leaky_relu(x, 0.25)),
    Case("LeakyRelu/negative", "y = LeakyRelu<alpha=-0.5>(x)", lambda x: F.leaky_relu(x, -0.5)),
    Case("PRelu", "y = PRelu(x, w)", lambda x, w: F.prelu(x, w.flatten()), params={"w": weights(4, 1, 1)}),
    Case("ThresholdedRelu", "y = ThresholdedRelu<alpha=0.4>(x)", lambda x: F.threshold(x, 0.4, 0.0)),
    Case("Elu", "y = Elu<alpha=0.75>(x)", lambda x: F.elu(x, 0.75)),
    Case("Selu", "y = Selu<alpha=1.5, gamma=1.25>(x)", lambda x: 1.25 * F.elu(x, 1.5)),
    Case("Celu", "y = Celu<alpha=1.25>(x)", lambda x: F.celu(x, 1.25), reference=False),
    Case("Tanh", "y = Tanh(x)", torch.tanh),
    Case("Softplus", "y = Softplus(x)", F.softplus),
    Case("Softsign", "y = Softsign(x)", F.softsign),
    Case("Mish", "y = Mish(x)", F.mish),
    Case("Gelu", "y = Gelu(x)", F.gelu, forward=1e-7),
    Case("Gelu/tanh", 'y = Gelu<approximate="tanh">(x)', lambda x: F.gelu(x, approximate="tanh"), forward=1e-6),
    # normalisation
    Case("LogSoftmax", "y = LogSoftmax<axis=1>(x)", lambda x: torch.log_softmax(x, 1)),
    Case("InstanceNormalization", "y = InstanceNormalization<epsilon=0.0078125>(x, s, b)",
         lambda x, s, b: F.instance_norm(x, weight=s, bias=b, eps=0.0078125), params={"s": weights(4), "b": weights(4, seed=1)}),
    Case("LayerNormalization", "y = LayerNormalization<epsilon=0.0078125>(x, s, b)",
         lambda x, s, b: F.layer_norm(x, (5,), s, b, eps=0.0078125), params={"s": weights(5), "b": weights(5, seed=1)}, dynamic=False),
    Case("LayerNormalization/all", "y = LayerNormalization<axis=1>(x, s)", lambda x, s: F.layer_norm(x, (4, 6, 5), s),
         params={"s": weights(4, 6, 5)}, dynamic=False),
    Case("LRN", "y = LRN<size=3, alpha=0.375, beta=0.5, bias=1.5>(x)", lambda x: F.local_response_norm(x, 3, 0.375, 0.5, 1.5), reference=False),
    Case("LpNormalization", "y = LpNormalization<axis=1, p=2>(x)", lambda x: F.normalize(x, dim=1)),
    Case("LpNormalization/1", "y = LpNormalization<axis=2, p=1>(x)", lambda x: F.normalize(x, 1, dim=2), reference=False),
    # linear
    Case("ConvTranspose", "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w)",
         lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1), params={"w": weights(4, 3, 3, 3)}),
    Case("ConvTranspose/grouped", "y = ConvTranspose<group=2, dilations=[2,1], strides=[1,3]>(x, w)",
         lambda x, w: F.conv_transpose2d(x, w, None, (1, 3), 0, 0, 2, (2, 1)), params={"w": weights(4, 3, 3, 2)}),
    Case("ConvTranspose/longer", 'y = ConvTranspose<strides=[2,2], auto_pad="VALID", output_shape=[12,14]>(x, w)',
         lambda x, w: F.conv_transpose2d(x, w, None, 2, 0, 1), (4, 5, 6), params={"w": weights(4, 3, 3, 3)}, dynamic=False, reference=False),
    Case("ConvTranspose/depthwise", "y = ConvTranspose<group=4, strides=[2,2], kernel_shape=[2,2]>(x, w)",
         lambda x, w: F.conv_transpose2d(x, w, None, 2, 0, 0, 4), params={"w": weights(4, 1, 2, 2)}),
    Case("MatMul/attention", "t = Transpose<perm=[0,1,3,2]>(x)\n y = MatMul(x, t)", lambda x: x @ x.transpose(2, 3), dynamic=False),
    Case("MatMul/left", "y = MatMul(w, x)", lambda x, w: w @ x, params={"w": weights(3, 6)}, dynamic=False),
    Case("MatMul/shared", "p = ReduceMean(x, a)\n y = MatMul(p, x)", lambda x, a: x.mean(1, keepdim=True) @ x, (4, 5, 5), params={"a": np.array([1])}, dynamic=False),
    Case("MatMul/stack", "y = MatMul(x, w)", lambda x, w: x @ w, params={"w": weights(1, 4, 5, 3)}, dynamic=False),
    Case("Einsum", 'y = Einsum<equation="nchw,cd->ndhw">(x, w)', lambda x, w: torch.einsum("nchw,cd->ndhw", x, w), params={"w": weights(4, 3)}),
    Case("Einsum/two", 's = Sigmoid(x)\n y = Einsum<equation="nchw,ndhw->ncd">(x, s)', lambda x: torch.einsum("nchw,ndhw->ncd", x, torch.sigmoid(x))),
    Case("Einsum/sum", 'y = Einsum<equation="nchw->nc">(x)', lambda x: x.sum((2, 3))),
    # pooling and reductions
    Case("MaxPool/dilated", "y = MaxPool<kernel_shape=[2,2], dilations=[2,3]>(x)", lambda x: F.max_pool2d(x, 2, 1, 0, (2, 3)), (3, 6, 8), reference=False),
    Case("MaxPool/asymmetric", "y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[0,1,1,0]>(x)",
         lambda x: F.max_pool2d(F.pad(x, (1, 0, 0, 1), value=-1e9), (3, 2), 2), (3, 6, 7)),
    Case("MaxPool/SAME_UPPER", 'y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)',
         lambda x: F.max_pool2d(F.pad(x, (1, 1, 0, 1), value=-1e9), 3, 2), (3, 6, 7), reference=False),
    Case("AveragePool/dilated", "y = AveragePool<kernel_shape=[2,2], dilations=[2,3]>(x)",
         lambda x: F.conv2d(x, torch.full((3, 1, 2, 2), 0.25, dtype=x.dtype), dilation=(2, 3), groups=3), (3, 6, 8), reference=False),
    Case("AveragePool/SAME_LOWER", 'y = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_LOWER", count_include_pad=1>(x)',
         lambda x: F.avg_pool2d(F.pad(x, (1, 0, 0, 0)), 2), (3, 6, 7), reference=False),
    Case("LpPool", "y = LpPool<kernel_shape=[2,2], strides=[2,2]>(x)", lambda x: F.lp_pool2d(x, 2, 2), (3, 6, 8)),
    Case("LpPool/3", "y = LpPool<kernel_shape=[3,3], p=3>(x)",
         lambda x: F.conv2d(x.abs() ** 3, torch.ones(3, 1, 3, 3, dtype=x.dtype), groups=3) ** (1 / 3), (3, 6, 7)),
    Case("GlobalMaxPool", "y = GlobalMaxPool(x)", lambda x: F.adaptive_max_pool2d(x, 1), dynamic=False),
    Case("GlobalLpPool", "y = GlobalLpPool<p=3>(x)", lambda x: (x.abs() ** 3).sum((2, 3), keepdim=True) ** (1 / 3), reference=False),
    Case("ReduceSum", "y = ReduceSum(x, a)", lambda x, a: x.sum(2, keepdim=True), params={"a": np.array([2])}),
    Case("ReduceSum/nothing", "y = ReduceSum<noop_with_empty_axes=1>(x)", lambda x: x.clone()),
    Case("ReduceMax", "y = ReduceMax<keepdims=0>(x, a)", lambda x, a: x.amax((2, 3)), params={"a": np.array([2, 3])}),
    Case("ReduceMax/ties", "r = Relu(x)\n y = ReduceMax(r, a)", lambda x, a: F.relu(x).amax(1, keepdim=True), params={"a": np.array([1])}),
    Case("ReduceMin", "y = ReduceMin(x, a)", lambda x, a: x.amin(1, keepdim=True), params={"a": np.array([1])}),
    Case("ReduceL1", "y = ReduceL1(x, a)", lambda x, a: x.abs().sum(1, keepdim=True), params={"a": np.array([1])}),
    Case("ReduceL2", "y = ReduceL2<keepdims=0>(x, a)", lambda x, a: x.norm(dim=1), params={"a": np.array([1])}),
    Case("ReduceSumSquare", "y = ReduceSumSquare(x, a)", lambda x, a: (x * x).sum(1, keepdim=True), params={"a": np.array([1])}),
    Case("ReduceLogSum", "s = Softplus(x)\n y = ReduceLogSum<keepdims=0>(s, a)", lambda x, a: F.softplus(x).sum((2, 3)).log(),
         params={"a": np.array([2, 3])}),
    Case("ReduceLogSumExp", "y = ReduceLogSumExp(x, a)", lambda x, a: x.logsumexp((1,), keepdim=True), params={"a": np.array([1])}),
    Case("ReduceProd", "y = ReduceProd<keepdims=0>(x, a)", lambda x, a: x.prod(1), params={"a": np.array([1])}),
    Case("ReduceProd/zeros", "r = Relu(x)\n y = ReduceProd(r, a)", lambda x, a: F.relu(x).prod(1, keepdim=True), (3, 4, 5), params={"a": np.array([1])}),
    # arrangement
    Case("Expand", "p = GlobalAveragePool(x)\n y = Expand(p, s)", lambda x, s: x.mean((2, 3), keepdim=True).expand(-1, -1, 3, 2),
         params={"s": np.array([1, 1, 3, 2])}),
    Case("Tile", "y = Tile(x, r)", lambda x, r: x.repeat(1, 2, 1, 3), params={"r": np.array([1, 2, 1, 3])}, dynamic=False),
    Case("Split", "a, b, c = Split<axis=1>(x, s)\n y = Mul(a, c)", lambda x, s: x[:, :1] * x[:, 3:], params={"s": np.array([1, 2, 1])}),
    Case("Split/equal", "a, b = Split<axis=2, num_outputs=2>(x)\n y = Sub(b, a)", lambda x: x[:, :, 3:] - x[:, :, :3], dynamic=False),
    Case("Gather/permuted", "y = Gather<axis=1>(x, i)", lambda x, i: x[:, i], params={"i": np.array([2, 0, 3, 1])}),
    Case("Gather/subset", "y = Gather<axis=3>(x, i)", lambda x, i: x[..., i], params={"i": np.array([-1, 0, 2])}, dynamic=False),
    Case("Gather/twice", "y = Gather<axis=2>(x, i)", lambda x, i: x[:, :, i], params={"i": np.array([0, 5, 5, 2, 0])}, dynamic=False),
    Case("Gather/grid", "y = Gather<axis=2>(x, i)", lambda x, i: x[:, :, i], params={"i": np.array([[0, 5, 1], [5, 2, 0]])}, dynamic=False),
    Case("Slice/all", "y = Slice(x, s, e, a)", lambda x, s, e, a: x[:, 1:],
         params={"s": np.array([0, 1]), "e": np.array([2**63 - 1, 99]), "a": np.array([0, 1])}),
    Case("Slice/every second", "y = Slice(x, s, e, a, t)", lambda x, s, e, a, t: x[:, :, 1::2, ::3], dynamic=False,
         params={"s": np.array([1, 0]), "e": np.array([99, 99]), "a": np.array([2, 3]), "t": np.array([2, 3])}),
    Case("Slice/turned", "y = Slice(x, s, e, a, t)", lambda x, s, e, a, t: x.flip(1), dynamic=False,
         params={"s": np.array([-1]), "e": np.array([-99]), "a": np.array([1]), "t": np.array([-1])}),
    Case("Slice/backwards", "y = Slice(x, s, e, a, t)", lambda x, s, e, a, t: x[:, :, [4, 2]], dynamic=False,
         params={"s": np.array([4]), "e": np.array([0]), "a": np.array([2]), "t": np.array([-2])}),
    Case("Pad/negative", "y = Pad(x, p, , a)", lambda x, p, a: F.pad(x, (-1, 2, 1, -2)), params={"p": np.array([1, -1, -2, 2]), "a": np.array([2, 3])}, reference=False),
    Case("Pad/reflect", 'y = Pad<mode="reflect">(x, p)', lambda x, p: F.pad(x, (2, 1, 1, 3), mode="reflect"), dynamic=False,
         params={"p": np.array([0, 0, 1, 2, 0, 0, 3, 1])}),
    Case("Pad/edge", 'y = Pad<mode="edge">(x, p)', lambda x, p: F.pad(x, (2, 0, 1, 3), mode="replicate"), dynamic=False,
         params={"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
    # quantisation: the straight-through gradient of clipping to what the integers can say
    Case("QuantizeLinear", "q = QuantizeLinear(x, s, z)\n y = DequantizeLinear(q, s, z)",
         lambda x, s, z: quantised(x, s, z, -128, 127), scale=3.0, params={"s": np.array(0.03125), "z": np.array(5, np.int8)}, reference=False),
    Case("QuantizeLinear/relu", "q = QuantizeLinear(x, s, z)\n y = DequantizeLinear(q, s, z)",
         lambda x, s, z: quantised(x, s, z, 0, 255), params={"s": np.array(0.015625), "z": np.array(0, np.uint8)}, reference=False),
    Case("QuantizeLinear/channels", "q = QuantizeLinear<axis=1>(x, s, z)\n m = MaxPool<kernel_shape=[2,2]>(q)\n y = DequantizeLinear<axis=1>(m, s, z)",
         lambda x, s, z: F.max_pool2d(quantised(x, s.reshape(-1, 1, 1), z.reshape(-1, 1, 1), -128, 127), 2, 1),
         params={"s": np.array([0.5, 0.25, 0.125, 0.25]) ** 4, "z": np.array([0, 3, -2, 9], np.int8)}, reference=False),
    # resampling
    Case("Resize/nearest", 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)',
         lambda x, s: F.interpolate(x, scale_factor=2), params={"s": np.array([1, 1, 2, 2], np.float32)}, dynamic=False),
    Case("Resize/linear", 'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel", axes=[2,3]>(x, , , s)',
         lambda x, s: F.interpolate(x, (9, 4), mode="bilinear"), params={"s": np.array([9, 4])}, dynamic=False, forward=1e-6),
    Case("Resize/corners", 'y = Resize<mode="linear", coordinate_transformation_mode="align_corners", axes=[2,3]>(x, , , s)',
         lambda x, s: F.interpolate(x, (11, 13), mode="bilinear", align_corners=True), params={"s": np.array([11, 13])}, dynamic=False, forward=1e-6),
    Case("DepthToSpace", "y = DepthToSpace<blocksize=2>(x)", lambda x: depth_to_space(x, 2), (8, 3, 4)),
    Case("DepthToSpace/CRD", 'y = DepthToSpace<blocksize=2, mode="CRD">(x)', lambda x: F.pixel_shuffle(x, 2), (8, 3, 4), dynamic=False),
    Case("SpaceToDepth", "y = SpaceToDepth<blocksize=2>(x)", lambda x: space_to_depth(x, 2), (3, 6, 4)),
]  # fmt: skip
