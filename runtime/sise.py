"""SISE on a bundle: extract -> select -> score masks -> weigh -> fuse (METHOD §2 to §4)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from sise_ort.runtime.scoring import score_feature_maps
from sise_ort.selection import FLAT, check_mu, select_maps


@dataclass(frozen=True)
class Answer:
    """SISE for one class of one picture.

    heatmap : float32 [H, W] in [0, 1]; visualization_maps : float32 [B, H, W] in [0, 1];
    selected : per block, indices of the maps that became masks; confidences : per block, Ψ of each masked
    input; alpha : per block, pooled gradients of all maps, for this question.
    """

    heatmap: NDArray[np.float32]
    visualization_maps: NDArray[np.float32]
    selected: tuple[NDArray[np.int64], ...]
    confidences: tuple[NDArray[np.float64], ...]
    alpha: tuple[NDArray[np.float32], ...]
    notes: tuple[str, ...]


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
) -> Attributions:
    """Feature maps of every block whose pooled gradient speaks for the class become masks; each is scored by the
    confidence that it leaves; per block, masks are added with their scores, and blocks are fused from shallow to deep.

    mu : keep maps whose pooled gradient exceeds mu times the block's largest, in [0, 1), or "adaptive" (Ada-SISE:
    Otsu's threshold in every block).
    """
    mu = check_mu(mu)
    started = time.perf_counter()
    contrast = 1.0 if model.manifest.head.kind == "softmax" else 0.0
    extracted = model.extract(image, [q.index for q in questions], contrast)
    known = [q.known(extracted.scores) for q in questions]
    timings = {"extract": time.perf_counter() - started}
    run = run_sise(model, image, extracted, known, mu, progress)
    answers = [
        Attribution(
            question,
            answer.heatmap,
            answer.notes,
            visualization_maps=answer.visualization_maps,
            mask_counts=tuple(len(index) for index in answer.selected),
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
) -> Run:
    """Explain several classes of one picture; they share their scored masks.

    Parameters
    ----------
    model, image : the bundle and the uploaded frame.
    extracted : from `model.extract` with the classes of `questions`, in order.
    mu : in [0, 1) or "adaptive".
    progress : called with (masks scored, masks in all).

    Raises
    ------
    FrameError : a score or gradient is not finite.
    """
    started = time.perf_counter()
    signs = np.array([q.sign for q in questions], np.float32)
    alphas = [alpha * signs[:, None] for alpha in extracted.pooled_gradients]
    require_finite(extracted.scores, *alphas)
    chosen = [
        np.stack([select_maps(row, spans, mu) for row in alpha])
        for alpha, spans in zip(alphas, extracted.spans, strict=True)
    ]
    wanted = [np.flatnonzero(c.any(axis=0)) for c in chosen]
    selected_at = time.perf_counter()
    scored = score_feature_maps(
        model, image, extracted.features, wanted, lambda z, psi: confidences(z, psi, questions), progress
    )
    scored_at = time.perf_counter()

    weights = []
    found: list[list[NDArray[np.float64]]] = [[] for _ in questions]
    for b, index in enumerate(wanted):
        weight = np.zeros((len(questions), alphas[b].shape[1]))
        for k in range(len(questions)):
            mine = chosen[b][k, index]
            psi = scored.values[b][k]
            weight[k, index] = np.where(mine, psi / (scored.extent[b] * scored.total[b]), 0.0)
            found[k].append(psi[mine])
        largest = np.abs(weight).max(
            axis=1, keepdims=True
        )  # a positive factor cancels; tiny weights would underflow
        weights.append((weight / np.where(largest > 0, largest, 1.0)).astype(np.float32))
    maps, heatmaps = model.fuse(extracted.features, weights)
    fused_at = time.perf_counter()

    answers = []
    for k in range(len(questions)):
        selected = tuple(np.flatnonzero(c[k]) for c in chosen)
        notes = _notes(model, [a[k] for a in alphas], extracted.spans, selected, maps[k])
        answers.append(
            Answer(heatmaps[k], maps[k], selected, tuple(found[k]), tuple(a[k] for a in alphas), notes)
        )
    masks = sum(len(index) for index in wanted)
    timings = {
        "select": selected_at - started,
        "score": scored_at - selected_at,
        "fuse": fused_at - scored_at,
    }
    return Run(answers, masks, scored.passes, timings)


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
