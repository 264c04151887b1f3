"""Fusion of visualization maps that are known in part: the expected heat map, and how sure it is (docs/budget.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.fusion import accumulate
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.otsu import otsu_thresholds
from sise_ort.formulas.resampling import upsample
from sise_ort.formulas.scaling import scale_by_peak, scale_unless_flat

SURE = 1.9
"""Deviations from which on a step is taken as certain: u²(3 - 2u) with u = ½ + x / 3.8 is the normal distribution function to
within 0.04, and exactly 0 and 1 beyond, so that what is surely outside stays 0."""

Array = NDArray[np.floating]
_OP = NumpyOps(np.float32)


FLOOR = 0.1
"""Deviation of the margin that is added to the draws' where it is weighed which masks to score: the coarse grid and the
process are not as sure as they look."""


class DrawnMaps:
    """Block maps on a coarse grid, of expected values and of draws of them, and their fusion.

    Parameters
    ----------
    sums : sequence of numpy.ndarray, float32 [1 + D, R, C]
        V_b of every block on the grid: first of the expected values, then of D draws.
    reaches : sequence of numpy.ndarray, float32 [1 + D]
        What the summands of V_b could have added up to. A map is flat, and its block left out, where its maximum - minimum is
        at most 1e-5 of that (docs/method.md, Flat maps).

    Attributes
    ----------
    leverage : list of numpy.ndarray, [R·C]
        Per block, how much a unit of variance of the block's sum at a place changes the fused map: see `_leverages`.
    """

    def __init__(self, sums: Sequence[Array], reaches: Sequence[Array]) -> None:
        self._margins: list[NDArray[np.float32]] = []
        blocks = []
        for block, reach in zip(sums, reaches, strict=True):
            maps = block[:, None].astype(np.float32)
            scaled, evidence = scale_unless_flat(
                _OP, maps, [1, 2, 3], reach.astype(np.float32).reshape(-1, 1, 1, 1)
            )
            blocks.append((scaled, evidence))
            thresholds = otsu_thresholds(scaled.reshape(len(scaled), -1)).astype(np.float32)
            self._margins.append(scaled - thresholds[:, None, None, None])
        widths = [
            np.ptp(block[0]) if evidence[0] else 0.0
            for block, (_, evidence) in zip(sums, blocks, strict=True)
        ]
        self.leverage = self._leverages([scaled[0, 0] for scaled, _ in blocks], widths)
        fused = accumulate(_OP, blocks, lambda b, _: (self._margins[b] > 0).astype(np.float32))
        self._fused = fused[1:]

    @property
    def agreement(self) -> float:
        """Mean correlation of the fused draws with their mean.

        Flat maps have no correlation: 1 if every draw is flat, else 0.
        """
        drawn = self._fused.reshape(len(self._fused), -1).astype(np.float64)
        drawn -= drawn.mean(axis=1, keepdims=True)
        mean = drawn.mean(axis=0)
        sizes = np.linalg.norm(drawn, axis=1) * np.linalg.norm(mean)
        flat = sizes == 0
        alike = (drawn @ mean) / np.where(flat, 1.0, sizes)
        return float(np.where(flat, not drawn.any(), alike).mean())

    def fuse(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The expected heat map from the visualization maps of the expected values.

        In the fusion F ← (F + V_b) ⊙ [V_b > t_b], the hard step is replaced by its probability: that of V_b - t_b > 0, Gaussian
        with the draws' mean and deviation on the grid around the map's own margin. Where all draws agree it is the step.

        Parameters
        ----------
        maps : numpy.ndarray, float32 [B, H, W] in [0, 1]
            0 everywhere where a block has no evidence.

        Returns
        -------
        numpy.ndarray, float32 [H, W] in [0, 1]
        """
        blocks = [(m[None, None], np.full((1, 1, 1, 1), m.any(), np.float32)) for m in maps]
        heat = scale_by_peak(_OP, accumulate(_OP, blocks, self._probability_of_step))
        found: NDArray[np.float32] = heat[0, 0].copy()
        return found

    def _leverages(self, maps: Sequence[Array], widths: Sequence[float]) -> list[Array]:
        """Per block, the squared change of the fused map at every place per unit of change of the block's sum.

        With F_b = F_(b-1) p_(b-1) + V_b before the step of block b, p_b its probability and p_b' the probability's slope, a
        change of the margin changes the fused map by F_b p_b' Π_(c > b) p_c, and a change of the sum the margin by 1 / width.

        Parameters
        ----------
        maps : sequence of numpy.ndarray, [R, C]
            Expected V_b in [0, 1].
        widths : sequence of float
            What they were divided by, 0 where a block has no evidence.
        """
        fused: Array | None = None
        changes, steps = [], []
        for visualization, margins, width in zip(maps, self._margins, widths, strict=True):
            change, step = np.zeros_like(visualization), np.ones_like(visualization)
            if width > 0 and fused is not None:
                fused = fused + visualization
                spread = np.sqrt(margins[1:, 0].var(axis=0) + FLOOR**2)
                step, slope = step_probability(margins[1:, 0].mean(axis=0), spread)
                change = fused * slope / width
                fused = fused * step
            elif width > 0:
                fused = visualization
            changes.append(change)
            steps.append(step)
        later = np.ones_like(steps[-1])
        for b in reversed(range(len(maps))):
            changes[b] = ((changes[b] * later) ** 2).ravel()
            later = later * steps[b]
        return changes

    def _probability_of_step(self, block: int, visualization: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability [1, 1, H, W] that a place of a block's map lies above the threshold."""
        margins = self._margins[block][:, 0]
        drawn = np.stack([margins[1:].mean(axis=0) - margins[0], margins[1:].std(axis=0)])
        wide = upsample(NumpyOps(), drawn[None].astype(np.float64), *visualization.shape[2:])
        shift, spread = wide[0].astype(np.float32)
        threshold = np.float32(otsu_thresholds(visualization.reshape(1, -1))[0])
        return np.asarray(step_probability(visualization - threshold + shift, spread)[0], np.float32)


def step_probability(margin: Array, spread: Array) -> tuple[Array, Array]:
    """Probability that a Gaussian of a mean and a deviation is above 0, as a cubic, and its slope over the mean."""
    length = np.maximum(2 * SURE * spread, np.float32(1e-6))
    share = np.clip(0.5 + margin / length, 0, 1)
    return share * share * (3 - 2 * share), 6 * share * (1 - share) / length
