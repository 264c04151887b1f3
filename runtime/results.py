"""Turns a method's answers into explanations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sise_ort.explanation import Explanation
from sise_ort.readouts import Outputs
from sise_ort.runtime.methods.method import Attributions, Method
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.preparing import Asked


def explanations(
    model: BundleModel,
    asked: Asked,
    method: Method,
    found: Attributions,
    total: float | None,
    notes: tuple[str, ...],
) -> list[Explanation]:
    """An Explanation per answer of a method.

    Parameters
    ----------
    model : BundleModel
        The bundle.
    asked : Asked
        The picture and its questions.
    method : Method
        The method that answered.
    found : Attributions
        Its answers.
    total : float or None
        Seconds from the call on; None where the picture shared its time with others: then the sum of its phases.
    notes : tuple of str
        Those of the explainer.
    """
    prepared, manifest = asked.prepared, model.manifest
    timings: Mapping[str, float] = {"prepare": prepared.seconds, "ask": asked.seconds, **found.timings}
    timings = {**timings, "total": sum(timings.values()) if total is None else total}
    whole = Outputs(found.scores[None], manifest.head.confidences(found.scores)[None])
    nothing = np.zeros((0, *prepared.fitted.shape[:2]), np.float32)
    return [
        Explanation(
            heatmap=answer.heatmap,
            visualization_maps=nothing if answer.visualization_maps is None else answer.visualization_maps,
            mask_counts=answer.mask_counts,
            forward_passes=asked.forward_passes + found.forward_passes,
            backward_passes=found.backward_passes,
            target=answer.question.seed,
            label=answer.question.words(manifest.labels),
            confidence=float(answer.question.value(whole)[0]),
            method=method.name,
            title=method.title,
            parameters=method.parameters,
            facts=answer.facts,
            timings=timings,
            notes=notes + model.notes + prepared.frame.notes + answer.notes,
            source=prepared.frame.source,
            head=manifest.head.words,
            layers=manifest.layers,
            scores=found.scores,
            model=model.record(),
            frame=prepared.frame.pixels,
            placement=prepared.placement,
            levels=prepared.frame.levels,
            default_method=method.default,
        )
        for answer in found.answers
    ]
