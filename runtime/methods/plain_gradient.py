"""Gradient: the absolute gradient of the class score at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sise_ort.readouts import Answers, Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor


@dataclass(frozen=True)
class Gradient(Method):
    """max over channels of |∂z_c/∂I|, I the network's input."""

    name = "gradient"
    title = "Gradient"
    source = "Simonyan et al., ICLR-W 2014, arXiv 1312.6034"
    price = "one forward and one backward pass, down to the picture"
    graph = "image_gradient"
    signed = False

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        x = model.network_input(image)
        found, answers = [], []
        for question in questions:
            known, whole, gradients = model.image_gradient(x, question)
            require_finite(*whole.arrays, gradients)
            found.append(whole)
            heatmap, notes = to_heatmap(np.abs(gradients[0]).max(0), x.shape[2:])
            answers.append(Attribution(known, heatmap, notes))
        return Attributions(answers, Answers.stacked(found), len(questions), len(questions))
