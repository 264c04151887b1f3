"""Ablation-CAM: feature maps of the last block, weighted by how much the class score falls without each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sise_ort.readouts import Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

COPIES = 32
"""Ablated copies of the feature maps that are made at once."""


@dataclass(frozen=True)
class AblationCam(Method):
    """max(0, Σ_k (z_c - z_c without A_k) A_k), where ablated maps are 0.

    The paper divides by z_c, a factor that cancels in the heat map as long as z_c is positive; where it is negative,
    the division would turn the map's sign, so it is left out. Only the head runs again, not the network.
    """

    name = "ablationcam"
    title = "Ablation-CAM"
    source = "Desai and Ramaswamy, WACV 2020"
    unit = "feature maps"
    price = "one forward pass, and one of the head alone per feature map"
    graph = "head"

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        extracted = model.extract(image, questions, 0.0)
        known = extracted.questions
        features = extracted.features[-1].numpy()
        maps = features[0]
        alive = np.flatnonzero(maps.any((1, 2)))
        whole = model.answers(known, features, phase="head").score
        fall = np.zeros((len(known), len(maps)))
        call.begin(len(alive))
        for start in range(0, len(alive), COPIES):
            part = alive[start : start + COPIES]
            ablated = np.repeat(features, len(part), axis=0)
            ablated[np.arange(len(part)), part] = 0
            fall[:, part] = whole - model.answers(known, ablated, phase="head").score
            call.report(start + len(part), len(alive))
        require_finite(*extracted.answers.arrays, fall)
        spec = model.manifest.input
        answers = []
        for question, weights in zip(known, fall, strict=True):
            total = np.tensordot(weights, maps.astype(np.float64), 1)
            heatmap, notes = to_heatmap(total, (spec.height, spec.width))
            answers.append(Attribution(question, heatmap, notes, {"head_passes": 1 + len(alive)}))
        return Attributions(answers, extracted.answers, 1, len(known))
