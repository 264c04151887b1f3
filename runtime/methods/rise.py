"""RISE: random masks, weighted by the confidence that they leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.resampling import hat_matrix
from sise_ort.formulas.scaling import scale_unless_flat
from sise_ort.readouts import Question
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import share, whole_number
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor


@dataclass(frozen=True)
class Rise(Method):
    """Σ_i Ψ(I ⊙ M_i) · M_i over random masks M_i, scaled to [0, 1].

    The sum is scaled by its own minimum and maximum, since the paper's map has no zero of its own.

    Parameters
    ----------
    masks : int
        Number of random masks.
    cells : int
        Number of grid cells of a mask, in each direction.
    probability : float
        Chance that a cell is shown.
    seed : int
        Seed of the random masks.
    """

    name = "rise"
    title = "RISE"
    source = "Petsiuk et al., BMVC 2018, arXiv 1806.07421"
    unit = "masks"
    price = "a forward pass per mask"

    masks: int = 8000
    cells: int = 7
    probability: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        self._set(
            masks=whole_number("masks", self.masks),
            cells=whole_number("cells", self.cells, most=1000),
            probability=share("probability", self.probability),
            seed=whole_number("seed", self.seed, 0, 2**63 - 1),
        )

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        known, whole = model.settle(questions, image)
        require_finite(*whole.arrays)
        spec = model.manifest.input
        size = (spec.height, spec.width)
        total = np.zeros((len(known), spec.height * spec.width))
        reach = np.zeros((len(known), 1, 1, 1))
        done = 0
        call.begin(self.masks)
        drawn = random_masks(size, self.masks, self.cells, self.probability, self.seed, model.batch_size)
        for part in drawn:
            psi = model.answers(known, part, image).psi
            require_finite(psi)
            total += psi.astype(np.float32) @ part.reshape(len(part), -1)
            reach += np.abs(psi).sum(axis=1).reshape(-1, 1, 1, 1)
            done += len(part)
            call.report(done, self.masks)
        scaled, uneven = scale_unless_flat(NumpyOps(), total.reshape(-1, 1, *size), [1, 2, 3], reach)
        flat = "all masks leave the same confidence: the heat map is zero"
        answers = [
            Attribution(
                question,
                heatmap[0].astype(np.float32),
                () if found.any() else (flat,),
                mask_counts=(self.masks,),
            )
            for question, heatmap, found in zip(known, scaled, uneven, strict=True)
        ]
        return Attributions(answers, whole, 1 + self.masks)


def random_masks(
    size: tuple[int, int], masks: int, cells: int, probability: float, seed: int, batch: int
) -> Iterator[NDArray[np.float32]]:
    """Masks [n, 1, H, W] in [0, 1], at most `batch` at a time; the same whatever the batch is.

    A grid of cells × cells, each 1 with the given probability, is upsampled bilinearly to (cells + 1) times the cell's
    size ⌈H/cells⌉ × ⌈W/cells⌉ and cut out at a random place.
    """
    cell = [-(-length // cells) for length in size]
    rng, later = np.random.default_rng(seed), np.random.PCG64(seed)
    later.advance(masks * cells * cells)  # where places are drawn, after all grids
    places = np.random.Generator(later)
    shifts = np.stack([places.integers(0, side, masks) for side in cell], axis=1)
    for start in range(0, masks, batch):
        count = min(batch, masks - start)
        grids = rng.random((count, cells, cells)) < probability
        part = np.empty((count, 1, *size), np.float32)
        for i, (grid, shift) in enumerate(zip(grids, shifts[start : start + batch], strict=True)):
            rows, columns = (
                hat_matrix((cells + 1) * side, cells, int(first), length)
                for side, first, length in zip(cell, shift, size, strict=True)
            )
            part[i, 0] = rows @ grid @ columns.T
        yield part
