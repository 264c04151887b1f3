"""FullGrad: every bias of the graph is found, or refused, or reported as what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import HEAD, STEM, WEIGHTS, exported, parsed, weights

from sise_ort.errors import GradientError

BIASES = {
    "batch normalisation": (
        "c = Conv<pads=[1,1,1,1]>(picture, w)\n b = BatchNormalization<epsilon=0.1>(c, gamma, beta, mu, var)\n r = Relu(b)",
        {"gamma": weights(8), "beta": weights(8, seed=1), "mu": weights(8, seed=2), "var": np.abs(weights(8, seed=5))},
    ),
    "sums and differences": (
        "c = Conv<pads=[1,1,1,1]>(picture, w)\n a = Add(beta, c)\n t = Relu(a)\n d = Sub(mu, t)\n e = LeakyRelu(d)\n r = Sub(e, one)",
        {"beta": weights(1, 8, 1, 1), "mu": weights(8, 1, 1, seed=2), "one": np.float32([0.3])},
    ),
    "a transposed convolution": (
        "c = Conv<pads=[1,1,1,1], strides=[2,2]>(picture, w, b)\n t = Relu(c)\n r = ConvTranspose<strides=[2,2]>(t, up, b2)",
        {"b": weights(8, seed=1), "up": weights(8, 8, 2, 2), "b2": weights(8, seed=2)},
    ),
    "channels last": (
        "l = Transpose<perm=[0,2,3,1]>(picture)\n m = MatMul(l, dense)\n a = Add(m, b)\n t = Relu(a)\n"
        " r = Transpose<perm=[0,3,1,2]>(t)",
        {"dense": weights(3, 8), "b": weights(8, seed=1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BIASES)
def test_full_grad_finds_every_bias(tmp_path: Path, frame: Any, kind: str) -> None:
    """Completeness: for piecewise linear networks through 0 all terms add up to the score, if no bias is missed."""
    body, params = BIASES[kind]
    tail = (
        "\n q = Conv<pads=[1,1,1,1]>(r, v, vb)\n s = Relu(q)\n g = GlobalAveragePool(s)\n f = Flatten(g)\n"
        " scores = Gemm<beta=0.5>(f, fc, fb)"
    )
    model = parsed(body + tail, WEIGHTS | params | {"vb": weights(16, seed=7), "fb": 3 * weights(4, seed=8)})
    explainer = exported(model, tmp_path, graphs=("full-gradient",))
    for result in explainer.explain(frame, [0, 1, 2, 3], method="fullgrad"):
        assert result.facts["completeness_error"] < 1e-3
        assert result.heatmap.max() == 1


def test_full_grad_refuses_biases_that_mix_pictures_and_places(tmp_path: Path) -> None:
    body = STEM + "m = Reshape(s, merged)\n a = Add(m, b)\n k = Reshape(a, back)\n" + HEAD.format("k")
    params = {"merged": np.array([-1, 12]), "back": np.array([-1, 16, 8, 12]), "b": weights(12)}
    with pytest.raises(GradientError, match=r"Add .* adds a bias to a tensor whose first axis"):
        exported(parsed(body, WEIGHTS | params), tmp_path, graphs=("full-gradient",))
    assert exported(parsed(body, WEIGHTS | params), tmp_path, graphs=("image-gradient",)).methods


def test_an_operator_without_a_rule_before_the_first_block(tmp_path: Path, frame: Any) -> None:
    """It does not matter for SISE, but for gradients down to the picture."""
    body = STEM.replace("picture, w", "odd, w") + HEAD.format("s")
    model = parsed("odd = Hardmax<axis=1>(picture)\n" + body, WEIGHTS)
    assert exported(model, tmp_path).explain(frame).heatmap.any()
    with pytest.raises(
        GradientError, match=r"no gradient rule for operator Hardmax .* leave out image-gradient"
    ):
        exported(model, tmp_path, graphs=("image-gradient",), force=True)


def test_full_grad_reports_what_activations_add(tmp_path: Path, frame: Any) -> None:
    """Smooth activations have biases of their own, which the method leaves out: the error says how much they are."""
    body = (
        STEM.replace("Relu(c)", "Sigmoid(c)")
        + "g = GlobalAveragePool(s)\n f = Flatten(g)\n scores = Gemm(f, fc)"
    )
    result = exported(parsed(body, WEIGHTS), tmp_path, graphs=("full-gradient",)).explain(
        frame, 0, method="fullgrad"
    )
    assert result.facts["completeness_error"] > 0.05
