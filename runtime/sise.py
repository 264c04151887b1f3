"""SISE on a bundle: extract -> select -> score masks -> weigh -> fuse (docs/method.md, Selection and Fusion)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.formulas.scaling import FLAT
from sise_ort.formulas.selection import check_mu, select_maps
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
from sise_ort.runtime.scoring import Job, Masks, score, score_one


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
    extracted, known = _extract(model, image, questions)
    extract = budget.clock() - started
    run = run_sise(model, image, extracted, known, mu, progress, budget=budget, started=started)
    return _attributions(run, known, extracted, extract)


def explain_many_by_sise(
    model: BundleModel,
    pictures: Iterable[tuple[Tensor, Sequence[Question]]],
    progress: Progress | None = None,
    *,
    mu: float | str = 0.0,
    passes: int | None = None,
    deadline: float | None = None,
    tolerance: float | None = None,
) -> Iterator[Attributions | FrameError]:
    """As `explain_by_sise`, for many pictures, whose masks share their batches; a budget makes it take one picture after
    the other. A picture that cannot be explained gives its error."""
    mu = check_mu(mu)
    if Budget(passes, deadline, tolerance).limited:
        for image, questions in pictures:
            try:
                yield explain_by_sise(
                    model,
                    image,
                    questions,
                    progress,
                    mu=mu,
                    passes=passes,
                    deadline=deadline,
                    tolerance=tolerance,
                )
            except FrameError as error:
                yield error
        return
    begun: deque[tuple[Selection, Sequence[Question], float]] = deque()

    def jobs() -> Iterator[Job | FrameError]:
        for image, questions in pictures:
            began = time.perf_counter()
            try:
                extracted, known = _extract(model, image, questions)
                extract = time.perf_counter() - began
                selection = Selection(extracted, known, mu)
            except FrameError as error:
                yield error
                continue
            begun.append((selection, known, extract))
            yield selection.job(image, progress)

    for job in score(model, jobs()):
        if isinstance(job, FrameError):
            yield job
            continue
        selection, known, extract = begun.popleft()
        try:
            yield _attributions(selection.answers(model, job), known, selection.extracted, extract)
        except FrameError as error:
            yield error


def _extract(
    model: BundleModel, image: Tensor, questions: Sequence[Question]
) -> tuple[Extracted, list[Question]]:
    extracted = model.extract(image, [q.index for q in questions], model.manifest.head.contrast)
    return extracted, [q.known(extracted.scores) for q in questions]


def _attributions(
    run: Run, questions: Sequence[Question], extracted: Extracted, extract: float
) -> Attributions:
    answers = [
        Attribution(
            question,
            answer.heatmap,
            answer.notes,
            answer.facts,
            visualization_maps=answer.visualization_maps,
            mask_counts=answer.mask_counts,
        )
        for question, answer in zip(questions, run.answers, strict=True)
    ]
    timings = {"extract": extract, **run.timings}
    return Attributions(answers, extracted.scores, 1 + run.passes, len(questions), timings)


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
    selection = Selection(extracted, questions, mu)
    masks = selection.masks
    if not len(masks.block) or budget.covers(len(masks.block)):
        return selection.answers(model, score_one(model, selection.job(image, progress)))
    bounded = model.manifest.head.bounded
    search = AnytimeScoring(
        model, image, extracted, masks, selection.alphas, selection.read, bounded, budget, started, progress
    )
    began = budget.clock()
    search.run()
    scored_at = budget.clock()
    outcome = search.finish()
    counts = masks.counts(outcome.scored)
    facts = [outcome.facts(k, int(mine.sum()), sum(counts[k])) for k, mine in enumerate(masks.chosen)]
    timings = {
        "select": selection.seconds,
        "score": scored_at - began,
        "fuse": budget.clock() - scored_at,
    }
    answers = selection.told(model, outcome.visualization_maps, outcome.heatmaps, counts, facts)
    return Run(answers, len(outcome.scored), model.passes(len(outcome.scored)), timings)


class Selection:
    """The feature maps of a picture that become masks, before any of them is scored.

    Attributes
    ----------
    extracted, questions : as for `run_sise`. alphas : per block, pooled gradients [K, N_b] in the questions' sense.
    masks : the candidates of all blocks. seconds : what the selection took.

    Raises
    ------
    FrameError : a score or gradient is not finite.
    """

    def __init__(self, extracted: Extracted, questions: Sequence[Question], mu: float | str) -> None:
        began = time.perf_counter()
        self.extracted, self.questions = extracted, questions
        signs = np.array([q.sign for q in questions], np.float32)
        self.alphas = [alpha * signs[:, None] for alpha in extracted.pooled_gradients]
        require_finite(extracted.scores, *self.alphas)
        self.masks = Masks.of(
            [
                np.stack([select_maps(row, spans, mu) for row in alpha])
                for alpha, spans in zip(self.alphas, extracted.spans, strict=True)
            ]
        )
        self.seconds = time.perf_counter() - began

    def read(self, scores: NDArray[np.float32], confidence: NDArray[np.float32]) -> NDArray[np.float64]:
        """The questions' Ψ, [K, n], from scores and confidence [n, classes]."""
        return confidences(scores, confidence, self.questions)

    def job(self, image: Tensor, progress: Progress | None = None) -> Job:
        """All of them, to be scored."""
        return Job(image, self.extracted.features, self.masks.wanted, self.read, progress)

    def answers(self, model: BundleModel, job: Job) -> Run:
        """The heat maps, all masks being scored.

        Raises
        ------
        FrameError : an answer is not finite.
        """
        began, masks = time.perf_counter(), self.masks
        job.require_finite()
        values = np.where(masks.chosen, job.values, 0.0) if job.size else np.zeros(masks.chosen.shape)
        maps, heatmaps = model.fuse(self.extracted.features, masks.weights(values, job.extent * job.total))
        answers = self.told(model, maps, heatmaps, masks.counts(), [{} for _ in self.questions])
        timings = {"select": self.seconds, "score": job.seconds, "fuse": time.perf_counter() - began}
        return Run(answers, job.size, model.passes(job.size), timings)

    def told(
        self,
        model: BundleModel,
        maps: NDArray[np.float32],
        heatmaps: NDArray[np.float32],
        counts: Sequence[tuple[int, ...]],
        facts: Sequence[Mapping[str, Any]],
    ) -> list[Answer]:
        """Answers with their notes, from maps [K, B, H, W] and heat maps [K, H, W]."""
        masks, answers = self.masks, []
        for k, mine in enumerate(masks.chosen):
            own = Masks(masks.block[mine], masks.index[mine], masks.chosen[:, mine], masks.channels)
            selected, alpha = tuple(own.wanted), tuple(a[k] for a in self.alphas)
            notes = _notes(model, alpha, self.extracted.spans, selected, maps[k]) + budget_notes(facts[k])
            answers.append(Answer(heatmaps[k], maps[k], selected, alpha, counts[k], notes, facts[k]))
        return answers


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
    run_many=explain_many_by_sise,
)
