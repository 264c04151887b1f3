"""The plain gradient: how strongly the class score depends on each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sise_ort.runtime.baselines.maps import to_heatmap
from sise_ort.runtime.method import Attribution, Attributions, Method, Progress, Question, require_finite
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor


def plain_gradient(
    model: BundleModel, image: Tensor, questions: Sequence[Question], progress: Progress | None = None
) -> Attributions:
    """max over channels of |∂z_c/∂I|, I the network's input."""
    x = model.network_input(image)
    scores, gradients = model.image_gradient(
        np.repeat(x, len(questions), axis=0), [q.index for q in questions]
    )
    require_finite(scores, gradients)
    answers = []
    for question, gradient in zip(questions, gradients, strict=True):
        heatmap, notes = to_heatmap(np.abs(gradient).max(0), gradient.shape[1:])
        answers.append(Attribution(question.known(scores[0]), heatmap, notes))
    return Attributions(answers, scores[0], len(questions), len(questions))


GRADIENT = Method(
    "gradient",
    "Gradient",
    "Simonyan et al., ICLR-W 2014, arXiv 1312.6034",
    plain_gradient,
    graph="image_gradient",
    signed=False,
)
