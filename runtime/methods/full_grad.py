"""FullGrad: the gradients of the input and of every bias, each times what it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sise_ort.readouts import Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor


@dataclass(frozen=True)
class FullGrad(Method):
    """ψ(∂z/∂I ⊙ I) + Σ_layers Σ_channels ψ(∂z/∂b ⊙ b), computed in full_gradient.onnx, less its minimum.

    The completeness error, |z_c - Σ terms| / |z_c|, is reported: about 0 where all activations are piecewise linear;
    smooth ones (SiLU, GELU) have implicit biases of their own, which the method leaves out.
    """

    name = "fullgrad"
    title = "FullGrad"
    source = "Srinivas and Fleuret, NeurIPS 2019, arXiv 1905.00780"
    price = "one forward and one backward pass, down to the picture"
    graph = "full_gradient"
    signed = False

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        known, whole, saliency, total = model.full_gradient(image, questions)
        require_finite(*whole.arrays, saliency)
        answers = []
        for question, values, terms, (z,) in zip(known, saliency, total, whole.score, strict=True):
            heatmap, notes = to_heatmap(values - values.min(), values.shape)
            error = abs(float(terms) - float(z)) / max(abs(float(z)), 1e-12)
            answers.append(Attribution(question, heatmap, notes, {"completeness_error": error}))
        return Attributions(answers, whole, 1, len(questions))
