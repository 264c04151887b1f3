"""Heads against torch and the definition, and what each of them knows."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from sise_ort.errors import TargetError
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, finish, new_graph, tensor_input
from sise_ort.heads import KINDS, Head

SCORES = np.array([[0.0, 1.5, -2.0], [700.0, -30.0, 90.0], [-1e-3, 0.0, 1e-3]], np.float32)
BY_TORCH: dict[str, Any] = {
    "softmax": lambda z: torch.softmax(z, -1),
    "sigmoid": torch.sigmoid,
    "none": lambda z: z,
}


@pytest.mark.parametrize("kind", KINDS)
def test_confidences_against_torch(kind: Any) -> None:
    expected = BY_TORCH[kind](torch.tensor(SCORES.astype(np.float64))).numpy()
    head = Head(kind, 3)
    np.testing.assert_allclose(head.confidences(SCORES), expected, rtol=1e-12, atol=0)
    np.testing.assert_allclose(head.confidences(SCORES[0]), expected[0], rtol=1e-12, atol=0)
    assert head.confidences(SCORES).dtype == np.float64
    assert head.bounded == bool((expected >= 0).all() and (expected <= 1).all())


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_computes_the_same(kind: Any) -> None:
    scores = tensor_input("scores", FLOAT, ["n", 3])
    graph = new_graph("head", [scores])
    found = Head(kind, 3).confidence(Ops(graph), scores)
    model = finish(graph, {"confidence": found}, {"confidence": ["n", 3]})
    assert sum(1 for _ in model.graph) == 1
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (ours,) = session.run(None, {"scores": SCORES})
    np.testing.assert_allclose(ours, Head(kind, 3).confidences(SCORES), rtol=1e-6, atol=1e-7)


def test_confidences_by_hand() -> None:
    z = np.log(np.array([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(Head("softmax", 3).confidences(z), [1 / 8, 2 / 8, 5 / 8], rtol=1e-15)
    np.testing.assert_allclose(Head("sigmoid", 3).confidences(z), [1 / 2, 2 / 3, 5 / 6], rtol=1e-15)


def test_an_absence_is_exact_where_the_class_is_certain() -> None:
    head = Head("sigmoid", 1)
    for z in (-40.0, -1.0, 0.0, 3.0, 40.0, 300.0):
        exact = 1 / (1 + math.exp(z))
        assert head.absence(np.array([z]))[0] == pytest.approx(exact, rel=1e-13, abs=0)
    assert 1 - head.confidences(np.array([40.0]))[0] == 0  # what the difference would have been


def test_positive_is_over_half() -> None:
    scores = np.array([-3.0, 0.0, 1e-6, 5.0], np.float32)
    head = Head("sigmoid", 4)
    assert head.positive(scores).tolist() == [2, 3]
    assert np.flatnonzero(head.confidences(scores) > 0.5).tolist() == [2, 3]


@pytest.mark.parametrize(("kind", "why"), [("softmax", "shared|shares"), ("none", "raw scores")])
def test_heads_without_independent_classes_refuse(kind: Any, why: str) -> None:
    head = Head(kind, 3)
    with pytest.raises(TargetError, match=why):
        head.absence(np.zeros(3))
    with pytest.raises(TargetError, match=f"not:bee.*{why}".replace("|shares", "|not:bee.*shares")):
        head.require_absence("not:bee")
    with pytest.raises(TargetError, match=why):
        head.positive(np.zeros(3))


def test_words() -> None:
    assert [Head("softmax", 2, assumed=a).words for a in (False, True)] == ["softmax", "softmax (assumed)"]
    assert {kind: Head(kind, 2).contrast for kind in KINDS} == {"softmax": 1.0, "sigmoid": 0.0, "none": 0.0}  # type: ignore[arg-type]


def test_a_manifest_can_hold_a_head() -> None:
    head = Head("sigmoid", 7, assumed=True)
    text = msgspec.json.encode(head)
    assert msgspec.json.decode(text, type=Head) == head
    with pytest.raises(msgspec.ValidationError, match="kind"):
        msgspec.json.decode(text.replace(b"sigmoid", b"magic"), type=Head)
