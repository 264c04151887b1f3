"""Scoring masks round by round until a budget ends, and predicting the others (docs/budget.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.selection import due_block
from sise_ort.runtime.extracted import Pick, Scored, Sketch
from sise_ort.runtime.methods.budget.fusion import DrawnMaps
from sise_ort.runtime.methods.budget.limits import Allowance, Budget
from sise_ort.runtime.methods.budget.process import MaskProcess
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.scoring import Masks, require_finite_answers
from sise_ort.runtime.methods.selection import Selection

PAIRS = 8
"""Draws of the confidences that are not known, each with its mirror image."""
CELL_SCALE, TEXTURE_SCALE = 0.06, 6.0
"""Squared distances of cells are brought to this median, differences of texture divided by this (chosen on 40 pictures:
docs/budget.md)."""
USUAL_VARIANCE, USUAL_COUNT = 0.1, 2
"""The process's variance before anything is known (its median on 20 pictures), and how many answers that counts for."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Result of a search within a budget.

    Attributes
    ----------
    heatmaps, visualization_maps : float32, [K, H, W] and [K, B, H, W]
        In [0, 1].
    scored : list of int
        Numbers of the scored masks, in order.
    counts : list of tuples
        Per question, its scored masks in each block.
    agreement : float, [K]
        Mean correlation of the drawn heat maps with their mean; 1 where nothing was predicted, NaN where nothing was
        scored.
    wanted : list of int
        Per question, its masks in all.
    stopped : str
        "complete", "passes", "deadline" or "tolerance".
    """

    heatmaps: NDArray[np.float32]
    visualization_maps: NDArray[np.float32]
    scored: list[int]
    counts: list[tuple[int, ...]]
    agreement: Array
    wanted: list[int]
    stopped: str

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Per question, what a record should say."""
        return [
            {
                "masks": wanted,
                "scored": sum(counts),
                "agreement": None if np.isnan(agreement) else round(float(agreement), 4),
                "stopped_by": self.stopped,
            }
            for wanted, counts, agreement in zip(self.wanted, self.counts, self.agreement, strict=True)
        ]

    @property
    def notes(self) -> list[tuple[str, ...]]:
        """Per question, what that means for the reader of a heat map."""
        return [_notes(facts) for facts in self.facts]


def _notes(facts: dict[str, Any]) -> tuple[str, ...]:
    if facts["scored"] == facts["masks"]:
        return ()
    if not facts["scored"]:
        return ("no mask was scored in the budget: the map rests on the pooled gradients alone",)
    return (
        f"{facts['scored']} of {facts['masks']} masks were scored, the others predicted "
        f"(agreement {facts['agreement']:.2f})",
    )


class Candidates:
    """The masks that may be scored, as far as they are known without a pass.

    Attributes
    ----------
    masks : Masks
        All of them, in one row of M.
    mass : float, [M]
        Range times total of each; estimated from its cells until it is made.
    effect : float32, [M, R·C]
        How each changes the block map per unit of its confidence: its cells over their mean, less 1.
    reach, peak : float, [M]
        Length of the effect, and its largest magnitude.
    importance : float, [B]
        Of the blocks; each counts twice as much as the one before.
    grid : tuple of int
        Cells (R, C).
    """

    def __init__(self, masks: Masks, sketch: Sketch) -> None:
        self.masks = masks
        cells = sketch.cells.reshape(len(sketch.cells), -1)
        level = np.maximum(cells.mean(axis=1, dtype=np.float64), np.finfo(np.float32).tiny)
        self.mass = sketch.extent.astype(np.float64) * level * sketch.pixels
        self.effect = (cells / level[:, None] - 1).astype(np.float32)
        self.reach = np.linalg.norm(self.effect, axis=1)
        self.peak = np.abs(self.effect).max(axis=1, initial=0)
        self.grid = sketch.cells.shape[1:]
        blocks = int(masks.block.max(initial=0)) + 1
        self.importance = 2.0 ** (np.arange(blocks) - blocks + 1)

    def __len__(self) -> int:
        return len(self.masks.block)


@dataclass(frozen=True)
class Prediction:
    """Prediction of all masks' values from those of the scored masks.

    Attributes
    ----------
    mean, scale : float, [K, M] and [K]
        Mean and variance of the process; of fourth roots where values are confidences.
    expected : float, [K, M]
        Expected values; those that are known are themselves.
    gain : float, [M]
        How much each mask's uncertainty can change the heat maps, per share of its variance that is left.
    """

    mean: NDArray[np.floating]
    scale: Array
    expected: Array
    gain: Array


class Knowledge:
    """What is known of the candidates' values, and which one to ask next.

    Parameters
    ----------
    candidates : Candidates
        All masks.
    process : MaskProcess
        The Gaussian process over them.
    bounded : bool
        Values are confidences in [0, 1], not raw scores.
    """

    def __init__(self, candidates: Candidates, process: MaskProcess, bounded: bool) -> None:
        self.candidates, self.process, self.bounded = candidates, process, bounded
        self.values = np.empty((len(candidates.masks.chosen), 0))
        self.open = np.ones(len(candidates), bool)
        self.prediction: Prediction | None = None
        self._counts = np.zeros(len(candidates.importance))

    def choose(self) -> int:
        """The mask that tells most about the heat map, as far as is known; it counts as observed from now on."""
        left, masks = self.process.variance, self.candidates.masks
        if self.prediction is None:
            # nothing is known: blocks in turn by their importance, in each the mask least like the observed ones
            free = np.bincount(masks.block[self.open], minlength=len(self._counts)) > 0
            (due,) = due_block(NumpyOps(), self._counts, free, len(free))
            gain = np.where(masks.block == due, left, -1.0)
        else:
            gain = self.prediction.gain * left / self._left_when_learnt
        mask = int(np.argmax(np.where(self.open, gain, -2.0)))
        self.process.observe(mask)
        self.open[mask] = False
        self._counts[masks.block[mask]] += 1
        return mask

    def receive(self, values: Array) -> None:
        """Values [K, n] of the masks chosen last, in their order."""
        self.values = np.concatenate([self.values, values], axis=1)

    def learn(self) -> None:
        """Predict all masks, and weigh how much each one's uncertainty can change the heat maps."""
        masks, process, known = self.candidates.masks, self.process, self.candidates
        values = self.values**0.25 if self.bounded else self.values
        mean, squares = process.mean(values)
        usual = USUAL_VARIANCE if self.bounded else np.mean(values**2, axis=1)
        scale = (USUAL_COUNT * usual + squares) / (USUAL_COUNT + values.shape[1] - 1)
        expected, variance = moments(mean, scale[:, None] * process.variance, self.bounded)
        expected[:, process.observed] = self.values
        self._left_when_learnt = np.maximum(process.variance, 1e-9)
        gain = np.zeros(len(self.open))
        for own, spread, mine in zip(expected, variance, masks.chosen, strict=True):
            for b in np.unique(masks.block):
                here = (masks.block == b) & mine
                size = float(np.linalg.norm(own[here] @ known.effect[here]))
                if size > 0:
                    gain[here] += spread[here] * (known.importance[b] * known.reach[here] / size) ** 2
        self.prediction = Prediction(mean, scale, expected, gain)

    def draw(self) -> NDArray[np.floating]:
        """Draws from the process [D, M], less its mean, in units of its standard deviation."""
        apart = self.process.deviations(PAIRS, np.random.default_rng(0))
        return np.concatenate([apart, -apart])

    def block_maps(self, prediction: Prediction, apart: NDArray[np.floating]) -> Iterator[DrawnMaps]:
        """Per question, the block maps of the expected values and of draws of those that are not known."""
        known = self.candidates
        blocks = [known.masks.block == b for b in range(len(known.masks.channels))]
        for k, mine in enumerate(known.masks.chosen):
            drawn = prediction.mean[k] + np.sqrt(prediction.scale[k]) * apart
            values = np.clip(drawn, 0.0, 1.0) ** 4 if self.bounded else drawn
            values[:, self.process.observed] = self.values[k]
            values = np.where(mine, np.vstack([prediction.expected[k], values]), 0.0).astype(np.float32)
            sums = [values[:, here] @ known.effect[here] for here in blocks]
            reaches = [np.abs(values[:, here]) @ known.peak[here] for here in blocks]
            yield DrawnMaps([v.reshape(-1, *known.grid) for v in sums], reaches)


class Search:
    """Scores masks round by round until the budget ends; what was not scored is predicted.

    Parameters
    ----------
    selection : Selection
        The candidates.
    budget : Budget
        What the search may cost.
    call : Call
        The clock, the moment from which a deadline counts, and the progress.
    """

    def __init__(self, selection: Selection, budget: Budget, call: Call) -> None:
        self._selection, self._call, model = selection, call, selection.model
        masks = selection.masks
        sketch = model.sketch(selection.extracted.features, masks.wanted, selection.alphas[-1])
        self.candidates = Candidates(masks, sketch)
        limit = len(masks.block) if budget.passes is None else min(budget.passes, len(masks.block))
        process = MaskProcess(vectors(sketch), limit)
        self.knowledge = Knowledge(self.candidates, process, model.manifest.bounded)
        self._allowance = Allowance(budget, call, model.pace, len(masks.block), len(masks.chosen))
        self._stopped = ""

    @property
    def observed(self) -> list[int]:
        """Numbers of the masks that were scored, in order."""
        return self.knowledge.process.observed

    def run(self) -> None:
        """Score until the budget ends."""
        allowance, model = self._allowance, self._selection.model
        while not self._stopped:
            at_once = model.batch_size if model.turns.contended else None
            size, self._stopped = allowance.next_round(len(self.observed), at_once)
            if not size:
                if self._stopped == "deadline" and not self.observed:
                    allowance.retry()
                break
            self._round(size)
            self._call.report(len(self.observed), allowance.most)
            if not self._stopped and allowance.budget.tolerance is not None:
                began = allowance.now()
                drawn, seconds = self._drawn()
                least = min(maps.agreement for maps in drawn)
                allowance.asked("check", began, less=seconds)
                self._stopped = "tolerance" if least >= 1 - allowance.budget.tolerance else ""

    def _round(self, size: int) -> None:
        """Choose and score masks batch by batch, then learn; a round that takes longer than expected ends early."""
        allowance, began, done = self._allowance, self._allowance.now(), 0
        batch = self._selection.model.batch_size
        while done < size:
            part = min(batch, size - done)
            if done and not allowance.fits(part, done, began):
                self._stopped = ""
                break
            self._score([self.knowledge.choose() for _ in range(part)])
            done += part
        self.knowledge.learn()
        allowance.scored(done, began)

    def finish(self) -> Outcome:
        """The heat maps from what is known by now."""
        began, drawing = self._allowance.now(), 0.0
        masks, mass, prediction = self.candidates.masks, self.candidates.mass, self.knowledge.prediction
        mine = masks.chosen
        if prediction is None:  # without any answer, the pooled gradients are the weights
            values = masks.gather(self._selection.alphas, axis=1) * mass
        else:
            values = prediction.expected
        maps, heatmaps = self._selection.model.fuse(
            self._selection.extracted.features, masks.weights(np.where(mine, values, 0.0), mass)
        )
        agreement = np.full(len(mine), np.nan if prediction is None else 1.0)
        if prediction is not None and self.knowledge.open.any():
            drawn, drawing = self._drawn()
            for k, own in enumerate(drawn):
                heatmaps[k], agreement[k] = own.fuse(maps[k]), own.agreement
        self._allowance.asked("finish", began, less=drawing)
        counts = masks.counts(self.observed)
        wanted = mine.sum(axis=1).tolist()
        return Outcome(heatmaps, maps, self.observed, counts, agreement, wanted, self._stopped)

    def _drawn(self) -> tuple[Iterator[DrawnMaps], float]:
        """Per question, its drawn block maps; and the seconds that the draws took, which all questions share."""
        began = self._allowance.now()
        apart = self.knowledge.draw()
        self._allowance.drawn(began)
        assert self.knowledge.prediction is not None
        maps = self.knowledge.block_maps(self.knowledge.prediction, apart)
        return maps, self._allowance.now() - began

    def _score(self, batch: Sequence[int]) -> None:
        selection, masks, chosen = self._selection, self.candidates.masks, np.array(batch)
        order = np.argsort(masks.block[chosen], kind="stable")  # each block's maps together
        sorted_ = chosen[order]
        blocks, questions = masks.block[sorted_], tuple(selection.questions)
        picks = [
            Pick(
                selection.image, selection.extracted.features[b], masks.index[sorted_[blocks == b]], questions
            )
            for b in np.unique(blocks)
        ]
        scored = Scored.joined(selection.model.score_maps(picks))
        require_finite_answers(scored.answers.psi)
        self.knowledge.receive(scored.answers.psi[:, np.argsort(order)])
        self.candidates.mass[sorted_] = scored.extent.astype(np.float64) * scored.total


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
