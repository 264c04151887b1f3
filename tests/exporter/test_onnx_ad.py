"""Our gradients against onnx-ad's, an independent package that differentiates ONNX graphs, where it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ad
import onnx_ir as ir
import pytest
from gradcheck import graph_of, relative, run_onnxruntime, with_gradient
from rule_cases import CASES, Case

# What onnx-ad 0.3 refuses (or, where it says so, gets wrong: test_rules.py compares these with torch as well).
WITHOUT = frozenset(
    {
        "AveragePool/SAME_LOWER", "AveragePool/ceil", "Conv/SAME_LOWER", "Conv/SAME_UPPER", "MaxPool/SAME_UPPER",
        "Pad/edge", "Pad/reflect", "Pow/square", "Slice/backwards", "Slice/every second", "Slice/turned",
        "Conv/7x7 stride 4", "Conv/asymmetric", "Conv/asymmetric strided",  # wrong, by more than the gradient's size
        "ConvTranspose/longer", "Pad/negative",  # an invalid graph
        "QuantizeLinear", "QuantizeLinear/channels", "QuantizeLinear/relu",  # zero: not straight-through
        "ReduceProd/zeros",  # divides by the zeros
    }
)  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in WITHOUT], ids=lambda c: c.name)
def test_against_onnx_ad(case: Case, rng: np.random.Generator) -> None:
    x = (case.scale * rng.normal(0, 1, (1, *case.shape))).astype(np.float32)
    plain = ir.to_proto(graph_of(case.body, case.params, x.shape, np.float32))
    (y,) = run_onnxruntime(plain, {"x": x})
    seed = rng.normal(0, 1, y.shape).astype(np.float32)
    reversed_model = onnx_ad.reverse(plain, layout="onnx")
    names = [value.name for value in reversed_model.graph.output]
    feeds: dict[str, Any] = {"x": x, "adj_y": seed[..., None]}  # the last axis counts seeds
    theirs = run_onnxruntime(reversed_model, feeds)[names.index("adj_x")][..., 0]
    ours = with_gradient(graph_of(case.body, case.params, ("n", *case.shape), np.float32))
    assert relative(run_onnxruntime(ours, {"x": x, "seed": seed})[1], theirs) < 1e-5


def test_the_list_of_exceptions_names_cases() -> None:
    assert {case.name for case in CASES} >= WITHOUT
