"""Integrated Gradients: the gradient along the straight line from a baseline to the picture, times that line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import ParameterError, shown
from sise_ort.readouts import Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import option_of, whole_number
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

BASELINES = {"black": 0.0, "gray": 127.5, "white": 255.0}
WARN = 0.05
"""A completeness error above this share of the score's change is said in the notes."""


@dataclass(frozen=True)
class Integrated:
    """Attributions to every input value.

    Attributes
    ----------
    values : float, [C, H, W]
        Their sum should be `change`.
    change : float
        The score's change from the baseline to the picture.
    """

    values: NDArray[np.float64]
    change: float

    @property
    def completeness_error(self) -> float:
        """|Σ values - change| / |change|."""
        return abs(float(self.values.sum()) - self.change) / max(abs(self.change), 1e-12)


def baseline_input(model: BundleModel, baseline: str) -> NDArray[np.float32]:
    """A baseline as network input, [1, C, 1, 1]: "black", "gray", "white" pixels, or the "mean" colour (0)."""
    preprocessing = model.manifest.preprocessing
    if baseline == "mean":
        return np.zeros((1, len(preprocessing.mean), 1, 1), np.float32)
    pixel = (BASELINES[baseline] - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    return np.asarray(pixel.reshape(1, -1, 1, 1), np.float32)


def integrate(
    model: BundleModel,
    x: NDArray[np.float32],
    baseline: NDArray[np.float32],
    question: Question,
    steps: int,
    call: Call,
) -> Integrated:
    """(x - x') ⊙ ∫ ∂z_c/∂I (x' + a(x - x')) da over [0, 1], in the question's sense.

    The integral is taken by Gauss-Legendre quadrature with `steps` nodes.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    apart = x - baseline
    total = np.zeros(x.shape[1:])
    size = model.batch_size
    for start in range(0, steps, size):
        part = slice(start, start + size)
        a = ((nodes[part] + 1) / 2).astype(np.float32).reshape(-1, 1, 1, 1)
        _, _, gradients = model.image_gradient(baseline + a * apart, question)
        require_finite(gradients)
        total += np.tensordot(weights[part] / 2, gradients.astype(np.float64), 1)
        call.report(min(start + size, steps), steps)
    ends = model.answers([question], np.concatenate([baseline + 0 * apart, x])).score[0]
    require_finite(ends)
    return Integrated(question.sign * (apart[0] * total), float(ends[1] - ends[0]))


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """max(0, Σ over channels of (I - I') ⊙ ∫ ∂z_c/∂I), the integral taken from a baseline I' straight to the picture.

    The positive part is what speaks for the class. The completeness error is reported; where it is large, a note asks for
    more steps.

    Parameters
    ----------
    steps : int
        Number of gradients along the line, at the nodes of Gauss-Legendre quadrature.
    baseline : str
        Picture that the line begins at: "black", "gray", "white" or "mean" (the mean colour).
    """

    name = "integrated-gradients"
    title = "Integrated Gradients"
    source = "Sundararajan et al., ICML 2017, arXiv 1703.01365"
    price = "a forward and a backward pass per step"
    graph = "image_gradient"

    steps: int = 50
    baseline: str = "black"

    def __post_init__(self) -> None:
        self._set(steps=whole_number("steps", self.steps, most=1000))
        names = (*BASELINES, "mean")
        if not isinstance(self.baseline, str) or self.baseline not in names:
            raise ParameterError(
                f"{option_of('baseline')} is {shown(self.baseline)}; it must be one of {', '.join(names)}"
            )

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        start = baseline_input(model, self.baseline)
        x = model.network_input(image)
        settled, whole = model.settle(questions, image)
        require_finite(*whole.arrays)
        answers = []
        call.begin(len(settled) * self.steps)
        for k, known in enumerate(settled):
            found = integrate(model, x, start, known, self.steps, call.part(k, len(settled)))
            error = found.completeness_error
            heatmap, notes = to_heatmap(found.values.sum(0), x.shape[2:])
            if error > WARN:
                notes += (
                    f"completeness error {100 * error:.0f} % of the score's change from the {self.baseline} picture: "
                    f"{self.steps} steps are too few",
                )
            answers.append(Attribution(known, heatmap, notes, {"completeness_error": error}))
        passes = len(questions) * self.steps
        return Attributions(answers, whole, 1 + passes + 2 * len(questions), passes)
