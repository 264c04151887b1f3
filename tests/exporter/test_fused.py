"""Operators of files that onnxruntime optimised, against onnxruntime's own and torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from exporting import agrees, exported, weights
from gradcheck import relative, run_onnxruntime
from tiny import tiny_model

from sise_ort.errors import SourceError
from sise_ort.exporter.sources.fused import FUSED
from sise_ort.exporter.sources.opsets import to_opset

WEIGHTS = {
    "w": weights(4, 3, 3, 3), "b": weights(4), "z": weights(2, 4, 8, 9), "m": weights(5, 9), "t": weights(9, 5),
    "c": weights(5), "g": weights(9),
}  # fmt: skip
CONV = "pads=[1,1,1,1], activation"
CASES = [
    f'y = com.microsoft.FusedConv<{CONV}="Relu">(x, w, b)',
    f'y = com.microsoft.FusedConv<{CONV}="Relu">(x, w, b, z)',
    f'y = com.microsoft.FusedConv<{CONV}="LeakyRelu", activation_params=[0.25]>(x, w)',
    f'y = com.microsoft.FusedConv<{CONV}="Clip", activation_params=[-0.5,1.0]>(x, w, b)',
    f'y = com.microsoft.FusedConv<{CONV}="HardSigmoid", activation_params=[0.25,0.5]>(x, w, b)',
    f'y = com.microsoft.FusedConv<{CONV}="Sigmoid">(x, w, b)',
    'f = Flatten<axis=3>(x)\n y = com.microsoft.FusedGemm<transB=1, alpha=0.5, activation="Relu">(f, m, c)',
    'f = Flatten<axis=3>(x)\n y = com.microsoft.FusedGemm<activation="LeakyRelu", activation_alpha=0.25>(f, t, c)',
    "y = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(x, m)",
    "y = com.microsoft.FusedMatMul(x, t)",
    "y = com.microsoft.Gelu(x)",
    "y = com.microsoft.BiasGelu(x, g)",
    "y = com.microsoft.QuickGelu<alpha=1.5>(x)",
]


def model_of(body: str) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[n,3,8,9] x) => (float y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    used = body.replace("(", ",").replace(")", ",").replace(" ", "").split(",")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(a, n) for n, a in WEIGHTS.items() if n in used
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("body", CASES)
def test_operators(body: str) -> None:
    model = model_of(body)
    converted = ir.to_proto(to_opset(model))
    assert all(node.domain == "" for node in converted.graph.node)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    (ours,), (theirs,) = run_onnxruntime(converted, {"x": x}), run_onnxruntime(model, {"x": x})
    assert relative(ours, theirs) < 1e-5


def test_every_operator_is_tested() -> None:
    assert {body.split("com.microsoft.")[1].split("(")[0].split("<")[0] for body in CASES} == set(FUSED)


def test_what_is_not_covered() -> None:
    with pytest.raises(SourceError, match="fused activation Softsign is not covered"):
        to_opset(model_of('y = com.microsoft.FusedConv<activation="Softsign">(x, w)'))


def test_an_optimised_file(tmp_path: Path, frame: Any) -> None:
    """onnxruntime's own writing of the small network, with FusedConv; blocks and scores are as before."""
    model = tiny_model(opset=17)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert "FusedConv" in {node.op_type for node in optimised.graph.node}
    explainer = exported(optimised, tmp_path)
    agrees(explainer, model, frame)
    assert [layer.channels for layer in explainer.manifest.layers] == [8, 12, 16]
