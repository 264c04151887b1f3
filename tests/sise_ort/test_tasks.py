"""Every task's seed is the gradient of its Ψ, and Ψ is what it says: against torch autograd in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sise_ort.formulas.detection import detection_seed
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.seed import NO_OTHER, RUNNER_UP
from sise_ort.heads import Head
from sise_ort.readouts import Question, class_answers
from sise_ort.tasks import Classes, Detector, Embedding, Segmentation, Task, Values

Array = NDArray[Any]
Psi = Callable[[Tensor], Tensor]
KINDS = ("softmax", "sigmoid", "none")
GAP = 40.0
"""Between logits: in float32 a confidence is 1 or its rest 0 from 18 on."""


def activated(kind: str, z: Tensor, axis: int) -> Tensor:
    """Confidences as the page of the method defines them."""
    return {
        "softmax": lambda: torch.softmax(z, axis),
        "sigmoid": lambda: torch.sigmoid(z),
        "none": lambda: z,
    }[kind]()


def gradient(psi: Psi, scores: Array) -> Array:
    z = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(psi(z), z)
    return found[0].numpy()


def seed(
    task: Task,
    head: Head,
    scores: Array,
    given: Mapping[str, Array],
    contrast: float,
    dtype: Any = np.float64,
) -> Array:
    own = {k: np.asarray(v, dtype) if np.asarray(v).dtype.kind == "f" else v for k, v in given.items()}
    found = task.seed(NumpyOps(dtype), head, scores.astype(dtype), own, np.asarray(contrast, dtype))
    assert found.dtype == dtype
    return np.asarray(found, np.float64)


def read(task: Task, head: Head, outputs: Mapping[str, Array], given: Mapping[str, Array]) -> Array:
    return np.stack(task.read(NumpyOps(), head, outputs, given))


def parallel(ours: Array, theirs: Array, tolerance: float = 1e-9) -> None:
    """Cosine 1, and the same direction, of arrays that may be as small as float64 can hold."""
    a, b = (v.ravel() / np.abs(v).max() for v in (ours, theirs))
    distance = np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
    assert distance**2 / 2 <= tolerance  # 1 - cosine, without its cancellation


# Classes --------------------------------------------------------------------------------------------

CLASSES = 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_class(rng: np.random.Generator, kind: str) -> None:
    task, head = Classes(), Head(kind, CLASSES)
    for scores in (3 * rng.normal(size=(1, CLASSES)), np.array([[0.0, 9, -6, 2, 8]])):
        for index in range(CLASSES):
            given = {"class": np.array([index]), "other": np.array([NO_OTHER])}
            theirs = gradient(lambda z, i=index: activated(kind, z, 1)[0, i], scores)
            parallel(seed(task, head, scores, given, task.contrast(head))[0], theirs)
            plain = gradient(lambda z, i=index: z[0, i], scores)
            assert seed(task, head, scores, given, 0.0)[0].tolist() == plain.tolist()


def test_a_class_that_is_certain() -> None:
    """In float32 p_c is 1 or 0; the gradient's direction is still that of float64."""
    task, head = Classes(), Head("softmax", CLASSES)
    scores = np.array([[GAP, 0.0, 1, -2, 0.5]])
    given = {"class": np.array([0, 1]), "other": np.full(2, NO_OTHER)}
    found = seed(task, head, scores, given, 1.0, np.float32)
    for index in (0, 1):

        def psi(z: Tensor, i: int = index) -> Tensor:
            return torch.log_softmax(z, 1)[0, i]  # the gradient of p_i but for the factor p_i

        parallel(found[index], gradient(psi, scores) if index else certain(scores, 0), 1e-9)


def certain(scores: Array, index: int) -> Array:
    """Direction of ∂p_c/∂z from its form p_c (1 - p_c) (e_c - q), which loses nothing."""
    others = np.delete(np.arange(scores.shape[1]), index)
    q = torch.softmax(torch.tensor(scores[0, others]), 0).numpy()
    found = np.zeros(scores.shape[1])
    found[index], found[others] = 1, -q
    return found


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_a_class_rather_than_another(rng: np.random.Generator, kind: str, contrast: float) -> None:
    task, head = Classes(), Head(kind, CLASSES)
    scores = 3 * rng.normal(size=(1, CLASSES))
    order = np.argsort(scores[0])[::-1]
    given = {"class": np.array([0, 4, -1, int(order[2])]), "other": np.array([3, 1, RUNNER_UP, RUNNER_UP])}
    pairs = [(0, 3), (4, 1), (order[0], order[1]), (order[2], order[0])]
    found = seed(task, head, scores, given, contrast)
    for k, (c, d) in enumerate(pairs):
        parallel(found[k], gradient(lambda z, c=c, d=d: torch.sigmoid(z[0, c] - z[0, d]), scores))
        assert found[k].tolist() == gradient(lambda z, c=c, d=d: z[0, c] - z[0, d], scores).tolist()

    asked = [
        Question.of_class(int(c), other=int(d)).known(scores[0])
        for c, d in zip(given["class"], given["other"], strict=True)
    ]
    assert [(q.index, q.other) for q in asked] == [tuple(map(int, pair)) for pair in pairs]
    answers = class_answers(head, asked, scores)
    p = torch.softmax(torch.tensor(scores[0]), 0).numpy()
    for k, (c, d) in enumerate(pairs):
        assert answers.psi[k, 0] == pytest.approx(p[c] / (p[c] + p[d]), rel=1e-12)
        assert answers.score[k, 0] == pytest.approx(scores[0, c] - scores[0, d], rel=1e-12)


def test_the_absence_of_a_class(rng: np.random.Generator) -> None:
    head, scores = Head("sigmoid", CLASSES), 3 * rng.normal(size=(1, CLASSES))
    question = Question.of_class(2, absent=True)
    theirs = gradient(lambda z: 1 - torch.sigmoid(z[0, 2]), scores)
    given = {"class": np.array([2]), "other": np.array([NO_OTHER])}
    parallel(question.sign * seed(Classes(), head, scores, given, 0.0)[0], theirs)
    answers = class_answers(head, [question], scores)
    assert answers.psi[0, 0] == pytest.approx(1 - 1 / (1 + np.exp(-scores[0, 2])), rel=1e-12)
    assert answers.score[0, 0] == -scores[0, 2]


# Regions --------------------------------------------------------------------------------------------

HEIGHT, WIDTH = 3, 4


def regions(rng: np.random.Generator) -> Array:
    """Weights that add up to 1: some places, all of them, one of them, and shares of places."""
    some = (rng.random((HEIGHT, WIDTH)) < 0.5).astype(np.float64)
    some[1, 2] = 1
    one = np.zeros((HEIGHT, WIDTH))
    one[2, 1] = 1
    shares = rng.random((HEIGHT, WIDTH)) * some
    found = np.stack([some, np.ones((HEIGHT, WIDTH)), one, shares])
    return np.asarray(found / found.sum((1, 2), keepdims=True))


def mean_over(kind: str, index: int, region: Array) -> Psi:
    weights = torch.tensor(region)
    return lambda z: (activated(kind, z, 1)[0, index] * weights).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_over_a_region(rng: np.random.Generator, kind: str) -> None:
    task, head = Segmentation(HEIGHT, WIDTH), Head(kind, CLASSES)
    scores = 3 * rng.normal(size=(3, CLASSES, HEIGHT, WIDTH))
    given = {"class": np.array([0, 4, 2, 1]), "region": regions(rng)}
    found = seed(task, head, scores[:1], given, task.contrast(head))
    plain = seed(task, head, scores[:1], given, 0.0)
    psi, score = read(task, head, {"scores": scores}, given)
    assert psi.shape == score.shape == (4, 3)
    for k, (index, region) in enumerate(zip(given["class"], given["region"], strict=True)):
        confidence, raw = mean_over(kind, index, region), mean_over("none", index, region)
        parallel(found[k], gradient(confidence, scores[:1]))
        np.testing.assert_allclose(plain[k], gradient(raw, scores[:1]), rtol=1e-12, atol=0)
        for n in range(3):
            z = torch.tensor(scores[n : n + 1])
            assert psi[k, n] == pytest.approx(float(confidence(z)), rel=1e-12)
            assert score[k, n] == pytest.approx(float(raw(z)), rel=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_region_where_the_class_is_certain(rng: np.random.Generator, kind: str, sign: int) -> None:
    """Certain at all places, to a different degree at each: in float32 every p (1 - p) is 0."""
    task, head = Segmentation(HEIGHT, WIDTH), Head(kind, CLASSES)
    scores = rng.normal(size=(1, CLASSES, HEIGHT, WIDTH))
    scores[0, 1] += sign * (GAP + rng.normal(size=(HEIGHT, WIDTH)))
    scores = scores.astype(np.float32).astype(np.float64)
    region = regions(rng)[:1]
    found = seed(task, head, scores, {"class": np.array([1]), "region": region}, 1.0, np.float32)[0]

    z = scores[0]  # from p (1 - p) = exp(-|d|) / (1 + exp(-|d|))², which loses nothing in float64
    rest = np.delete(z, 1, 0)
    d = z[1] - np.log(np.exp(rest).sum(0)) if kind == "softmax" else z[1]
    factor = region[0] * np.exp(-np.abs(d)) / (1 + np.exp(-np.abs(d))) ** 2
    theirs = np.zeros_like(z)
    theirs[1] = factor
    if kind == "softmax":
        theirs[[0, 2, 3, 4]] = -factor * np.exp(rest) / np.exp(rest).sum(0)
    parallel(found, theirs)
    if sign < 0:  # here autograd, too, loses nothing
        parallel(found, gradient(mean_over(kind, 1, region[0]), scores))


# Detections -----------------------------------------------------------------------------------------

CANDIDATES = 6


def best_of(kind: str, index: int, candidates: Array, objectness: bool) -> tuple[Psi, Psi]:
    """Ψ and the score from the definition: the highest value of the candidates that count."""
    places = torch.tensor(np.flatnonzero(candidates))

    def psi(z: Tensor) -> Tensor:
        own = activated(kind, z[0, places, :CLASSES], 1)[:, index]
        return (own * torch.sigmoid(z[0, places, CLASSES]) if objectness else own).max()

    def score(z: Tensor) -> Tensor:
        own = z[0, places, index]
        return (own + z[0, places, CLASSES] if objectness else own).max()

    return psi, score


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("objectness", [False, True])
def test_a_detection(rng: np.random.Generator, kind: str, objectness: bool) -> None:
    task, head = Detector(CANDIDATES, objectness), Head(kind, CLASSES)
    candidates = np.array([[1, 0, 1, 1, 0, 1], [1] * 6, [0, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0.0]])
    for _ in range(20):  # the surest candidate is not always that of the highest score
        scores = 3 * rng.normal(size=(3, CANDIDATES, CLASSES + objectness))
        given = {"class": rng.integers(0, CLASSES, 4), "candidates": candidates}
        found = seed(task, head, scores[:1], given, task.contrast(head))
        plain = seed(task, head, scores[:1], given, 0.0)
        psi, score = read(task, head, {"scores": scores}, given)
        for k, (index, counted) in enumerate(zip(given["class"], candidates, strict=True)):
            confidence, raw = best_of(kind, int(index), counted, objectness)
            parallel(found[k], gradient(confidence, scores[:1]))
            assert plain[k].tolist() == gradient(raw, scores[:1]).tolist()
            for n in range(3):
                z = torch.tensor(scores[n : n + 1])
                assert psi[k, n] == pytest.approx(float(confidence(z)), rel=1e-12)
                assert score[k, n] == pytest.approx(float(raw(z)), rel=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("objectness", [False, True])
def test_a_detection_that_is_certain(rng: np.random.Generator, kind: str, objectness: bool) -> None:
    """Several candidates have the confidence 1 in float32: the surest is that of float64."""
    task, head = Detector(CANDIDATES, objectness), Head(kind, CLASSES)
    scores = rng.normal(size=(1, CANDIDATES, CLASSES + objectness)).astype(np.float32).astype(np.float64)
    scores[0, :, 2] = [GAP, 0, GAP + 5, GAP + 2, GAP + 30, 0]
    if objectness:
        scores[0, :, CLASSES] = [GAP + 1, 0, GAP + 4, GAP + 9, 0, 0]
    candidates = np.array([[1, 1, 1, 1, 0, 1.0]])
    found = seed(task, head, scores, {"class": np.array([2]), "candidates": candidates}, 1.0, np.float32)[0]
    z = scores[0, 2]
    rest = np.delete(z[:CLASSES], 2)
    d = z[2] - np.log(np.exp(rest).sum()) if kind == "softmax" else z[2]
    theirs = np.zeros_like(scores[0])  # 1 - σ(d) = exp(-d) / (1 + exp(-d))
    theirs[2, 2] = slope = np.exp(-d) / (1 + np.exp(-d))
    if kind == "softmax":
        theirs[2, [0, 1, 3, 4]] = -slope * np.exp(rest) / np.exp(rest).sum()
    if objectness:
        theirs[2, CLASSES] = np.exp(-z[CLASSES]) / (1 + np.exp(-z[CLASSES]))
    parallel(found, theirs)


# Likeness and values --------------------------------------------------------------------------------


def test_likeness(rng: np.random.Generator) -> None:
    length = 7
    task, head = Embedding(), Head("none", length)
    vectors, reference = 5 * rng.normal(size=(3, length)), rng.normal(size=(4, length))
    reference[1] = 2 * vectors[0] + 1e-3 * rng.normal(size=length)  # nearly alike
    reference[2] = -vectors[0] + 0.1 * rng.normal(size=length)
    given = {"reference": reference}
    psi, score = read(task, head, {"scores": vectors}, given)
    for contrast in (0.0, task.contrast(head)):
        found = seed(task, head, vectors[:1], given, contrast)
        for k, r in enumerate(torch.tensor(reference)):

            def cosine(z: Tensor, r: Tensor = r) -> Tensor:
                return torch.dot(z[0], r) / (z[0].norm() * r.norm())

            theirs = gradient(cosine, vectors[:1])
            parallel(found[k], theirs)
            np.testing.assert_allclose(found[k], theirs, rtol=1e-9, atol=1e-15)
            for n in range(3):
                own = float(cosine(torch.tensor(vectors[n : n + 1])))
                assert psi[k, n] == pytest.approx((1 + own) / 2, rel=1e-12)
                assert score[k, n] == pytest.approx(own, rel=1e-12)


def test_likeness_of_what_is_the_same(rng: np.random.Generator) -> None:
    """Ψ is 1, no more; nothing makes it larger."""
    vector = rng.normal(size=(1, 64))
    for dtype in (np.float32, np.float64):
        z = vector.astype(dtype)
        psi, _ = Embedding().read(NumpyOps(dtype), Head("none", 64), {"scores": z}, {"reference": 3 * z})
        assert 1 - 1e-6 < psi[0, 0] <= 1
        found = seed(Embedding(), Head("none", 64), z, {"reference": 3 * z}, 1.0, dtype)
        assert np.abs(found).max() <= 4 * np.finfo(dtype).eps
    nothing = np.zeros((1, 64))
    psi, score = read(Embedding(), Head("none", 64), {"scores": nothing}, {"reference": vector})
    assert psi[0, 0] == 0.5 and score[0, 0] == 0


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 5)])
def test_values(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    task = Values(shape)
    head = Head("none", task.size)
    values, weights = rng.normal(size=(3, *shape)), rng.random((2, *shape))
    for contrast in (0.0, 1.0):
        found = seed(task, head, values[:1], {"weights": weights}, contrast)
        for k, own in enumerate(torch.tensor(weights)):
            assert found[k].tolist() == gradient(lambda z, w=own: (z[0] * w).sum(), values[:1]).tolist()
    psi, score = read(task, head, {"scores": values}, {"weights": weights})
    theirs = (
        np.einsum("n...,k...->kn", values, weights)
        if not shape
        else np.tensordot(weights, values, (range(1, len(shape) + 1),) * 2)
    )
    np.testing.assert_allclose(psi, theirs, rtol=1e-12)
    assert score.tolist() == psi.tolist()


def test_which_psi_is_bounded() -> None:
    for kind in KINDS:
        head = Head(kind, CLASSES)
        assert Classes().bounded(head) == Segmentation(2, 2).bounded(head) == (kind != "none")
    assert Detector(3).bounded(Head("sigmoid", 2)) and Embedding().bounded(Head("none", 4))
    assert not Values((3,)).bounded(Head("none", 3))


def test_the_seed_of_a_detection_does_not_underflow() -> None:
    """Both factors, 1 - σ(z), are 0 in float32 from z = 104 on; their ratio, e to 1, stays."""
    scores = np.array([[[200.0, 0.0, 201.0]]], np.float32)
    given = np.array([0]), np.ones((1, 1), np.float32), np.float32(1)
    found = detection_seed(NumpyOps(np.float32), scores, *given, (1, 2, True), False)
    np.testing.assert_allclose(found[0, 0], [1, 0, np.exp(-1.0)], rtol=1e-5)
