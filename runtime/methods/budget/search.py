"""Scoring masks round by round until a budget ends, and predicting the others (docs/budget.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.scaling import TINY
from sise_ort.formulas.sketch import to_cells
from sise_ort.runtime.extracted import Pick, Scored, Sketch
from sise_ort.runtime.methods.budget.knowledge import Candidates, Knowledge, vectors
from sise_ort.runtime.methods.budget.limits import Allowance, Budget
from sise_ort.runtime.methods.budget.process import MaskProcess
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.layer_cam import layer_cam_maps
from sise_ort.runtime.methods.scoring import require_finite_answers
from sise_ort.runtime.methods.selection import Selection

EVIDENCE_BLOCKS = 3
"""Last blocks whose LayerCAM maps, multiplied, tell where masks are compared."""

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
        "complete", "passes", "deadline", "tolerance", or "rounds" where an earlier search was repeated.
    rounds : tuple of int or None
        Masks of each round, where the clock decided on them; None where the budget alone says them.
    """

    heatmaps: NDArray[np.float32]
    visualization_maps: NDArray[np.float32]
    scored: list[int]
    counts: list[tuple[int, ...]]
    agreement: Array
    wanted: list[int]
    stopped: str
    rounds: tuple[int, ...] | None = None

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Per question, what a record should say."""
        return [
            {
                "masks": wanted,
                "scored": sum(counts),
                "agreement": None if np.isnan(agreement) else round(float(agreement), 4),
                "stopped_by": self.stopped,
                **({} if self.rounds is None else {"rounds": list(self.rounds)}),
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
        process = MaskProcess(vectors(sketch, evidence(selection, sketch)), limit)
        self.knowledge = Knowledge(self.candidates, process, model.manifest.bounded)
        self._allowance = Allowance(budget, call, model.pace, len(masks.block), len(masks.chosen))
        self._stopped, self._rounds = "", list[int]()

    @property
    def observed(self) -> list[int]:
        """Numbers of the masks that were scored, in order."""
        return self.knowledge.process.observed

    def run(self) -> None:
        """Score until the budget ends, or again in the rounds that the call says."""
        for size in self._call.rounds or ():
            self._round(min(size, self._allowance.most - len(self.observed)), timely=True)
        if self._call.rounds is not None:
            self._stopped = "rounds"
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
                least = min(maps.agreement for maps in self.knowledge.drawn)
                self._stopped = "tolerance" if least >= 1 - allowance.budget.tolerance else ""

    def _round(self, size: int, *, timely: bool = False) -> None:
        """Choose and score masks batch by batch, then learn; a round that takes longer than expected ends early, unless
        its size is known to be `timely`."""
        allowance, began, done = self._allowance, self._allowance.now(), 0
        batch = self._selection.model.batch_size
        while done < size:
            part = min(batch, size - done)
            if done and not timely and not allowance.fits(part, done, began):
                self._stopped = ""
                break
            self._score([self.knowledge.choose() for _ in range(part)])
            done += part
        self.knowledge.learn()
        self._rounds.append(done)
        allowance.scored(done, began)

    def finish(self) -> Outcome:
        """The heat maps from what is known by now."""
        began, knowledge = self._allowance.now(), self.knowledge
        masks, mass = self.candidates.masks, self.candidates.mass
        mine = masks.chosen
        if not knowledge.drawn:  # without any answer, the pooled gradients are the weights
            values = masks.gather(self._selection.alphas, axis=1) * mass
        else:
            values = knowledge.expected
        maps, heatmaps = self._selection.model.fuse(
            self._selection.extracted.features, masks.weights(np.where(mine, values, 0.0), mass)
        )
        agreement = np.full(len(mine), 1.0 if knowledge.drawn else np.nan)
        if knowledge.open.any():
            for k, own in enumerate(knowledge.drawn):
                heatmaps[k], agreement[k] = own.fuse(maps[k]), own.agreement
        self._allowance.finished(began)
        counts = masks.counts(self.observed)
        wanted = mine.sum(axis=1).tolist()
        timed = self._allowance.budget.deadline is not None
        rounds = tuple(self._rounds) if timed else None
        return Outcome(heatmaps, maps, self.observed, counts, agreement, wanted, self._stopped, rounds)

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


def evidence(selection: Selection, sketch: Sketch) -> Array:
    """Where the picture speaks for each question, on the sketch's grid, [K, R, C]; not negative.

    The product of LayerCAM's maps over the last blocks that the question depends on, multiplied on the grid (at full size
    it takes longer than all else beside the passes); the sketch's own evidence, Grad-CAM's map, where that is zero.
    """
    model, extracted = selection.model, selection.extracted
    spec, op = model.manifest.input, NumpyOps()
    found = np.ones(sketch.evidence.shape)
    left = np.full(len(found), EVIDENCE_BLOCKS)
    for place in reversed(range(model.blocks)):
        reached = (left > 0) & extracted.pooled_gradients[place].any(axis=1)
        if reached.any():
            maps = np.stack(layer_cam_maps(extracted, place, selection.questions))
            cells = to_cells(op, maps, maps.shape[1:], (spec.height, spec.width))
            found[reached] *= (cells / np.maximum(cells.max(axis=(1, 2), keepdims=True), TINY))[reached]
            left[reached] -= 1
    speaks = (left < EVIDENCE_BLOCKS) & found.any(axis=(1, 2))
    return np.where(speaks[:, None, None], found, sketch.evidence)
