"""Score-CAM: feature maps of one block, weighted by what the network answers to the picture through each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sise_ort.formulas.scaling import FLAT
from sise_ort.runtime.baselines.grad_cam import block_index
from sise_ort.runtime.baselines.maps import to_heatmap
from sise_ort.runtime.method import Attribution, Attributions, Method, Progress, Question, require_finite
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor
from sise_ort.runtime.scoring import Job, score_one


def score_cam(
    model: BundleModel,
    image: Tensor,
    questions: Sequence[Question],
    progress: Progress | None = None,
    *,
    block: int = 0,
) -> Attributions:
    """max(0, Σ_k w_k A_k), w = softmax over the maps of z_c(I ⊙ m_k), m_k the map upsampled and scaled to [0, 1].

    block : as for Grad-CAM. The weights are of the class scores, as in pytorch-grad-cam; the answer to the empty
    picture, which the paper subtracts, cancels in the softmax. Flat maps, which have no m_k, are left out.
    """
    place = block_index(model, block)
    extracted = model.extract(image, [q.index for q in questions], 0.0)
    require_finite(extracted.scores)
    known = [q.known(extracted.scores) for q in questions]
    features = extracted.features[place]
    alive = np.flatnonzero(extracted.spans[place] > FLAT)
    job = Job(
        image,
        [features],
        [alive],
        lambda z, _: np.stack([q.sign * z[:, q.index].astype(np.float64) for q in known]),
        progress,
    )
    score_one(model, job).require_finite()
    maps = features.numpy()[0][alive].astype(np.float64)
    spec = model.manifest.input
    answers = []
    for question, scores in zip(known, job.values, strict=True):
        weights = np.exp(scores - scores.max(initial=-np.inf))
        total = np.tensordot(weights / max(weights.sum(), 1e-300), maps, 1)
        heatmap, notes = to_heatmap(total, (spec.height, spec.width))
        answers.append(Attribution(question, heatmap, notes, mask_counts=(len(alive),)))
    return Attributions(answers, extracted.scores, 1 + model.passes(job.size), len(known))


SCORE_CAM = Method("scorecam", "Score-CAM", "Wang et al., CVPR-W 2020, arXiv 1910.01279", score_cam)
