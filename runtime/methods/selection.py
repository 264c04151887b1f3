"""The feature maps of one picture that become masks, and the answers that they give."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.selection import flat_maps, select_maps
from sise_ort.readouts import Question
from sise_ort.runtime.extracted import Extracted
from sise_ort.runtime.methods.call import Progress
from sise_ort.runtime.methods.method import Attribution, Attributions, require_finite
from sise_ort.runtime.methods.scoring import Job, Masks
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor


class Selection:
    """The feature maps of a picture that become masks, before any of them is scored.

    Parameters
    ----------
    model : BundleModel
        The bundle.
    image : tensor, [1, H, W, C]
        The uploaded frame.
    questions : sequence of Question
        What is asked about it.
    mu : float or "adaptive"
        Threshold of the selection.

    Attributes
    ----------
    extracted : Extracted
        What the forward and backward passes gave.
    questions : list of Question
        With their classes known.
    alphas : list of arrays, [K, N_b]
        Per block, pooled gradients in the questions' sense.
    masks : Masks
        The candidates of all blocks.
    timings : dict
        Seconds of "extract" and "select".

    Raises
    ------
    FrameError
        A score or gradient is not finite.
    """

    def __init__(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], mu: float | str
    ) -> None:
        began = time.perf_counter()
        self.model, self.image = model, image
        self.extracted: Extracted = model.extract(image, questions, model.manifest.contrast)
        extracted_at = time.perf_counter()
        self.questions = self.extracted.questions
        signs = np.array([q.sign for q in questions], np.float32)
        self.alphas = [alpha * signs[:, None] for alpha in self.extracted.pooled_gradients]
        require_finite(*self.extracted.answers.arrays, *self.alphas)
        self.masks = Masks.of(
            [
                select_maps(alpha, spans, mu)
                for alpha, spans in zip(self.alphas, self.extracted.spans, strict=True)
            ]
        )
        self.timings = {"extract": extracted_at - began, "select": time.perf_counter() - extracted_at}

    def job(self, progress: Progress | None = None) -> Job:
        """All of them, to be scored."""
        return Job(self.image, self.extracted.features, self.masks.wanted, self.questions, progress=progress)

    def scored(self, job: Job) -> Attributions:
        """The answers, all masks being scored.

        Raises
        ------
        FrameError
            An answer of the network is not finite.
        """
        began, masks = time.perf_counter(), self.masks
        job.require_finite()
        found = np.where(masks.chosen, job.values, 0.0) if job.size else np.zeros(masks.chosen.shape)
        maps, heatmaps = self.model.fuse(
            self.extracted.features, masks.weights(found, job.extent * job.total)
        )
        answers = self.answers(maps, heatmaps, masks.counts(), [{} for _ in self.questions])
        return self.attributions(
            answers, job.size, {"score": job.seconds, "fuse": time.perf_counter() - began}
        )

    def answers(
        self,
        maps: NDArray[np.float32],
        heatmaps: NDArray[np.float32],
        counts: Sequence[tuple[int, ...]],
        facts: Sequence[Mapping[str, Any]],
        notes: Sequence[tuple[str, ...]] | None = None,
    ) -> list[Attribution]:
        """An answer per question.

        Parameters
        ----------
        maps, heatmaps : float32, [K, B, H, W] and [K, H, W]
            Visualization maps and heat maps.
        counts : sequence of tuples
            Per question, masks scored in each block.
        facts, notes : sequences
            Per question, what else is to be reported.
        """
        found = []
        for k, question in enumerate(self.questions):
            own = self._notes(k, maps[k]) + (notes[k] if notes else ())
            found.append(
                Attribution(
                    question,
                    heatmaps[k],
                    own,
                    facts[k],
                    visualization_maps=maps[k],
                    mask_counts=counts[k],
                )
            )
        return found

    def attributions(
        self, answers: list[Attribution], masks: int, timings: Mapping[str, float]
    ) -> Attributions:
        """The answers with what they cost: N masks scored, and the seconds of the phases after the selection."""
        return Attributions(
            answers,
            self.extracted.answers,
            1 + self.model.padded(masks),
            len(self.questions),
            {**self.timings, **timings},
        )

    def selected(self, question: int) -> list[NDArray[np.int64]]:
        """Per block, indices of one question's maps."""
        mine = self.masks.chosen[question]
        block, index = self.masks.block[mine], self.masks.index[mine]
        return [index[block == b] for b in range(len(self.masks.channels))]

    def _notes(self, question: int, maps: NDArray[np.float32]) -> tuple[str, ...]:
        """Which blocks were skipped for a question, and why, from its visualization maps [B, H, W]."""
        notes, selected = [], self.selected(question)
        for b, layer in enumerate(self.model.manifest.layers):
            if maps[b].any():
                continue
            name = layer.module or layer.tensor
            if not (self.alphas[b][question] > 0).any():
                why = "no feature map speaks for the class"
            elif not len(selected[b]):
                flat = int(flat_maps(self.extracted.spans[b]).sum())
                why = f"no feature map was selected ({flat} are flat)"
            else:
                why = "its visualization map is flat"
            notes.append(f"block {b + 1} ({name}) was skipped: {why}")
        if len(notes) == len(self.model.manifest.layers):
            notes.append("there is no evidence for what is asked in any block: the heat map is zero")
        return tuple(notes)
