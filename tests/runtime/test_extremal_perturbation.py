"""Extremal Perturbation against TorchRay, its authors' package. The optimisation is chaotic in floating point: one step
and five are compared closely, whole runs by what they reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sise_ort.readouts import Question
from sise_ort.runtime.methods import extremal_perturbation as ep

NAMES = ("residual", "plain")


def _search(explainer: Any, frame: Any) -> tuple[ep.SmoothMasks, ep.BlurPyramid]:
    x = explainer.model.network_input(explainer.model.upload(frame))
    return ep.SmoothMasks(x.shape[2:]), ep.BlurPyramid(x[0])


@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_extremal_perturbation(
    reference_explainers: Any, reference: Any, name: str, networks: Any
) -> None:
    def theirs(key: str) -> Any:
        return reference[f"{name}/one-step/{key}"]

    masks, blur = _search(reference_explainers[name], networks.pictures(1)[0])
    search = ep.Search(float(reference["area"]), theirs("parameters"))
    question = Question.of_class(int(reference["target"]))
    ((loss, gradient),) = ep.loss_and_gradients(
        reference_explainers[name].model, blur, masks, [search], question, 300.0, flip=True
    )
    assert np.abs(search.mask - theirs("mask")).max() < 1e-5
    assert loss == pytest.approx(float(theirs("loss")), rel=1e-4)
    assert np.abs(gradient - theirs("gradient")).max() < 1e-4 * np.abs(theirs("gradient")).max()


@pytest.mark.parametrize("name", NAMES)
def test_five_steps_of_extremal_perturbation(
    reference_explainers: Any, reference: Any, name: str, networks: Any
) -> None:
    explainer, frame = reference_explainers[name], networks.pictures(1)[0]
    search, scores, found = _searched(explainer, frame, reference, 5)
    assert np.abs(search.mask - reference[f"{name}/five-steps/mask"]).max() < 1e-3
    losses = -reference[f"{name}/five-steps/energies"].sum(0)
    np.testing.assert_allclose(found, losses, rtol=1e-3)
    result = explainer.explain(
        frame,
        int(reference["target"]),
        method="extremal-perturbation",
        areas=(float(reference["area"]),),
        iterations=5,
    )
    np.testing.assert_allclose(result.heatmap, search.mask / search.mask.max(), atol=1e-6)
    assert result.facts["scores"][0] == pytest.approx(scores[-1], abs=1e-6)
    assert (result.forward_passes, result.backward_passes) == (6, 5)


def _searched(explainer: Any, frame: Any, reference: Any, steps: int) -> tuple[ep.Search, Any, Any]:
    """The search after some steps, and score and loss at each."""
    masks, blur = _search(explainer, frame)
    search = ep.Search(float(reference["area"]), np.ones(masks.grid, np.float32))
    weight, scores, losses = ep.AREA_WEIGHT, [], []
    for t in range(steps):
        ((loss, gradient),) = ep.loss_and_gradients(
            explainer.model,
            blur,
            masks,
            [search],
            Question.of_class(int(reference["target"])),
            weight,
            flip=t % 2 == 0,
        )
        search.descend(gradient)
        weight *= ep.AREA_GROWTH
        scores.append(search.score)
        losses.append(loss)
    return search, np.array(scores), np.array(losses)


def test_whole_runs_of_extremal_perturbation(
    reference_explainers: Any, reference: Any, networks: Any
) -> None:
    """The optimisation is chaotic: only what it reaches can be compared, over several pictures."""
    frames = networks.pictures(3)
    ours = [
        _searched(reference_explainers["residual"], frame, reference, 800)[1][-50:].mean() for frame in frames
    ]
    difference = np.array(ours) - reference["residual/final-scores"][: len(ours)]
    assert abs(difference.mean()) < 0.02 and np.abs(difference).max() < 0.1


def test_extremal_perturbation_of_several_areas(reference_explainers: Any, networks: Any) -> None:
    explainer, frame = reference_explainers["plain"], networks.pictures(1)[0]
    both = explainer.explain(frame, 1, method="extremal-perturbation", areas=(0.05, 0.3), iterations=8)
    each = [
        explainer.explain(frame, 1, method="extremal-perturbation", areas=(a,), iterations=8)
        for a in (0.05, 0.3)
    ]
    assert both.facts["scores"] == pytest.approx([r.facts["scores"][0] for r in each], rel=1e-4)
    assert both.backward_passes == 16
