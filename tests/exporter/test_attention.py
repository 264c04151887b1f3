"""Which products mix all places of the picture, on graphs small enough to read."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import graph_of

from sise_ort.errors import NoBlocksError
from sise_ort.exporter.attention import LINEAR_ATTENTION, MIXER, SELF_ATTENTION, mixings
from sise_ort.exporter.blocks import find_blocks

# t, u: [n, 96 places, 8 channels] and [n, 8 channels, 96 places]
STEM = "a = Conv(x, w)\n u = Reshape(a, flat)\n t = Transpose<perm=[0,2,1]>(u)\n"
MAPS = "b = Transpose<perm=[0,2,1]>({0})\n m = Reshape(b, maps)\n"
HEAD = "g = GlobalAveragePool({0})\n f = Flatten(g)\n y = Gemm(f, fc)"
PARAMS = {
    "w": np.ones((8, 3, 1, 1)), "flat": np.array([0, 8, 96]), "maps": np.array([0, 8, 8, 12]), "fc": np.ones((8, 5)),
    "tokens": np.ones((96, 96)), "hidden": np.ones((96, 20)), "back": np.ones((20, 96)), "one": np.ones((96, 1)),
    "channels": np.ones((8, 8)), "ax": np.array([2]), "query": np.ones((1, 8)), "conv": np.ones((96, 96, 1)),
    "whole": np.ones((768, 5)), "rows": np.array([0, 64, 12]), "mix": np.ones((64, 64)),
    "fc64": np.ones((64, 5)),
}  # fmt: skip


def kinds(body: str) -> list[str]:
    used = {name: array for name, array in PARAMS.items() if name in body}
    return [found.kind for found in mixings(graph_of(body, used, ("n", 3, 8, 12), np.float32).graph)]


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        # attention of places to places
        ("p = MatMul(t, u)\n s = Softmax(p)\n o = MatMul(s, t)\n" + MAPS.format("o"), [SELF_ATTENTION]),
        ("p = MatMul(t, u)\n o = MatMul(p, t)\n" + MAPS.format("o"), [SELF_ATTENTION]),
        ('p = Einsum<equation="nic,njc->nij">(t, t)\n s = Softmax(p)\n o = MatMul(s, t)\n' + MAPS.format("o"),
         [SELF_ATTENTION]),
        # linear attention: (uᵀt) multiplied with places again
        ("k = Relu(u)\n p = MatMul(k, t)\n o = MatMul(t, p)\n" + MAPS.format("o"), [LINEAR_ATTENTION]),
        ("k = Softmax(u)\n p = MatMul(k, t)\n q = Mul(p, p)\n o = MatMul(t, q)\n" + MAPS.format("o"), [LINEAR_ATTENTION]),
        # cross-covariance: a softmax over channels
        ("p = MatMul(u, t)\n s = Softmax(p)\n o = MatMul(t, s)\n" + MAPS.format("o"), []),
        # mixers
        ("h = MatMul(u, hidden)\n r = Relu(h)\n k = MatMul(r, back)\n m = Reshape(k, maps)\n", [MIXER, MIXER]),
        ("o = Conv(t, conv)\n" + MAPS.format("o"), [MIXER]),
        ("r = Reshape(a, rows)\n q = Transpose<perm=[0,2,1]>(r)\n k = MatMul(q, mix)\n o = Transpose<perm=[0,2,1]>(k)\n"
         "m = Reshape(o, maps)\n", [MIXER]),
        # what is the same for all places
        ("z = MatMul(u, one)\n v = MatMul(t, z)\n s = Softmax<axis=1>(v)\n p = MatMul(u, s)\n o = Add(u, p)\n"
         "m = Reshape(o, maps)\n", []),
        ("o = MatMul(t, channels)\n" + MAPS.format("o"), []),
        ("e = ReduceMean<keepdims=1>(u, ax)\n o = Mul(u, e)\n m = Reshape(o, maps)\n", []),
        ("o = LpNormalization<axis=2>(u)\n m = Reshape(o, maps)\n", []),
        ("q = MatMul(query, u)\n s = Softmax(q)\n p = Mul(u, s)\n e = ReduceSum(p, ax)\n o = Mul(u, e)\n"
         "m = Reshape(o, maps)\n", []),
    ],
)  # fmt: skip
def test_mixing(middle: str, expected: list[str]) -> None:
    assert kinds(STEM + middle + HEAD.format("m")) == expected


@pytest.mark.parametrize(
    "end",
    [
        "f = Flatten(a)\n y = Gemm(f, whole)",  # a head sums over places and channels
        "p = MatMul(u, t)\n f = Flatten(p)\n y = Gemm(f, fc64)",  # bilinear pooling: a summary that is only read
    ],
)
def test_heads_may_sum_over_places(end: str) -> None:
    assert kinds(STEM + end) == []


def test_the_error_says_what_was_found_and_where() -> None:
    body = STEM + "o = Conv(t, conv)\n" + MAPS.format("o") + HEAD.format("m")
    used = {name: array for name, array in PARAMS.items() if name in body}
    made = graph_of(body, used, ("n", 3, 8, 12), np.float32).graph
    with pytest.raises(
        NoBlocksError, match=r"by a learned layer over places .*1 times, first in operator Conv.*layers="
    ):
        find_blocks(made)
