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


class DrawnMaps:
    """Block maps on a coarse grid, of expected values and of draws of them, and their fusion.

    Parameters
    ----------
    sums : sequence of numpy.ndarray, float32 [1 + D, R, C]
        V_b of every block on the grid: first of the expected values, then of D draws.
    reaches : sequence of numpy.ndarray, float32 [1 + D]
        What the summands of V_b could have added up to. A map is flat, and its block left out, where its maximum - minimum is
        at most 1e-5 of that (docs/method.md, Flat maps).
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

    def _probability_of_step(self, block: int, visualization: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability [1, 1, H, W] that a place of a block's map lies above the threshold."""
        margins = self._margins[block][:, 0]
        drawn = np.stack([margins[1:].mean(axis=0) - margins[0], margins[1:].std(axis=0)])
        wide = upsample(NumpyOps(), drawn[None].astype(np.float64), *visualization.shape[2:])
        shift, spread = wide[0].astype(np.float32)
        threshold = np.float32(otsu_thresholds(visualization.reshape(1, -1))[0])
        margin = visualization - threshold + shift
        share = np.clip(0.5 + margin / np.maximum(2 * SURE * spread, np.float32(1e-6)), 0, 1)
        return np.asarray(share * share * (3 - 2 * share), np.float32)
