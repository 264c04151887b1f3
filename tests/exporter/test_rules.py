"""Every gradient rule against torch autograd: in float64 by onnx.reference, in float32 by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import write_operators
from gradcheck import (
    ConvTranspose,
    MaxPool,
    graph_of,
    relative,
    run_onnxruntime,
    run_reference,
    with_gradient,
)
from rule_cases import CASES, Case, weights

from sise_ort.errors import GradientError
from sise_ort.exporter.gradients import RULES, register
from sise_ort.exporter.gradients.engine import Rule


def torch_gradient(case: Case, x: Any, seed: Any) -> Any:
    leaf = torch.tensor(x, dtype=torch.float64).expand(len(seed), *x.shape[1:]).clone().requires_grad_()
    params = {k: torch.tensor(v) for k, v in case.params.items()}
    y = case.torch(leaf, **params)
    (y * torch.tensor(seed, dtype=torch.float64)).sum().backward()
    assert leaf.grad is not None
    return y.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize("batch", ["1 picture, 3 classes", "3 pictures, 3 gradients"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_rule_against_autograd(case: Case, batch: str, rng: np.random.Generator) -> None:
    x = case.scale * rng.normal(0, 1, (1 if batch.startswith("1") else 3, *case.shape))
    with torch.no_grad():
        y = case.torch(torch.tensor(x), **{k: torch.tensor(v) for k, v in case.params.items()})
    seed = rng.normal(0, 1, (3, *y.shape[1:]))
    _, expected = torch_gradient(case, x, seed)

    if case.reference:
        y64, g64 = run_reference(
            with_gradient(graph_of(case.body, case.params, ("n", *case.shape))), {"x": x, "seed": seed}
        )
        assert relative(y64, y.numpy()) < case.forward  # the ONNX text and the torch function mean the same
        assert g64.shape == expected.shape
        assert relative(g64, expected) < 1e-9

    model = with_gradient(graph_of(case.body, case.params, ("n", *case.shape), np.float32))
    y32, g32 = run_onnxruntime(model, {"x": x.astype(np.float32), "seed": seed.astype(np.float32)})
    assert relative(y32, y.numpy()) < 1e-5
    assert relative(g32, expected) < 1e-5


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.dynamic and c.reference and "auto_pad" not in c.body], ids=lambda c: c.name
)
def test_rule_with_dynamic_size(case: Case, rng: np.random.Generator) -> None:
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


def test_every_rule_says_its_formula_and_stands_in_the_docs() -> None:
    assert all(
        write_operators.paragraph(rule.function) for (domain, _), rule in RULES.items() if domain == ""
    )
    page = write_operators.FILE.read_text(encoding="utf-8")
    assert page == write_operators.table()  # else: python docs/write_operators.py
    assert all(f"`{op_type}`" in page for domain, op_type in RULES if domain == "")


def test_a_rule_wrong_by_a_thousandth_fails(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    case = next(c for c in CASES if c.name == "Conv/strided")
    right = RULES["", "Conv"]
    wrong = Rule(lambda op, node, g: op.Mul(right.function(op, node, g), 1.001))
    monkeypatch.setitem(RULES, ("", "Conv"), wrong)
    with pytest.raises(AssertionError):
        test_rule_against_autograd(case, "3 pictures, 3 gradients", rng)


@pytest.mark.parametrize("size", [(9, 11), (4, 3), (12, 5)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        'mode="nearest"',
        'mode="nearest", nearest_mode="ceil"',
        'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"',
        'mode="nearest", coordinate_transformation_mode="align_corners", nearest_mode="round_prefer_ceil"',
        'mode="linear"',
        'mode="linear", coordinate_transformation_mode="asymmetric"',
        'mode="linear", coordinate_transformation_mode="pytorch_half_pixel"',
        'mode="linear", coordinate_transformation_mode="align_corners"',
        'mode="linear", antialias=1',
        'mode="cubic", cubic_coeff_a=-0.5',
        'mode="cubic", coordinate_transformation_mode="align_corners", exclude_outside=1',
    ],
)
def test_resize_is_the_adjoint_of_onnxruntimes(
    options: str, size: tuple[int, int], rng: np.random.Generator
) -> None:
    """Resize is linear: <seed, resize(x)> = <gradient, x>, with onnxruntime's own resize."""
    body = f"y = Resize<{options}, axes=[2,3]>(x, , , s)"
    model = with_gradient(graph_of(body, {"s": np.array(size)}, ("n", 3, 6, 5), np.float32))
    x = rng.normal(0, 1, (2, 3, 6, 5)).astype(np.float32)
    seed = rng.normal(0, 1, (2, 3, *size)).astype(np.float32)
    y, gradient = run_onnxruntime(model, {"x": x, "seed": seed})
    assert abs((seed * y).sum() - (gradient * x).sum()) < 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(x)


@pytest.mark.parametrize(
    ("call", "params"),
    [
        (
            'Resize<mode="linear">(x, , s)',
            {"s": np.array([1, 1, 1.7, 2.3], np.float32)},
        ),  # the size is rounded down
        ("AveragePool<kernel_shape=[3,2], strides=[2,2], pads=[0,1,1,0]>(x)", {}),
        ("AveragePool<kernel_shape=[3,2], strides=[2,2], pads=[0,1,1,0], count_include_pad=1>(x)", {}),
        ("AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1>(x)", {}),
        (
            "AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1, count_include_pad=1>(x)",
            {},
        ),
        ('AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)', {}),
        ('AveragePool<kernel_shape=[2,2], strides=[3,3], auto_pad="VALID">(x)', {}),
        ("ConvTranspose<strides=[2,2], pads=[0,1,2,1]>(x, w)", {"w": weights(4, 3, 3, 3)}),
        ('ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', {"w": weights(4, 3, 4, 4)}),
        ('ConvTranspose<strides=[2,2], auto_pad="VALID">(x, w)', {"w": weights(4, 3, 3, 3)}),
        ("ConvTranspose<strides=[2,2], output_shape=[11,13]>(x, w)", {"w": weights(4, 3, 3, 3)}),
        ('ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', {"w": weights(4, 3, 3, 3)}),
        ('ConvTranspose<strides=[2,2], auto_pad="SAME_LOWER">(x, w)', {"w": weights(4, 3, 3, 3)}),
        ("ConvTranspose<strides=[2,3], output_shape=[12,23]>(x, w)", {"w": weights(4, 3, 3, 3)}),
        (
            'ConvTranspose<strides=[2,2], auto_pad="VALID", output_shape=[14,18]>(x, w)',
            {"w": weights(4, 3, 3, 3)},
        ),
        ("Conv<strides=[3,2], dilations=[2,1], group=2, pads=[2,0,1,3]>(x, w)", {"w": weights(6, 2, 3, 2)}),
        ("SpaceToDepth<blocksize=2>(x)", {}),
    ],
)
def test_linear_operators_are_the_adjoints_of_onnxruntimes(
    call: str, params: dict[str, Any], rng: np.random.Generator
) -> None:
    model = with_gradient(graph_of(f"y = {call}", params, ("n", 4, 6, 8), np.float32))
    dims = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim][1:]
    x, seed = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((2, 4, 6, 8), (2, *dims)))
    y, gradient = run_onnxruntime(model, {"x": x, "seed": seed})
    assert abs((seed * y).sum() - (gradient * x).sum()) < 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(x)


def test_an_output_that_grows_by_more_than_a_stride_is_refused() -> None:
    body = "y = ConvTranspose<strides=[2,2], output_shape=[16,17]>(x, w)"
    with pytest.raises(GradientError, match="adds more than a stride"):
        with_gradient(graph_of(body, {"w": weights(4, 3, 3, 3)}, ("n", 4, 6, 8)))


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
        assert ops.count("Mul") == 3  # Relu's gate, and two of the rule
    finally:
        RULES.pop(("my.ops", "Square"), None)


def _same_shape_everywhere(model: Any) -> None:
    """Shape inference does not know operators of our own."""
    for value in [v for node in model.graph for v in node.outputs]:
        value.shape, value.type = model.graph.inputs[0].shape, model.graph.inputs[0].type


@pytest.mark.parametrize(
    ("body", "params", "shape", "words"),
    [
        ("y = Gemm<transA=1>(x, w)", {"w": weights(2, 3)}, ("h",), "transA"),
        ("y = Transpose<perm=[1,0,2,3]>(x)", {}, (2, 3, 3), "moves the batch"),
        ("y = ReduceMean(x, a)", {"a": np.array([0, 1])}, (2, 3, 3), "over the batch"),
        ("y = MaxPool<kernel_shape=[2,2], storage_order=1>(x)", {}, (2, 4, 4), "storage_order"),
        ("y = MatMul(x, w)", {"w": weights(3)}, (2, 3, 3), "with a vector"),
        ("y = Softmax<axis=0>(x)", {}, (2, 3, 3), "along the batch"),
        ("y = Slice(x, s, e)", {"s": np.array([0]), "e": np.array([1])}, (2, 3, 3), "cuts the batch"),
        ('y = Einsum<equation="nccw->ncw">(x)', {}, (3, 3, 3), "diagonal"),
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
    group: int, stride: int, padding: int, extra: int, dilation: int, rng: np.random.Generator
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
def test_our_max_pool_against_torch(
    kernel: int, stride: int, padding: int, ceil: bool, rng: np.random.Generator
) -> None:
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
