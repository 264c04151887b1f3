"""SISE on a bundle: extract -> select -> score masks -> weigh -> fuse (METHOD §2 to §4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.runtime.model import BundleModel, Extracted
from sise_ort.runtime.providers import Tensor
from sise_ort.selection import FLAT, select_maps

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Question:
    """The class to explain; `absent` asks for the evidence against it (sigmoid heads)."""

    index: int
    absent: bool = False


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
    signs = np.array([-1.0 if q.absent else 1.0 for q in questions], np.float32)
    alphas = [alpha * signs[:, None] for alpha in extracted.pooled_gradients]
    if not all(np.isfinite(a).all() for a in (extracted.scores, *alphas)):
        raise FrameError("the network answers this frame with scores or gradients that are NaN or infinite")
    chosen = [
        np.stack([select_maps(row, spans, mu) for row in alpha])
        for alpha, spans in zip(alphas, extracted.spans, strict=True)
    ]
    wanted = [np.flatnonzero(c.any(axis=0)) for c in chosen]
    selected_at = time.perf_counter()
    psi, extent, total, batches = _score(model, image, extracted.features, wanted, questions, progress)
    scored_at = time.perf_counter()

    weights = []
    confidences: list[list[NDArray[np.float64]]] = [[] for _ in questions]
    for b, index in enumerate(wanted):
        weight = np.zeros((len(questions), alphas[b].shape[1]))
        for k in range(len(questions)):
            mine = chosen[b][k, index]
            weight[k, index] = np.where(mine, psi[b][k] / (extent[b] * total[b]), 0.0)
            confidences[k].append(psi[b][k][mine])
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
            Answer(heatmaps[k], maps[k], selected, tuple(confidences[k]), tuple(a[k] for a in alphas), notes)
        )
    masks = sum(len(index) for index in wanted)
    timings = {
        "select": selected_at - started,
        "score": scored_at - selected_at,
        "fuse": fused_at - scored_at,
    }
    return Run(answers, masks, batches * model.batch_size, timings)


def _score(
    model: BundleModel,
    image: Tensor,
    features: Sequence[Tensor],
    wanted: Sequence[NDArray[np.int64]],
    questions: Sequence[Question],
    progress: Progress | None,
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], list[NDArray[np.float64]], int]:
    """Score the wanted maps of all blocks in full batches: Ψ [K, n_b], range [n_b], total [n_b] per block.

    Batches run across blocks; only the very last one is padded (with whatever the buffer holds).
    """
    sizes = [len(index) for index in wanted]
    everything = sum(sizes)
    psi = np.empty((len(questions), everything))
    extent, total = np.empty(everything), np.empty(everything)
    done = filled = batches = 0

    def flush() -> None:
        nonlocal done, filled, batches
        scores, confidence = model.score_masks(image)
        psi[:, done : done + filled] = probabilities(model, scores[:filled], confidence[:filled], questions)
        done, filled, batches = done + filled, 0, batches + 1
        if progress is not None:
            progress(done, everything)

    for maps, index in zip(features, wanted, strict=True):
        start = 0
        while start < len(index):
            part = index[start : start + model.batch_size - filled]
            place = slice(done + filled, done + filled + len(part))
            extent[place], total[place] = model.write_masks(maps, part, filled)
            start, filled = start + len(part), filled + len(part)
            if filled == model.batch_size:
                flush()
    if filled:
        flush()
    if not np.isfinite(psi).all():
        raise FrameError("the network answers masked copies of this frame with NaN or infinite scores")
    cuts = np.cumsum(sizes)[:-1]
    return np.split(psi, cuts, axis=1), np.split(extent, cuts), np.split(total, cuts), batches


def probabilities(
    model: BundleModel,
    scores: NDArray[np.floating],
    confidence: NDArray[np.floating],
    questions: Sequence[Question],
) -> NDArray[np.float64]:
    """Ψ of each question, [K, n], from scores and confidence [n, classes].

    The confidence of an absent class, 1 - sigmoid(z), is taken as sigmoid(-z), exact where the class is certain.
    """
    rows = []
    for question in questions:
        if question.absent:
            z = scores[:, question.index].astype(np.float64)
            rows.append(np.exp(-np.logaddexp(0.0, z)))
        else:
            rows.append(confidence[:, question.index].astype(np.float64))
    return np.stack(rows)


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
