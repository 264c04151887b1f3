"""Parts of a transposed tensor are taken before it is transposed: same values, pictures in front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from exporting import HEAD, agrees, exported, parsed, weights
from gradcheck import graph_of

from sise_ort.exporter.gradients import nodes_between
from sise_ort.exporter.sources.unbinding import keep_pictures_first

ENDS = {
    "slice": "s0 = Slice(t, zero, one, zero)\n q = Squeeze(s0, zero)\n s1 = Slice(t, one, two, zero)\n k = Squeeze(s1, zero)\n"
    "s2 = Slice(t, two, three, zero)\n v = Squeeze(s2, zero)\n",
    "split": "s0, s1, s2 = Split<axis=0, num_outputs=3>(t)\n q = Squeeze(s0, zero)\n k = Squeeze(s1, zero)\n"
    "v = Squeeze(s2, zero)\n",
    "gather": "q = Gather<axis=0>(t, i0)\n k = Gather<axis=0>(t, i1)\n v = Gather<axis=0>(t, last)\n",
}  # fmt: skip
INDICES = {
    "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "three": np.array([3]), "i0": np.array(0),
    "i1": np.array(1), "last": np.array(-1),
}  # fmt: skip
SPLIT = "r = Reshape(f, parts)\n t = Transpose<perm=[2,0,3,4,1]>(r)\n"
ATTENTION = "kt = Transpose<perm=[0,1,3,2]>(k)\n a = MatMul(q, kt)\n w1 = Softmax(a)\n o = MatMul(w1, v)\n"


def used(body: str, params: dict[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in params.items() if name in body.replace("(", " ").replace(")", " ")}


@pytest.mark.parametrize("end", ENDS)
def test_same_values_with_pictures_in_front(end: str) -> None:
    """[n, places, 3, heads, d], as queries, keys and values come."""
    body = SPLIT.replace("f,", "x,") + ENDS[end] + ATTENTION + "y = Relu(o)"
    params = used(body, {**INDICES, "parts": np.array([0, 10, 3, 2, 4])})
    model = graph_of(body, params, ("n", 10, 24), np.float32)
    x = np.random.default_rng(1).normal(size=(2, 10, 24)).astype(np.float32)

    def run() -> Any:
        session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {session.get_inputs()[0].name: x})[0]

    before = run()
    keep_pictures_first(model.graph)
    path = nodes_between(model.graph.outputs[0], [model.graph.inputs[0]])
    assert len(path) > 10
    assert all(v.shape is not None and str(v.shape[0]) == "n" for node in path for v in node.outputs)
    np.testing.assert_array_equal(run(), before)


@pytest.mark.parametrize(
    "extra", ["e = ReduceSum<keepdims=0>(t, zero)\n z = Add(o, e)\n y = Relu(z)", "y = Identity(t)"]
)
def test_what_is_used_otherwise_stays(extra: str) -> None:
    body = SPLIT.replace("f,", "x,") + ENDS["slice"] + ATTENTION + extra
    params = used(body, {**INDICES, "parts": np.array([0, 10, 3, 2, 4])})
    model = graph_of(body, params, ("n", 10, 24), np.float32)
    before = [node.op_type for node in model.graph]
    keep_pictures_first(model.graph)
    assert [node.op_type for node in model.graph] == before


def test_attention_over_channels_is_explained(tmp_path: Path, frame: Any) -> None:
    """Cross-covariance attention as EdgeNeXt has it: queries, keys and values from one product."""
    body = (
        "c = Conv<pads=[1,1,1,1], strides=[2,2]>(picture, w)\n d = Relu(c)\n g0 = Transpose<perm=[0,2,3,1]>(d)\n"
        "h = Reshape(g0, flat)\n u0 = MatMul(h, qkv)\n" + SPLIT.replace("f,", "u0,") + ENDS["slice"] + ATTENTION
        + "b = Transpose<perm=[0,3,1,2]>(o)\n m = Reshape(b, maps)\n n1 = Transpose<perm=[0,3,1,2]>(m)\n s = Add(n1, d)\n"
        + "e = Conv<pads=[1,1,1,1], strides=[2,2]>(s, v2)\n l = Relu(e)\n" + HEAD.format("l")
    )  # fmt: skip
    params = {
        **INDICES, "w": weights(8, 3, 3, 3), "flat": np.array([0, 384, 8]), "qkv": weights(8, 24),
        "parts": np.array([0, 384, 3, 2, 4]), "maps": np.array([0, 16, 24, 8]), "v2": weights(16, 8, 3, 3),
        "fc": 4 * weights(16, 4),
    }  # fmt: skip
    model = parsed(body, used(body, params))
    explainer = exported(model, tmp_path)
    assert [(layer.tensor, layer.channels, layer.height) for layer in explainer.manifest.layers] == [
        ("s", 8, 16),
        ("l", 16, 8),
    ]
    agrees(explainer, model, frame)
