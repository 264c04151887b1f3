"""Turns a method's answers into explanations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sise_ort.bundle import Manifest
from sise_ort.explanation import Explanation
from sise_ort.runtime.methods.method import Attribution, Attributions, Method
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.preparing import Asked

SAME = 1e-6
"""How far a likeness of rounded vectors may be from 1 where they are the same."""


def loading_notes(model: BundleModel) -> tuple[str, ...]:
    """What was chosen or assumed when a bundle was loaded."""
    manifest, notes = model.manifest, []
    if manifest.head.assumed:
        notes.append(
            f"head: {manifest.head.words}: the model's outputs are taken for class scores, since its file does not "
            "say what they are; export a multi-label network with head sigmoid, and other values with head none"
            if manifest.task.name == "classes"
            else f"head: {manifest.head.words}: the file does not say how scores become confidences; export again with "
            "head softmax or sigmoid to say so"
        )
    if manifest.input.batch is not None:
        notes.append("masks are scored one at a time: the source file fixes its batch to 1")
    if (precision := model.provider.precision_of(manifest)) != "fp32":
        notes.append(f"masks are scored in {precision}")
    if model.provider.note:
        notes.append(model.provider.note)
    return tuple(notes)


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
    nothing = np.zeros((0, *prepared.fitted.shape[:2]), np.float32)
    return [
        Explanation(
            heatmap=answer.heatmap,
            visualization_maps=nothing if answer.visualization_maps is None else answer.visualization_maps,
            mask_counts=answer.mask_counts,
            forward_passes=asked.forward_passes + found.forward_passes,
            backward_passes=found.backward_passes,
            target=answer.question.index,
            task=manifest.task.name,
            bounded=manifest.bounded,
            label=answer.question.words(manifest.labels),
            confidence=float(found.whole.psi[k, 0]),
            method=method.name,
            title=method.title,
            parameters=method.parameters,
            facts={**answer.facts, **_inside(answer)},
            timings=timings,
            notes=notes
            + model.notes
            + prepared.frame.notes
            + answer.notes
            + _notes(manifest, found.whole.psi[k, 0]),
            source=prepared.frame.source,
            head=manifest.head.words,
            layers=manifest.layers,
            score=float(found.whole.score[k, 0]),
            scores=found.whole.scores[0],
            model=model.record(),
            frame=prepared.frame.pixels,
            placement=prepared.placement,
            levels=prepared.frame.levels,
            asked=answer.question.digest,
            region=answer.question.region,
            default_method=method.default,
            estimate=found.estimate,
            verdict=answer.verdict,
        )
        for k, answer in enumerate(found.answers)
    ]


def _inside(answer: Attribution) -> dict[str, float]:
    """The share of the heat map that lies in the explained region, and the region's share of the picture."""
    region, heatmap = answer.question.region, answer.heatmap
    if region is None or not heatmap.any():
        return {}
    inside = float((heatmap * region).sum(dtype=np.float64) / heatmap.sum(dtype=np.float64))
    return {"inside_region": inside, "region_share": float(region.mean(dtype=np.float64))}


def _notes(manifest: Manifest, psi: float) -> tuple[str, ...]:
    if manifest.task.name == "embedding" and psi > 1 - SAME:
        return ("the picture's embedding is that of the reference: no part of it speaks for more likeness",)
    return ()
