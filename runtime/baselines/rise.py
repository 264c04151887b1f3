"""RISE: random masks, weighted by the confidence that they leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.resampling import hat_matrix
from sise_ort.runtime.method import (
    Attribution,
    Attributions,
    Method,
    Progress,
    Question,
    confidences,
    require_finite,
    share,
    whole_number,
)
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor


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


def rise(
    model: BundleModel,
    image: Tensor,
    questions: Sequence[Question],
    progress: Progress | None = None,
    *,
    masks: int = 8000,
    cells: int = 7,
    probability: float = 0.5,
    seed: int = 0,
) -> Attributions:
    """Σ_i Ψ(I ⊙ M_i) · M_i over random masks, scaled to [0, 1] by its own minimum and maximum (the paper's map has no
    zero of its own).

    masks : how many. cells : of the grid, in each direction. probability : that a cell is shown. seed : of the masks.
    """
    masks, cells = whole_number("masks", masks), whole_number("cells", cells, most=1000)
    probability, seed = share("probability", probability), whole_number("seed", seed, 0, 2**63 - 1)
    scores = model.whole(image)
    known = [q.known(scores) for q in questions]
    spec = model.manifest.input
    size = (spec.height, spec.width)
    total = np.zeros((len(known), spec.height * spec.width))
    done = 0
    for part in random_masks(size, masks, cells, probability, seed, model.batch_size):
        psi = confidences(*model.score(image, part), known)
        require_finite(psi)
        total += psi.astype(np.float32) @ part.reshape(len(part), -1)
        done += len(part)
        if progress is not None:
            progress(done, masks)
    answers = []
    for question, row in zip(known, total, strict=True):
        extent = float(np.ptp(row))
        flat = extent <= 1e-6 * float(np.abs(row).max())
        heatmap = np.zeros_like(row) if flat else (row - row.min()) / extent
        notes = ("all masks leave the same confidence: the heat map is zero",) if flat else ()
        answers.append(
            Attribution(question, heatmap.reshape(size).astype(np.float32), notes, mask_counts=(masks,))
        )
    return Attributions(answers, scores, 1 + masks)


RISE = Method("rise", "RISE", "Petsiuk et al., BMVC 2018, arXiv 1806.07421", rise)
