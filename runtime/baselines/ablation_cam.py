"""Ablation-CAM: feature maps of the last block, weighted by how much the class score falls without each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sise_ort.runtime.baselines.maps import to_heatmap
from sise_ort.runtime.method import Attribution, Attributions, Method, Progress, Question, require_finite
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor

COPIES = 32
"""Ablated copies of the feature maps that are made at once."""


def ablation_cam(
    model: BundleModel, image: Tensor, questions: Sequence[Question], progress: Progress | None = None
) -> Attributions:
    """max(0, Σ_k (z_c - z_c without A_k) A_k), where ablated maps are 0.

    The paper divides by z_c, a factor that cancels in the heat map as long as z_c is positive; where it is negative,
    the division would turn the map's sign, so it is left out. Only the head runs again, not the network.
    """
    extracted = model.extract(image, [q.index for q in questions], 0.0)
    known = [q.known(extracted.scores) for q in questions]
    features = extracted.features[-1].numpy()
    maps = features[0]
    alive = np.flatnonzero(maps.any((1, 2)))
    classes = [q.index for q in known]
    whole = model.head(features)[0, classes].astype(np.float64)
    fall = np.zeros((len(known), len(maps)))
    for start in range(0, len(alive), COPIES):
        part = alive[start : start + COPIES]
        ablated = np.repeat(features, len(part), axis=0)
        ablated[np.arange(len(part)), part] = 0
        fall[:, part] = (whole - model.head(ablated)[:, classes]).T
        if progress is not None:
            progress(start + len(part), len(alive))
    require_finite(extracted.scores, fall)
    spec = model.manifest.input
    answers = []
    for question, weights in zip(known, fall, strict=True):
        total = np.tensordot(question.sign * weights, maps.astype(np.float64), 1)
        heatmap, notes = to_heatmap(total, (spec.height, spec.width))
        answers.append(Attribution(question, heatmap, notes, {"head_passes": 1 + len(alive)}))
    return Attributions(answers, extracted.scores, 1, len(known))


ABLATION_CAM = Method(
    "ablationcam", "Ablation-CAM", "Desai and Ramaswamy, WACV 2020", ablation_cam, graph="head"
)
