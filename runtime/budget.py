"""SISE within a budget: score the masks that tell most, predict the others, stop in time (docs/budget.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.runtime.expected_fusion import DrawnMaps
from sise_ort.runtime.mask_process import MaskProcess
from sise_ort.runtime.method import Progress, seconds, share, whole_number
from sise_ort.runtime.model import BundleModel, Extracted, Pick, Sketch
from sise_ort.runtime.providers import Tensor
from sise_ort.runtime.scoring import Masks, Reading, require_finite_answers

FIRST_ROUND = 16
"""Masks that are chosen before the first answer is known."""
ROUND = 16
"""Masks that are chosen at most before the process learns again."""
PAIRS = 8
"""Draws of the confidences that are not known, each with its mirror image."""
CELL_SCALE, TEXTURE_SCALE = 0.06, 6.0
"""Squared distances of cells are brought to this median, differences of texture divided by this (chosen on 40 pictures: docs/budget.md)."""
USUAL_VARIANCE, USUAL_COUNT = 0.1, 2
"""The process's variance before anything is known (its median on 20 pictures), and how many answers that counts for."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """What an explanation may cost; None means no limit.

    passes : masks scored at most, 0 or more. deadline : seconds in all, more than 0. tolerance : stop where the draws of
    the heat map correlate with their mean by 1 - tolerance or more, in (0, 1).
    clock : seconds from any moment on.

    Raises
    ------
    ParameterError : a value is out of range.
    """

    passes: int | None = None
    deadline: float | None = None
    tolerance: float | None = None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.passes is not None:
            whole_number("passes", self.passes, 0)
        if self.tolerance is not None:
            share("tolerance", self.tolerance)
        if self.deadline is not None:
            seconds("deadline", self.deadline)

    @property
    def limited(self) -> bool:
        """Whether anything is limited."""
        return not (self.passes is None and self.deadline is None and self.tolerance is None)

    def covers(self, masks: int) -> bool:
        """Whether so many masks will all be scored, whatever they answer."""
        timeless = self.deadline is None and self.tolerance is None
        return timeless and (self.passes is None or self.passes >= masks)


@dataclass(frozen=True)
class Outcome:
    """What the budget bought.

    heatmaps : float32 [K, H, W] in [0, 1]; visualization_maps : float32 [K, B, H, W] in [0, 1];
    scored : numbers of the scored masks, in order; agreement : mean correlation [K] of the drawn heat maps with their
    mean, 1 where nothing was predicted, NaN where nothing was scored.
    stopped : "complete", "passes", "deadline" or "tolerance".
    """

    heatmaps: NDArray[np.float32]
    visualization_maps: NDArray[np.float32]
    scored: list[int]
    agreement: Array
    stopped: str

    def facts(self, question: int, masks: int, scored: int) -> dict[str, Any]:
        """What a record should say of a question with so many masks, so many of them scored."""
        agreement = float(self.agreement[question])
        return {
            "masks": masks,
            "scored": scored,
            "agreement": None if np.isnan(agreement) else round(agreement, 4),
            "stopped_by": self.stopped,
        }


class AnytimeScoring:
    """Scores masks round by round until the budget ends; what was not scored is predicted.

    Parameters
    ----------
    model, image, extracted : the bundle, the uploaded frame, and what `model.extract` gave for the questions.
    masks : the candidates. alphas : per block, pooled gradients [K, N_b], signs of the questions in them.
    read : from scores and confidence [n, classes] to values [K, n].
    bounded : the values are confidences in [0, 1], not raw scores.
    budget : and `started`, the moment on its clock from which the deadline counts.
    """

    def __init__(
        self,
        model: BundleModel,
        image: Tensor,
        extracted: Extracted,
        masks: Masks,
        alphas: Sequence[NDArray[np.float32]],
        read: Reading,
        bounded: bool,
        budget: Budget,
        started: float,
        progress: Progress | None = None,
    ) -> None:
        self._model, self._image, self._features = model, image, extracted.features
        self._masks, self._read, self._bounded = masks, read, bounded
        self._alphas = masks.gather(alphas, axis=1)
        self._budget, self._started, self._progress = budget, started, progress
        sketch = model.sketch(extracted.features, masks.wanted, alphas[-1])
        cells = sketch.cells.reshape(len(sketch.cells), -1)
        level = np.maximum(cells.mean(axis=1, dtype=np.float64), np.finfo(np.float32).tiny)
        self._mass = sketch.extent.astype(np.float64) * level * sketch.pixels  # until a mask is made
        limit = len(masks.block) if budget.passes is None else min(budget.passes, len(masks.block))
        self._process = MaskProcess(vectors(sketch), limit)
        self._effect = (cells / level[:, None] - 1).astype(np.float32)
        self._grid = sketch.cells.shape[1:]
        self._reach = np.linalg.norm(self._effect, axis=1)
        self._largest = np.abs(self._effect).max(axis=1)
        self._values = np.empty((masks.chosen.shape[0], 0))
        self._open = np.ones(len(masks.block), bool)
        blocks = int(masks.block.max(initial=0)) + 1
        self._importance = 2.0 ** (np.arange(blocks) - blocks + 1)
        self._counts = np.zeros(blocks)
        self._stopped = ""
        self._prepared = budget.clock() - started

    def run(self) -> None:
        """Score until the budget ends."""
        while not self._stopped:
            size, self._stopped = self._affordable()
            if not size:
                if self._stopped == "deadline" and not self._process.observed:
                    self._model.pace.forget("mask")
                break
            began = self._budget.clock()
            self._score([self._choose() for _ in range(size)])
            self._learn()
            self._model.pace.note("mask", (self._budget.clock() - began) / size)
            if self._progress is not None:
                self._progress(len(self._process.observed), self._most())
            if not self._stopped and self._budget.tolerance is not None:
                least = min(drawn.agreement for drawn in self._drawn())
                self._stopped = "tolerance" if least >= 1 - self._budget.tolerance else ""

    def finish(self) -> Outcome:
        """The heat maps from what is known by now."""
        began = self._budget.clock()
        known, mine = self._process.observed, self._masks.chosen
        # without any answer, the pooled gradients are the weights
        values = self._expected if known else self._alphas * self._mass
        maps, heatmaps = self._model.fuse(
            self._features, self._masks.weights(np.where(mine, values, 0.0), self._mass)
        )
        agreement = np.full(len(mine), 1.0 if known else np.nan)
        if known and self._open.any():
            for k, drawn in enumerate(self._drawn()):
                heatmaps[k], agreement[k] = drawn.fuse(maps[k]), drawn.agreement
        self._model.pace.note("finish", self._budget.clock() - began)
        return Outcome(heatmaps, maps, known, agreement, self._stopped)

    def _most(self) -> int:
        """Masks that could be scored in all."""
        count = len(self._open)
        return count if self._budget.passes is None else min(count, self._budget.passes)

    def _affordable(self) -> tuple[int, str]:
        """Masks of the next round, and what ends the search after it ("" if nothing does)."""
        done = len(self._process.observed)
        size, ending = (ROUND if done else FIRST_ROUND), ""
        left = self._most() - done
        if left <= size:
            size, ending = left, "complete" if self._most() == len(self._open) else "passes"
        if self._budget.deadline is not None:
            now = self._budget.clock() - self._started
            # before anything is known, a mask may cost what all before the first did, and so may the finish
            mask = self._model.pace.typical("mask", self._prepared)
            spare = self._budget.deadline - now - self._model.pace.cautious("finish", self._prepared)
            affordable = max(0, int(spare / mask)) if mask > 0 else size
            if affordable < size:  # half of it: a round that takes longer than expected leaves time to notice
                size, ending = -(-affordable // 2), "" if affordable else "deadline"
        return size, ending

    def _choose(self) -> int:
        """The mask that tells most about the heat map, as far as is known; it counts as observed from now on."""
        left = self._process.variance
        if not self._values.size:
            # nothing is known: blocks in turn by their importance, in each the mask least like the observed ones
            free = np.bincount(self._masks.block[self._open], minlength=len(self._counts)) > 0
            part = np.where(free, self._importance, 0.0)
            due = np.where(free, part / part.sum() * (self._counts.sum() + 1) - self._counts, -np.inf)
            gain = np.where(self._masks.block == int(np.argmax(due)), left, -1.0)
        else:
            gain = self._stake * left / self._left_when_learnt
        mask = int(np.argmax(np.where(self._open, gain, -2.0)))
        self._process.observe(mask)
        self._open[mask] = False
        self._counts[self._masks.block[mask]] += 1
        return mask

    def _score(self, chosen: list[int]) -> None:
        size = self._model.batch_size
        for start in range(0, len(chosen), size):
            part = np.array(chosen[start : start + size])
            order = np.argsort(self._masks.block[part], kind="stable")  # each block's maps together
            sorted_ = part[order]
            blocks = self._masks.block[sorted_]
            picks = [
                Pick(self._image, self._features[b], self._masks.index[sorted_[blocks == b]])
                for b in np.unique(blocks)
            ]
            scores, confidence, extent, total = self._model.score_maps(picks)
            values = self._read(scores, confidence)
            require_finite_answers(values)
            self._values = np.concatenate([self._values, values[:, np.argsort(order)]], axis=1)
            self._mass[sorted_] = extent.astype(np.float64) * total

    def _learn(self) -> None:
        """Predict all masks, and weigh how much each one's uncertainty can change the heat map."""
        masks, process = self._masks, self._process
        values = self._values**0.25 if self._bounded else self._values
        self._mean, squares = process.mean(values)
        expected = USUAL_VARIANCE if self._bounded else np.mean(values**2, axis=1)
        self._scale = (USUAL_COUNT * expected + squares) / (USUAL_COUNT + values.shape[1] - 1)
        self._expected, variance = moments(self._mean, self._scale[:, None] * process.variance, self._bounded)
        self._expected[:, process.observed] = self._values
        self._left_when_learnt = np.maximum(process.variance, 1e-9)
        self._stake = np.zeros(len(self._open))
        for expected, spread, mine in zip(self._expected, variance, masks.chosen, strict=True):
            for b in np.unique(masks.block):
                here = (masks.block == b) & mine
                size = float(np.linalg.norm(expected[here] @ self._effect[here]))
                if size > 0:
                    self._stake[here] += spread[here] * (self._importance[b] * self._reach[here] / size) ** 2

    def _drawn(self) -> Iterator[DrawnMaps]:
        """Per question, the block maps of the expected confidences and of draws of those that are not known."""
        apart = self._process.deviations(PAIRS, np.random.default_rng(0))
        apart = np.concatenate([apart, -apart])
        blocks = [self._masks.block == b for b in range(len(self._masks.channels))]
        for k, mine in enumerate(self._masks.chosen):
            drawn = self._mean[k] + np.sqrt(self._scale[k]) * apart
            values = np.clip(drawn, 0.0, 1.0) ** 4 if self._bounded else drawn
            values[:, self._process.observed] = self._values[k]
            values = np.where(mine, np.vstack([self._expected[k], values]), 0.0).astype(np.float32)
            sums = [values[:, here] @ self._effect[here] for here in blocks]
            reaches = [np.abs(values[:, here]) @ self._largest[here] for here in blocks]
            yield DrawnMaps([v.reshape(-1, *self._grid) for v in sums], reaches)


def vectors(sketch: Sketch) -> Array:
    """Masks as points whose distance tells how differently the network may answer, [M, P + 4].

    The cells count evenly and, as much again, by the mean of the classes' evidence; level, deviation and texture of the
    masks stand beside them.
    """
    cells = sketch.cells.reshape(len(sketch.cells), -1).astype(np.float64)
    evidence = sketch.evidence.reshape(len(sketch.evidence), -1).astype(np.float64)
    evidence /= np.maximum(evidence.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    pairs = np.random.default_rng(0).integers(0, len(cells), (2, 512))
    squares = (cells[pairs[0]] - cells[pairs[1]]) ** 2
    weight = np.zeros(cells.shape[1])
    for part in (np.full(cells.shape[1], 1 / cells.shape[1]), evidence.mean(axis=0)):
        weight += CELL_SCALE * part / max(float(np.median(squares @ part)), 1e-12)
    numbers = np.column_stack([cells.mean(axis=1), cells.std(axis=1), sketch.texture])
    numbers = (numbers - numbers.mean(axis=0)) / (numbers.std(axis=0) + 1e-9)
    return np.hstack([cells * np.sqrt(weight), numbers / TEXTURE_SCALE])


def moments(mean: NDArray[np.floating], variance: NDArray[np.floating], bounded: bool) -> tuple[Array, Array]:
    """Expectation and variance of confidences whose fourth roots are Gaussian; of raw scores, what is given."""
    if not bounded:
        return mean.astype(np.float64), np.broadcast_to(variance, mean.shape).astype(np.float64)
    m, v = np.maximum(mean, 0.0).astype(np.float64), variance.astype(np.float64)
    # E y⁴, and E y⁸ - (E y⁴)² with what cancels left out; written as products, since powers are slow
    q = m * m
    first = q * (q + 6 * v) + 3 * v * v
    spread = v * (q * (q * (16 * q + 168 * v) + 384 * v * v) + 96 * v * v * v)
    expected = np.clip(first, 0.0, 1.0)
    return expected, np.minimum(spread, expected * (1 - expected))


def budget_notes(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a budget's facts mean for the reader of a heat map."""
    if not facts or facts["scored"] == facts["masks"]:
        return ()
    if not facts["scored"]:
        return ("no mask was scored in the budget: the map rests on the pooled gradients alone",)
    return (
        f"{facts['scored']} of {facts['masks']} masks were scored, the others predicted "
        f"(agreement {facts['agreement']:.2f})",
    )
