"""What a budget knows of masks: the process against closed forms, choices against dense algebra, evidence against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_model

import sise_ort
from sise_ort.formulas.resampling import cell_means
from sise_ort.formulas.sketch import grid
from sise_ort.readouts import Question
from sise_ort.runtime.methods import Budget, Call
from sise_ort.runtime.methods.budget.knowledge import moments, vectors
from sise_ort.runtime.methods.budget.process import NOISE, MaskProcess
from sise_ort.runtime.methods.budget.search import Search, evidence
from sise_ort.runtime.methods.selection import Selection

Array = Any


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> sise_ort.Explainer:
    """Three blocks with 32, 48 and 64 maps."""
    folder: Path = tmp_path_factory.mktemp("knowledge")
    onnx.save(tiny_model(seed=3, width=4), folder / "tiny.onnx")
    sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf")
    return sise_ort.load(folder / "tiny.sise", provider="cpu", batch_size=4)


def selected(explainer: sise_ort.Explainer, frame: Any, classes: tuple[int, ...] = (2,)) -> Selection:
    model = explainer.model
    return Selection(model, model.upload(frame), [Question.of_class(k) for k in classes], 0.0)


def matern(a: Array, b: Array) -> Array:
    r = np.sqrt(3.0) * np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=-1)
    return (1 + r) * np.exp(-r)


def observed_process(seed: int = 0, count: int = 60, seen: int = 15) -> tuple[MaskProcess, Array, list[int]]:
    points = np.random.default_rng(seed).normal(0, 0.5, (count, 5))
    process, places = MaskProcess(points, seen), list(range(0, 3 * seen, 3))
    for place in places:
        process.observe(place)
    return process, points, places


@pytest.mark.parametrize("seed", range(3))
def test_process_against_the_closed_form(seed: int) -> None:
    """Posterior mean with an estimated constant, variance and squares by dense linear algebra in float64."""
    process, points, places = observed_process(seed)
    values = np.random.default_rng(seed + 9).normal(2, 1, (2, len(places)))
    mean, squares = process.mean(values)
    k = matern(points, points[places])
    inverse = np.linalg.inv(k[places] + NOISE * np.eye(len(places)))
    for y, m, s in zip(values, mean, squares, strict=True):
        level = (inverse @ y).sum() / inverse.sum()
        np.testing.assert_allclose(m, level + k @ inverse @ (y - level), atol=1e-4)
        assert s == pytest.approx((y - level) @ inverse @ (y - level), rel=1e-4)
    variance = 1 - np.einsum("mi,ij,mj->m", k, inverse, k)
    np.testing.assert_allclose(process.variance, variance, atol=1e-4)


def test_process_learns_step_by_step() -> None:
    """Asking for the mean after every observation gives what asking once gives."""
    whole, points, places = observed_process()
    values = np.random.default_rng(1).normal(size=(2, len(places)))
    grown = MaskProcess(points, len(places))
    for n, place in enumerate(places, 1):
        grown.observe(place)
        mean, squares = grown.mean(values[:, :n])
    once = whole.mean(values)
    np.testing.assert_allclose(mean, once[0], atol=1e-6)
    np.testing.assert_allclose(squares, once[1], rtol=1e-6)


def test_process_draws_from_its_posterior() -> None:
    """Mean 0 and the posterior's covariance, up to the random features' and the draws' own error."""
    process, points, places = observed_process()
    rngs = [np.random.default_rng(seed) for seed in range(20)]
    draws = np.concatenate([process.deviations(process.prior(500, rng), rng) for rng in rngs])
    k, own = matern(points, points[places]), matern(points, points)
    covariance = own - k @ np.linalg.inv(k[places] + NOISE * np.eye(len(places))) @ k.T
    assert np.abs(draws.mean(axis=0)).max() < 0.05
    found = np.cov(draws.T)
    assert np.abs(found - covariance).max() < 0.08
    assert np.sqrt(((found - covariance) ** 2).mean()) < 0.02


def test_moments_of_a_fourth_power() -> None:
    """Against Gauss-Hermite quadrature, where nothing is clipped; raw scores stay as they are."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    mean, variance = np.array([0.2, 0.5, 0.7]), np.array([0.01, 0.005, 0.002])
    powers = (mean[:, None] + np.sqrt(variance)[:, None] * nodes) ** 4
    first = powers @ weights / weights.sum()
    second = powers**2 @ weights / weights.sum()
    expected, spread = moments(mean, variance, True)
    np.testing.assert_allclose(expected, first, rtol=1e-9)
    np.testing.assert_allclose(spread, second - first**2, rtol=1e-9)
    expected, spread = moments(np.array([-1.0, 2.0]), np.array([0.5, 3.0]), False)
    assert expected.tolist() == [-1.0, 2.0] and spread.tolist() == [0.5, 3.0]
    expected, spread = moments(np.array([1.5, -1.0]), np.array([2.0, 0.0]), True)
    assert expected.tolist() == [1.0, 0.0] and spread.tolist() == [0.0, 0.0]  # a confidence stays in [0, 1]


def test_where_masks_are_compared(explainer: sise_ort.Explainer, frame: Any) -> None:
    """The product of LayerCAM's three maps, averaged over cells, against torch."""
    selection = selected(explainer, frame, (0, 2))
    model, extracted = selection.model, selection.extracted
    sketch = model.sketch(extracted.features, selection.masks.wanted, selection.alphas[-1])
    found = evidence(selection, sketch)
    rows, columns = grid(32, 48)
    down, across = (torch.tensor(cell_means(c, n)) for c, n in ((rows, 32), (columns, 48)))
    for k, own in enumerate(found):
        expected = np.ones((rows, columns))
        for features, gradients in zip(extracted.features, extracted.gradients, strict=True):
            a, g = (torch.tensor(t.numpy().astype(np.float64)) for t in (features, gradients))
            cam = (torch.relu(g[k]) * a[0]).sum(dim=0).relu()
            wide = F.interpolate(cam[None, None], size=(32, 48), mode="bilinear", align_corners=False)[0, 0]
            cells = (down @ wide @ across.T).numpy()
            expected *= cells / cells.max()
        assert expected.max() > 0
        np.testing.assert_allclose(own, expected, atol=1e-5)


def test_grad_cam_is_the_evidence_where_layers_have_no_place_in_common(
    explainer: sise_ort.Explainer, frame: Any
) -> None:
    selection = selected(explainer, frame, (0, 2))
    model, extracted = selection.model, selection.extracted
    sketch = model.sketch(extracted.features, selection.masks.wanted, selection.alphas[-1])
    both = evidence(selection, sketch)
    extracted.gradients[0].numpy()[1] = -np.abs(extracted.gradients[0].numpy()[1])
    one = evidence(selection, sketch)
    np.testing.assert_array_equal(one[0], both[0])
    np.testing.assert_array_equal(one[1], sketch.evidence[1])


def test_cells_count_by_the_evidence(explainer: sise_ort.Explainer, frame: Any) -> None:
    """What masks do where nothing speaks for any question changes no distance; without evidence every cell counts."""
    selection = selected(explainer, frame)
    sketch = selection.model.sketch(
        selection.extracted.features, selection.masks.wanted, selection.alphas[-1]
    )
    rows, columns = sketch.cells.shape[1:]
    where = np.zeros((2, rows, columns))
    where[0, 1, 2], where[1, 3, 4] = 5.0, 1.0
    points = vectors(sketch, where)[:, : rows * columns].reshape(-1, rows, columns)
    assert (points.any(axis=0) == where.any(axis=0)).all()
    weights = (points**2).sum(axis=0) / (sketch.cells.astype(np.float64) ** 2).sum(axis=0)
    assert weights[1, 2] == pytest.approx(weights[3, 4])  # each question counts as much as any other
    pairs = np.random.default_rng(0).integers(0, len(points), (2, 512))
    squares = ((points[pairs[0]] - points[pairs[1]]) ** 2).sum(axis=(1, 2))
    assert np.median(squares) == pytest.approx(0.12)
    even = vectors(sketch, 0 * where)[:, : rows * columns].reshape(points.shape)
    weights = (even**2).sum(axis=0) / (sketch.cells.astype(np.float64) ** 2).sum(axis=0)
    np.testing.assert_allclose(weights, weights[0, 0])


def test_the_first_choice_of_a_round(explainer: sise_ort.Explainer, frame: Any) -> None:
    """It is what the documented rule says, computed from dense matrices."""
    selection = selected(explainer, frame)
    masks = selection.masks
    search = Search(selection, Budget(passes=17), Call())
    knowledge = search.knowledge
    points = knowledge.process.vectors.astype(np.float64)
    k = matern(points, points)
    search._round(16)
    places = list(search.observed)
    assert len(places) == 16 and len(set(places)) == 16 and len(points) > 16
    assert (
        masks.block[places[0]] == masks.block.max()
    )  # the deepest block first: half of the first masks are its
    inverse = np.linalg.inv(k[np.ix_(places, places)] + NOISE * np.eye(16))
    values = knowledge.values[0] ** 0.25
    level = (inverse @ values).sum() / inverse.sum()
    mean = level + k[:, places] @ inverse @ (values - level)
    scale = (2 * 0.1 + (values - level) @ inverse @ (values - level)) / (2 + 16 - 1)
    variance = scale * (1 - np.einsum("mi,ij,mj->m", k[:, places], inverse, k[:, places]))
    expected, spread = moments(mean, np.maximum(variance, 0), True)
    expected[places], spread[places] = knowledge.values[0], 0
    cells = selection.model.sketch(
        selection.extracted.features, masks.wanted, selection.alphas[-1]
    ).cells.reshape(len(points), -1)
    effect = cells / cells.mean(axis=1, keepdims=True, dtype=np.float64) - 1
    decides, changes = np.zeros(len(points)), np.zeros(len(points))
    for b in np.unique(masks.block):
        here = masks.block == b
        size = np.linalg.norm((expected[here, None] * effect[here]).sum(axis=0))
        changes[here] = (
            spread[here] * (2.0 ** (b - masks.block.max()) * np.linalg.norm(effect[here], axis=1) / size) ** 2
        )
        leverage = knowledge.drawn[0].leverage[b]
        decides[here] = spread[here] * np.array([(leverage * own**2).sum() for own in effect[here]])
    assert decides.max() > 0
    stake = decides / decides.max() + 0.3 * changes / changes.max()
    np.testing.assert_allclose(knowledge._gain, stake, atol=2e-3)
    assert knowledge.choose() == int(np.argmax(stake)) not in places
