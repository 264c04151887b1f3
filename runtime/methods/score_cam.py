"""Score-CAM: feature maps of one block, weighted by what the network answers to the picture through each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sise_ort.formulas.selection import flat_maps
from sise_ort.readouts import Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import whole_number
from sise_ort.runtime.methods.grad_cam import block_index
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite
from sise_ort.runtime.methods.scoring import Job, score_of, score_one

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor


@dataclass(frozen=True)
class ScoreCam(Method):
    """max(0, Σ_k w_k A_k), w = softmax over the maps of z_c(I ⊙ m_k), m_k the map upsampled and scaled to [0, 1].

    The weights are of the class scores, as in pytorch-grad-cam; the answer to the empty picture, which the paper
    subtracts, cancels in the softmax. Flat maps, which have no m_k, are left out.

    Parameters
    ----------
    block : int
        Number of the block, from 1, shallow to deep; 0 takes the last.
    """

    name = "scorecam"
    title = "Score-CAM"
    source = "Wang et al., CVPR-W 2020, arXiv 1910.01279"
    unit = "masks"
    price = "one forward and one backward pass, and a forward pass per feature map of the block (hundreds to thousands)"

    block: int = 0

    def __post_init__(self) -> None:
        self._set(block=whole_number("block", self.block, 0))

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        place = block_index(model, self.block)
        extracted = model.extract(image, questions, 0.0)
        require_finite(*extracted.answers.arrays)
        known = extracted.questions
        features = extracted.features[place]
        alive = np.flatnonzero(~flat_maps(extracted.spans[place]))
        call.begin(len(alive))
        job = Job(image, [features], [alive], known, score_of, call.report)
        score_one(model, job).require_finite()
        maps = features.numpy()[0][alive].astype(np.float64)
        spec = model.manifest.input
        answers = []
        for question, scores in zip(known, job.values, strict=True):
            weights = np.exp(scores - scores.max(initial=-np.inf))
            total = np.tensordot(weights / max(weights.sum(), 1e-300), maps, 1)
            heatmap, notes = to_heatmap(total, (spec.height, spec.width))
            answers.append(Attribution(question, heatmap, notes, mask_counts=(len(alive),)))
        return Attributions(answers, extracted.answers, 1 + model.padded(job.size), len(known))
