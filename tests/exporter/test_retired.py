"""Operators and opsets of ONNX's first releases, against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from exporting import HEAD, STEM, WEIGHTS, exported, own_scores, parsed
from gradcheck import relative, run_onnxruntime
from tiny import tiny_model

from sise_ort.errors import SourceError
from sise_ort.exporter.sources.cleaning import clean
from sise_ort.exporter.sources.opsets import to_opset
from sise_ort.exporter.sources.retired import RETIRED


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


def normalised(x: Any, axes: tuple[int, ...]) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-9)


def two(array: Any) -> Any:
    return np.array(array, np.int64)


CASES: list[tuple[str, int, Any, dict[str, Any]]] = [
    ("y = ImageScaler<scale=0.5, bias=[1.0,-2.0,3.5]>(x)", 7, lambda x: x / 2 + np.array([1, -2, 3.5]).reshape(3, 1, 1), {}),
    ("y = Affine<alpha=150.0, beta=-2.0>(x)", 7, lambda x: 150 * x - 2, {}),
    ("y = Scale<scale=0.25>(x)", 6, lambda x: x / 4, {}),
    ("y = ScaledTanh<alpha=1.5, beta=0.5>(x)", 7, lambda x: 1.5 * np.tanh(x / 2), {}),
    ("y = ParametricSoftplus<alpha=0.75, beta=2.0>(x)", 7, lambda x: 0.75 * softplus(2 * x), {}),
    ("y = ThresholdedRelu<alpha=0.4>(x)", 7, lambda x: np.where(x > 0.4, x, 0), {}),
    ("y = Crop<border=[1,2,3,0]>(x)", 7, lambda x: x[:, :, 2:, 1:-3], {}),
    ("y = Crop<border=[1,2,0,0], scale=[4,3]>(x)", 7, lambda x: x[:, :, 2:6, 1:4], {}),
    ("y = DynamicSlice(x, s, e, a)", 7, lambda x: x[:, :, 1:4, 2:], {"s": two([1, 2]), "e": two([4, 99]), "a": two([2, 3])}),
    ("y = MeanVarianceNormalization(x)", 7, lambda x: normalised(x, (2, 3)), {}),
    ("y = MeanVarianceNormalization<across_channels=1>(x)", 7, lambda x: normalised(x, (1, 2, 3)), {}),
    ("y = MeanVarianceNormalization<normalize_variance=0>(x)", 7, lambda x: x - x.mean((2, 3), keepdims=True), {}),
    ('y = Cast<to="FLOAT">(x)', 5, lambda x: x, {}),
    ("y = Pad<paddings=[0,0,1,2,0,0,0,3], value=0.5>(x)", 1,
     lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 3)), constant_values=0.5), {}),
]  # fmt: skip


def model_of(body: str, opset: int, params: dict[str, Any]) -> onnx.ModelProto:
    text = f'<ir_version: 3, opset_import: ["" : {opset}]> g (float[n,3,8,9] x) => (float y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, array in params.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, array.shape)
        )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize(
    ("body", "opset", "definition", "params"), CASES, ids=[case[0].split("(")[0][4:] for case in CASES]
)
def test_operators(body: str, opset: int, definition: Any, params: dict[str, Any]) -> None:
    model = model_of(body, opset, params)
    before = model.SerializeToString()
    converted = ir.to_proto(to_opset(model))
    assert model.SerializeToString() == before
    assert all(node.domain == "" for node in converted.graph.node)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    expected = definition(x.astype(np.float64))
    (y,) = run_onnxruntime(converted, {"x": x})
    assert y.shape == expected.shape and relative(y, expected) < 1e-6


def test_every_operator_is_tested() -> None:
    tested = {case[0][4:].split("(")[0].split("<")[0] for case in CASES}
    assert tested == set(RETIRED)


def test_newer_operators_of_the_same_name_stay() -> None:
    for body, opset in (
        ("y = ThresholdedRelu<alpha=0.4>(x)", 10),
        ("y = MeanVarianceNormalization(x)", 9),
        ("y = Cast<to=1>(x)", 6),
    ):
        assert [n.op_type for n in to_opset(model_of(body, opset, {})).graph] == [
            body[4:].split("(")[0].split("<")[0]
        ]


def test_a_network_with_retired_operators(tmp_path: Path, frame: Any) -> None:
    """onnxruntime still has them: the file's own scores, and heat maps through their gradients."""
    body = "a = ImageScaler<scale=0.0078125, bias=[-0.9,-1.0,-1.1]>(picture)\n" + STEM.replace(
        "picture", "a"
    ).replace("r = Relu(c)", "q = ParametricSoftplus<alpha=1.0, beta=1.0>(c)\n r = Crop<border=[1,1,1,1]>(q)")
    model = parsed(
        body + HEAD.format("s").replace("(f, fc)", "(f, fc, zeros)"),
        {**WEIGHTS, "zeros": np.zeros(4, np.float32)},
        opset=8,
    )
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    explainer = exported(model, tmp_path, normalize="none")
    result = explainer.explain(frame)
    np.testing.assert_allclose(result.scores, own_scores(model, frame, 0, 1), rtol=1e-4, atol=1e-4)
    assert result.heatmap.max() == 1
    c, h = (torch.tensor(WEIGHTS[name]) for name in ("w", "v"))
    z = torch.tensor(frame, dtype=torch.float32).permute(2, 0, 1)[None] / 128 - torch.tensor(
        [0.9, 1.0, 1.1]
    ).view(1, 3, 1, 1)
    z = F.softplus(F.conv2d(z, c, None, 2, 1))[:, :, 1:-1, 1:-1]
    z = F.relu(F.conv2d(z, h, None, 2, 1)).mean((2, 3)) @ torch.tensor(WEIGHTS["fc"])
    np.testing.assert_allclose(result.scores, z[0].numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("opset", [1, 2, 3, 4, 5, 6])
def test_first_opsets(tmp_path: Path, frame: Any, opset: int) -> None:
    """The small network as it was written then: fixed batch, broadcast and consumed_inputs, weights as inputs, types as words.
    onnxruntime has no such operators; its scores are those of the same weights in opset 20."""
    modern = tiny_model(tail="y = Softmax<axis=1>(scores)")
    old = tiny_model(opset=opset, batch=1, tail="z = Dropout(scores)\n y = Softmax<axis=1>(z)")
    old.ir_version = 3
    for node in old.graph.node:
        if node.op_type == "Gemm":
            node.attribute.append(onnx.helper.make_attribute("broadcast", 1))
        if node.op_type == "Dropout":
            node.attribute.append(onnx.helper.make_attribute("is_test", 1))
        if node.op_type in ("Relu", "Dropout") and opset < 6:
            node.attribute.append(onnx.helper.make_attribute("consumed_inputs", [0]))
        if node.op_type == "Flatten" and opset < 5:
            node.CopyFrom(onnx.helper.make_node("Reshape", ["g"], ["f"], shape=[1, 16]))
    cast = onnx.helper.make_node("Cast", ["picture"], ["cast"], to="FLOAT" if opset < 6 else 1)
    old.graph.node[0].input[0] = "cast"
    old.graph.node.insert(0, cast)
    for tensor in old.graph.initializer:
        old.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    explainer = exported(old, tmp_path)
    scores = explainer.explain(frame).scores
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), own_scores(modern, frame), atol=1e-5)
    assert len(explainer.manifest.layers) == 3 and explainer.manifest.input.batch is None


def test_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Cast to 'COMPLEX' is unknown"):
        to_opset(model_of('y = Cast<to="COMPLEX">(x)', 5, {}))
    with pytest.raises(SourceError, match=r"operator ATen .* is not in ONNX's opset 7"):
        to_opset(model_of("y = ATen(x)", 7, {}))


def test_a_style_network(shared_data: Path) -> None:
    """A network of Windows ML with ImageScaler, Crop and Affine gives the picture that onnxruntime gives."""
    model = onnx.load(shared_data / "wild" / "winml_candy_style.onnx")
    network = clean(model)
    assert (network.channels, network.height, network.width) == (3, 720, 720)
    x = np.random.default_rng(0).uniform(0, 255, (1, 3, 720, 720)).astype(np.float32)
    (ours,) = run_onnxruntime(ir.to_proto(network.model), {"x": x})
    (theirs,) = run_onnxruntime(model, {"inputImage": x})
    assert relative(ours, theirs) < 1e-4
