"""Integrated Gradients: the gradient along the way from a baseline to the picture, times the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import ParameterError
from sise_ort.runtime.baselines.maps import to_heatmap
from sise_ort.runtime.method import (
    Attribution,
    Attributions,
    Method,
    Progress,
    Question,
    require_finite,
    whole_number,
)
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor

BASELINES = {"black": 0.0, "gray": 127.5, "white": 255.0}
WARN = 0.05
"""A completeness error above this share of the score's change is said in the notes."""


@dataclass(frozen=True)
class Integrated:
    """values : [C, H, W], whose sum should be `change`, the score's change from the baseline to the picture."""

    values: NDArray[np.float64]
    change: float

    @property
    def completeness_error(self) -> float:
        """|Σ values - change| / |change|."""
        return abs(float(self.values.sum()) - self.change) / max(abs(self.change), 1e-12)


def baseline_input(model: BundleModel, baseline: str) -> NDArray[np.float32]:
    """A baseline as network input, [1, C, 1, 1]: "black", "gray", "white" pixels, or the "mean" colour (0)."""
    facts = model.manifest.preprocessing
    if baseline == "mean":
        return np.zeros((1, len(facts.mean), 1, 1), np.float32)
    if baseline not in BASELINES:
        raise ParameterError(f"baseline is {baseline!r}; it must be one of {', '.join([*BASELINES, 'mean'])}")
    pixel = (BASELINES[baseline] - np.array(facts.mean)) / np.array(facts.std)
    return np.asarray(pixel.reshape(1, -1, 1, 1), np.float32)


def integrate(
    model: BundleModel,
    x: NDArray[np.float32],
    baseline: NDArray[np.float32],
    index: int,
    steps: int,
    progress: Progress | None = None,
) -> Integrated:
    """(x - x') ⊙ ∫ ∂z_c/∂I (x' + a(x - x')) da over [0, 1], by Gauss and Legendre's rule with `steps` nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    way = x - baseline
    total = np.zeros(x.shape[1:])
    for start in range(0, steps, model.batch_size):
        part = slice(start, start + model.batch_size)
        a = ((nodes[part] + 1) / 2).astype(np.float32).reshape(-1, 1, 1, 1)
        scores, gradients = model.image_gradient(baseline + a * way, [index] * len(a))
        require_finite(scores, gradients)
        total += np.tensordot(weights[part] / 2, gradients.astype(np.float64), 1)
        if progress is not None:
            progress(min(start + model.batch_size, steps), steps)
    ends = model.predict(np.concatenate([baseline + 0 * way, x]))[0][:, index].astype(np.float64)
    require_finite(ends)
    return Integrated(way[0] * total, float(ends[1] - ends[0]))


def integrated_gradients(
    model: BundleModel,
    image: Tensor,
    questions: Sequence[Question],
    progress: Progress | None = None,
    *,
    steps: int = 50,
    baseline: str = "black",
) -> Attributions:
    """(I - I') ⊙ ∫ ∂z_c/∂I along the straight way from a baseline I' to the picture, summed over channels; the positive
    part (what speaks for the class) is the heat map.

    steps : gradients along the way, at Gauss and Legendre's nodes. baseline : "black", "gray", "white" or "mean". The
    completeness error is reported, and said in the notes where it is large: then more steps are needed.
    """
    steps = whole_number("steps", steps, most=1000)
    start = baseline_input(model, baseline)
    x = model.network_input(image)
    scores = model.predict(x)[0][0]
    answers = []
    for question in questions:
        known = question.known(scores)
        found = integrate(model, x, start, known.index, steps, progress)
        error = found.completeness_error
        heatmap, notes = to_heatmap(question.sign * found.values.sum(0), x.shape[2:])
        if error > WARN:
            notes += (
                f"completeness error {100 * error:.0f} % of the score's change from the {baseline} picture: "
                f"{steps} steps are too few",
            )
        answers.append(Attribution(known, heatmap, notes, {"completeness_error": error}))
    return Attributions(answers, scores, 1 + len(questions) * (steps + 2), len(questions) * steps)


INTEGRATED_GRADIENTS = Method(
    "integrated-gradients",
    "Integrated Gradients",
    "Sundararajan et al., ICML 2017, arXiv 1703.01365",
    integrated_gradients,
    graph="image_gradient",
)
