"""SISE on a bundle: extract -> select -> score masks -> weigh -> fuse (METHOD §2 to §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.runtime.budget import AnytimeScoring, Budget, budget_notes
from sise_ort.runtime.method import (
    Attribution,
    Attributions,
    Method,
    Progress,
    Question,
    confidences,
    require_finite,
)
from sise_ort.runtime.model import BundleModel, Extracted
from sise_ort.runtime.providers import Tensor
from sise_ort.runtime.scoring import Masks, score_feature_maps
from sise_ort.selection import FLAT, check_mu, select_maps


@dataclass(frozen=True)
class Answer:
    """SISE for one class of one picture.

    heatmap : float32 [H, W] in [0, 1]; visualization_maps : float32 [B, H, W] in [0, 1];
    selected : per block, indices of the maps that became masks; alpha : per block, pooled gradients of all maps, for
    this question; mask_counts : per block, masks that were scored; facts : what a budget bought.
    """

    heatmap: NDArray[np.float32]
    visualization_maps: NDArray[np.float32]
    selected: tuple[NDArray[np.int64], ...]
    alpha: tuple[NDArray[np.float32], ...]
    mask_counts: tuple[int, ...]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """The answers to all questions on one picture, and what they cost.

    masks : masks scored; passes : inputs through the network, padding of the last batch included;
    timings : seconds per phase.
    """

    answers: list[Answer]
    masks: int
    passes: int
    timings: dict[str, float]


def explain_by_sise(
    model: BundleModel,
    image: Tensor,
    questions: Sequence[Question],
    progress: Progress | None = None,
    *,
    mu: float | str = 0.0,
    passes: int | None = None,
    deadline: float | None = None,
    tolerance: float | None = None,
) -> Attributions:
    """Feature maps of every block whose pooled gradient speaks for the class become masks; each is scored by the
    confidence that it leaves; per block, masks are added with their scores, and blocks are fused from shallow to deep.

    mu : keep maps whose pooled gradient exceeds mu times the block's largest, in [0, 1), or "adaptive" (Ada-SISE:
    Otsu's threshold in every block). passes : score so many masks at most, and predict the others; deadline : answer
    within so many seconds; tolerance : stop where more passes would change the map little, in (0, 1) (docs/budget.md).
    """
    mu = check_mu(mu)
    budget = Budget(passes, deadline, tolerance)
    started = budget.clock()
    contrast = 1.0 if model.manifest.head.kind == "softmax" else 0.0
    extracted = model.extract(image, [q.index for q in questions], contrast)
    known = [q.known(extracted.scores) for q in questions]
    timings = {"extract": budget.clock() - started}
    run = run_sise(model, image, extracted, known, mu, progress, budget=budget, started=started)
    answers = [
        Attribution(
            question,
            answer.heatmap,
            answer.notes,
            answer.facts,
            visualization_maps=answer.visualization_maps,
            mask_counts=answer.mask_counts,
        )
        for question, answer in zip(known, run.answers, strict=True)
    ]
    return Attributions(answers, extracted.scores, 1 + run.passes, len(known), {**timings, **run.timings})


def run_sise(
    model: BundleModel,
    image: Tensor,
    extracted: Extracted,
    questions: Sequence[Question],
    mu: float | str,
    progress: Progress | None = None,
    *,
    budget: Budget = Budget(),  # noqa: B008  (frozen)
    started: float = 0.0,
) -> Run:
    """Explain several classes of one picture; they share their scored masks.

    Parameters
    ----------
    model, image : the bundle and the uploaded frame.
    extracted : from `model.extract` with the classes of `questions`, in order.
    mu : in [0, 1) or "adaptive".
    progress : called with (masks scored, masks in all).
    budget : and the moment on its clock from which a deadline counts.

    Raises
    ------
    FrameError : a score or gradient is not finite.
    """
    clock = budget.clock
    began = clock()
    signs = np.array([q.sign for q in questions], np.float32)
    alphas = [alpha * signs[:, None] for alpha in extracted.pooled_gradients]
    require_finite(extracted.scores, *alphas)
    masks = Masks.of(
        [
            np.stack([select_maps(row, spans, mu) for row in alpha])
            for alpha, spans in zip(alphas, extracted.spans, strict=True)
        ]
    )
    selected_at = clock()

    def read(scores: NDArray[np.float32], confidence: NDArray[np.float32]) -> NDArray[np.float64]:
        return confidences(scores, confidence, questions)

    facts: list[dict[str, Any]] = [{} for _ in questions]
    enough = budget.deadline is None and budget.tolerance is None and budget.covers(len(masks.block))
    if enough or not len(masks.block):
        scored = score_feature_maps(model, image, extracted.features, masks.wanted, read, progress)
        scored_at = clock()
        values = np.where(masks.chosen, np.concatenate(scored.values, axis=1), 0.0)
        mass = np.concatenate(scored.extent) * np.concatenate(scored.total)
        maps, heatmaps = model.fuse(extracted.features, masks.weights(values, mass))
        counts, count = masks.counts(), len(masks.block)
    else:
        search = AnytimeScoring(
            model, image, extracted, masks, alphas, read, model.manifest.head.kind != "none", budget, started, progress
        )  # fmt: skip
        search.run()
        scored_at = clock()
        outcome = search.finish()
        maps, heatmaps = outcome.visualization_maps, outcome.heatmaps
        counts, count = masks.counts(outcome.scored), len(outcome.scored)
        facts = [outcome.facts(k, int(mine.sum()), sum(counts[k])) for k, mine in enumerate(masks.chosen)]
    fused_at = clock()

    answers = []
    for k, mine in enumerate(masks.chosen):
        own = Masks(masks.block[mine], masks.index[mine], masks.chosen[:, mine], masks.channels)
        selected = tuple(own.wanted)
        notes = _notes(model, [a[k] for a in alphas], extracted.spans, selected, maps[k])
        alpha = tuple(a[k] for a in alphas)
        answers.append(
            Answer(heatmaps[k], maps[k], selected, alpha, counts[k], notes + budget_notes(facts[k]), facts[k])
        )
    timings = {
        "select": selected_at - began,
        "score": scored_at - selected_at,
        "fuse": fused_at - scored_at,
    }
    return Run(answers, count, model.passes(count), timings)


def _notes(
    model: BundleModel,
    alphas: Sequence[NDArray[np.float32]],
    spans: Sequence[NDArray[np.float32]],
    selected: Sequence[NDArray[np.int64]],
    maps: NDArray[np.float32],
) -> tuple[str, ...]:
    """Which blocks were skipped, and why."""
    notes = []
    for b, layer in enumerate(model.manifest.layers):
        if maps[b].any():
            continue
        name = layer.module or layer.tensor
        if not (alphas[b] > 0).any():
            why = "no feature map speaks for the class"
        elif not len(selected[b]):
            flat = int((spans[b] <= FLAT).sum())
            why = f"no feature map was selected ({flat} are flat)"
        else:
            why = "its visualization map is flat"
        notes.append(f"block {b + 1} ({name}) was skipped: {why}")
    if len(notes) == len(model.manifest.layers):
        notes.append("there is no evidence for the class in any block: the heat map is zero")
    return tuple(notes)


SISE = Method(
    "sise",
    "SISE",
    "Sattarzadeh et al., AAAI-21, arXiv 2010.00672; mu=adaptive: Sudhakar et al., Ada-SISE, ICASSP-21, arXiv 2102.07799",
    explain_by_sise,
)
