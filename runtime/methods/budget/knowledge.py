"""What is known of the masks within a budget: predictions of the unscored ones, and what each one's score may change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.selection import due_block
from sise_ort.runtime.extracted import Sketch
from sise_ort.runtime.methods.budget.fusion import DrawnMaps
from sise_ort.runtime.methods.budget.process import MaskProcess
from sise_ort.runtime.methods.scoring import Masks

PAIRS = 8
"""Draws of the confidences that are not known, each with its mirror image."""
CELL_SCALE, TEXTURE_SCALE = 0.12, 6.0
"""Squared distances of cells are brought to this median, differences of texture divided by this (docs/budget.md)."""
USUAL_VARIANCE, USUAL_COUNT = 0.1, 2
"""The process's variance before anything is known (its median on 20 pictures), and how many answers that counts for."""
MAP_SHARE = 0.3
"""Weight of what a mask may change in its block's map, beside what it may decide near Otsu's threshold."""

Array = NDArray[np.float64]


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

    Attributes
    ----------
    values : float, [K, n]
        Of the scored masks, in order.
    open : bool, [M]
        Which masks are not scored.
    expected : float, [K, M]
        Expected values, as of the last `learn`; those that are known are themselves.
    drawn : list of DrawnMaps
        Per question, as of the last `learn`; empty before it.
    """

    def __init__(self, candidates: Candidates, process: MaskProcess, bounded: bool) -> None:
        self.candidates, self.process, self.bounded = candidates, process, bounded
        self.values = np.empty((len(candidates.masks.chosen), 0))
        self.open = np.ones(len(candidates), bool)
        self.expected = np.empty((len(self.values), 0))
        self.drawn: list[DrawnMaps] = []
        self._prior: NDArray[np.floating] | None = None
        self._counts = np.zeros(len(candidates.importance))

    def choose(self) -> int:
        """The mask that tells most about the heat map, as far as is known; it counts as observed from now on."""
        left, masks = self.process.variance, self.candidates.masks
        if not self.drawn:
            # nothing is known: blocks in turn by their importance, in each the mask least like the observed ones
            free = np.bincount(masks.block[self.open], minlength=len(self._counts)) > 0
            (due,) = due_block(NumpyOps(), self._counts, free, len(free))
            gain = np.where(masks.block == due, left, -1.0)
        else:
            gain = self._gain * left / self._left_when_learnt
        mask = int(np.argmax(np.where(self.open, gain, -2.0)))
        self.process.observe(mask)
        self.open[mask] = False
        self._counts[masks.block[mask]] += 1
        return mask

    def receive(self, values: Array) -> None:
        """Values [K, n] of the masks chosen last, in their order."""
        self.values = np.concatenate([self.values, values], axis=1)

    def learn(self) -> None:
        """Predict all masks, draw heat maps, and weigh how much each mask's uncertainty can change them."""
        masks, process = self.candidates.masks, self.process
        values = self.values**0.25 if self.bounded else self.values
        mean, squares = process.mean(values)
        usual = USUAL_VARIANCE if self.bounded else np.mean(values**2, axis=1)
        scale = (USUAL_COUNT * usual + squares) / (USUAL_COUNT + values.shape[1] - 1)
        expected, variance = moments(mean, scale[:, None] * process.variance, self.bounded)
        expected[:, process.observed] = self.values
        self._left_when_learnt = np.maximum(process.variance, 1e-9)
        self.expected = expected
        self.drawn = list(self._draw(mean, scale))
        self._gain = np.zeros(len(self.open))
        for own, spread, mine, maps in zip(expected, variance, masks.chosen, self.drawn, strict=True):
            self._gain += self._stakes(own, np.where(mine & self.open, spread, 0.0), maps)

    def _stakes(self, expected: Array, spread: Array, maps: DrawnMaps) -> Array:
        """Per mask, what its variance may change in one question's heat map, [M]; the largest is at least 1."""
        known = self.candidates
        decides, changes = np.zeros(len(spread)), np.zeros(len(spread))
        for b in np.unique(known.masks.block):
            here = known.masks.block == b
            decides[here] = spread[here] * (known.effect[here] ** 2 @ maps.leverage[b])
            size = float(np.linalg.norm(expected[here] @ known.effect[here]))
            if size > 0:
                changes[here] = spread[here] * (known.importance[b] * known.reach[here] / size) ** 2
        parts = ((1.0, decides), (MAP_SHARE, changes))
        return sum(
            (share * part / part.max() for share, part in parts if part.max() > 0), np.zeros(len(spread))
        )

    def _draw(self, mean: NDArray[np.floating], scale: Array) -> Iterator[DrawnMaps]:
        """Per question, the block maps of the expected values and of draws of those that are not known."""
        known = self.candidates
        if self._prior is None:
            self._prior = self.process.prior(PAIRS, np.random.default_rng(0))
        apart = self.process.deviations(self._prior, np.random.default_rng(1))
        apart = np.concatenate([apart, -apart])
        blocks = [known.masks.block == b for b in range(len(known.masks.channels))]
        for k, mine in enumerate(known.masks.chosen):
            drawn = mean[k] + np.sqrt(scale[k]) * apart
            values = np.square(np.square(np.clip(drawn, 0.0, 1.0))) if self.bounded else drawn
            values[:, self.process.observed] = self.values[k]
            values = np.where(mine, np.vstack([self.expected[k], values]), 0.0).astype(np.float32)
            sums = [values[:, here] @ known.effect[here] for here in blocks]
            reaches = [np.abs(values[:, here]) @ known.peak[here] for here in blocks]
            yield DrawnMaps([v.reshape(-1, *known.grid) for v in sums], reaches)


def vectors(sketch: Sketch, evidence: Array) -> Array:
    """Masks as points whose distance tells how differently the network may answer, [M, P + 4].

    Cells count by the mean of the questions' evidence; level, deviation and texture of the masks stand beside them.

    Parameters
    ----------
    sketch : Sketch
        The masks.
    evidence : float, [K, R, C]
        Where something speaks for each question; not negative.
    """
    cells = sketch.cells.reshape(len(sketch.cells), -1).astype(np.float64)
    shares = evidence.reshape(len(evidence), -1) / np.maximum(
        evidence.sum(axis=(1, 2))[:, None], np.finfo(np.float32).tiny
    )
    weight = shares.mean(axis=0)
    if not weight.any():  # nothing speaks for any question: cells count evenly
        weight[:] = 1.0
    pairs = np.random.default_rng(0).integers(0, len(cells), (2, 512))
    squares = (cells[pairs[0]] - cells[pairs[1]]) ** 2
    weight *= CELL_SCALE / max(float(np.median(squares @ weight)), 1e-12)
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
