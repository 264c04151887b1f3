"""The block rule on graphs small enough to work out by hand; test_networks.py has the real families."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from gradcheck import graph_of

from sise_ort.errors import NoBlocksError
from sise_ort.exporter.blocks import candidates, choose_blocks, find_blocks, module_path
from sise_ort.exporter.bottlenecks import bottlenecks

HEAD = "g = GlobalAveragePool({0})\n y = Flatten(g)"


def w(outputs: int, inputs: int, side: int = 3) -> np.ndarray:  # type: ignore[type-arg]
    return np.ones((outputs, inputs, side, side))


def graph(body: str, **params: np.ndarray) -> ir.Graph:  # type: ignore[type-arg]
    return graph_of(body, params, ("n", 3, 32, 48), np.float32).graph


def names(body: str, **params: np.ndarray) -> list[str]:  # type: ignore[type-arg]
    return [c.tensor for c in find_blocks(graph(body, **params))]


def test_a_residual_branch_is_no_bottleneck() -> None:
    body = (
        "a = Conv<pads=[1,1,1,1]>(x, w)\n b = Conv<pads=[1,1,1,1]>(a, v)\n c = Add(a, b)\n r = Relu(c)\n"
        + HEAD.format("r")
    )
    tensors = [v.name for v in bottlenecks(graph(body, w=w(4, 3), v=w(4, 4)))]
    assert tensors == ["x", "a", "c", "r", "g", "y"]
    assert names(body, w=w(4, 3), v=w(4, 4)) == ["r"]


def test_each_resolution_is_a_block_and_pooling_makes_none() -> None:
    body = (
        "a = Conv<pads=[1,1,1,1]>(x, w)\n r = Relu(a)\n p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)\n"
        "b = Conv<pads=[1,1,1,1]>(p, v)\n s = Relu(b)\n q = MaxPool<kernel_shape=[2,2], strides=[2,2]>(s)\n d = Dropout(q)\n"
        + HEAD.format("d")
    )
    found = {c.tensor: c.why_not for c in candidates(graph(body, w=w(4, 3), v=w(5, 4)))}
    assert names(body, w=w(4, 3), v=w(5, 4)) == ["r", "s"]
    assert found["x"] == "before the first layer"
    assert found["p"] == found["q"] == found["d"] == "only pooled"
    assert found["g"] == "pooled to 1×1"


def test_unpadded_convolutions_open_no_block() -> None:
    body = "a = Conv(x, w)\n b = Conv(a, v)\n c = Conv<strides=[2,2]>(b, v)\n" + HEAD.format("c")
    assert names(body, w=w(4, 3), v=w(4, 4)) == ["b", "c"]  # 30 × 46, 28 × 44, then 13 × 21


def test_normalisation_inside_the_graph_is_no_block() -> None:
    body = "m = Sub(x, mean)\n a = Conv<strides=[2,2], pads=[1,1,1,1]>(m, w)\n" + HEAD.format("a")
    assert names(body, w=w(4, 3), mean=np.ones((1, 3, 1, 1))) == ["a"]


def test_one_side_that_shrinks_is_enough() -> None:
    body = "a = Conv<pads=[1,1,1,1]>(x, w)\n b = Conv<pads=[1,1,1,1], strides=[1,2]>(a, v)\n" + HEAD.format(
        "b"
    )
    assert names(body, w=w(4, 3), v=w(4, 4)) == ["a", "b"]


def test_no_block_says_so() -> None:
    with pytest.raises(NoBlocksError, match="no spatial block found"):
        names(HEAD.format("x"))


@pytest.mark.parametrize(
    ("node", "scopes", "path"),
    [
        ("/layer1/layer1.0/relu/Relu", None, "layer1.0.relu"),
        ("/features/features.2/block/block.0/block.0.2/Relu", None, "features.2.block.0.2"),
        ("/Conv2d_2b_3x3/Relu", None, "Conv2d_2b_3x3"),
        ("/Relu", None, ""),
        ("Relu_17", None, ""),
        ("node_relu", "['', 'layer1', 'layer1.0', 'relu']", "layer1.0"),
    ],
)
def test_module_paths(node: str, scopes: str | None, path: str) -> None:
    relu = ir.node("Relu", [ir.Value(name="x")], name=node)
    if scopes:
        relu.metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    assert module_path(relu.outputs[0]) == path


# Where channels lie ----------------------------------------------------------------------------------


def sizes(body: str, **params: np.ndarray) -> list[tuple[str, int, int, int]]:  # type: ignore[type-arg]
    return [(c.tensor, c.channels, c.height, c.width) for c in find_blocks(graph(body, **params))]


def test_channels_last_tensors_are_read_as_such() -> None:
    """Only pooled and flattened afterwards, so that the last tensor of each block lies [n, h, w, c]."""
    body = (
        "a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w)\n t = Transpose<perm=[0,2,3,1]>(a)\n l = LayerNormalization(t, one)\n"
        "m = MatMul(l, fc)\n u = Transpose<perm=[0,3,1,2]>(m)\n b = Conv<strides=[2,2], pads=[1,1,1,1]>(u, v)\n"
        "k = Transpose<perm=[0,2,3,1]>(b)\n e = Elu(k)\n y = ReduceMean<keepdims=0>(e, axes)"
    )
    params = {
        "w": w(16, 3),
        "one": np.ones(16),
        "fc": np.ones((16, 8)),
        "v": w(24, 8),
        "axes": np.array([1, 2]),
    }
    assert sizes(body, **params) == [("u", 8, 16, 24), ("e", 24, 8, 12)]
    assert [c.axes for c in find_blocks(graph(body, **params))] == [(1, 2, 3), (3, 1, 2)]


def test_reshaped_maps_are_told_by_where_their_size_stands() -> None:
    body = (
        "a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w)\n f = Reshape(a, flat)\n t = Transpose<perm=[0,2,1]>(f)\n"
        "l = Reshape(t, last)\n y = ReduceMean<keepdims=0>(l, axes)"
    )
    params = {
        "w": w(20, 3),
        "flat": np.array([0, 20, -1]),
        "last": np.array([-1, 16, 24, 20]),
        "axes": np.array([1, 2]),
    }
    found = {c.tensor: (c.channels, c.height, c.width) for c in candidates(graph(body, **params))}
    assert found["a"] == found["l"] == (20, 16, 24)
    assert "f" not in found


# Transformers ----------------------------------------------------------------------------------------

ATTENTION = (
    "a = Conv<strides=[8,8]>(x, w)\n f = Reshape(a, flat)\n t = Transpose<perm=[0,2,1]>(f)\n q = MatMul(t, wq)\n"
    "k = MatMul(f, wk)\n p = MatMul(q, f)\n scaled = Div(p, root)\n s = Softmax(scaled)\n o = MatMul(s, t)\n"
    "y = ReduceMean<keepdims=0>(o, axes)"
)


def test_self_attention_is_refused_unless_layers_are_named() -> None:
    params = {"w": w(4, 3, 8), "flat": np.array([0, 4, -1]), "wq": np.ones((4, 4)), "wk": np.ones((24, 24)),
              "root": np.array(2.0), "axes": np.array([1])}  # fmt: skip
    transformer = graph(ATTENTION, **params)
    with pytest.raises(
        NoBlocksError, match=r"is a transformer: .* self-attention \(1 times, first in operator Softmax"
    ):
        find_blocks(transformer)
    assert [c.tensor for c in choose_blocks(transformer, ["a"])] == ["a"]


def test_a_softmax_over_channels_is_no_self_attention() -> None:
    """Selective kernels and global context weigh by a softmax of one convolution's output."""
    body = (
        "a = Conv<pads=[1,1,1,1]>(x, w)\n p = GlobalAveragePool(a)\n s = Softmax<axis=1>(p)\n m = Mul(a, s)\n"
        + HEAD.format("m")
    )
    assert names(body, w=w(4, 3)) == ["m"]


def test_a_pooled_tensor_stays_pooled_behind_its_quantiser() -> None:
    body = (
        "a = Conv<pads=[1,1,1,1]>(x, w)\n r = Relu(a)\n p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)\n"
        "q = QuantizeLinear(p, s, z)\n d = DequantizeLinear(q, s, z)\n" + HEAD.format("d")
    )
    scale, zero = np.array(0.5, np.float32), np.array(0, np.uint8)
    found = {c.tensor: c.why_not for c in candidates(graph(body, w=w(4, 3), s=scale, z=zero))}
    assert found["p"] == found["d"] == "only pooled"
    assert "q" not in found
