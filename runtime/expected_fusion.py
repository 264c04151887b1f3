"""The fusion of visualization maps that are known in part: what is expected of it, and how sure it is (docs/budget.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sise_ort.runtime.baselines.maps import upsample
from sise_ort.selection import otsu_threshold, otsu_thresholds

SURE = 1.9
"""Deviations from which on a step is taken as certain: u²(3 - 2u) with u = ½ + x / 3.8 is the normal distribution function to
within 0.04, and exactly 0 and 1 beyond, so that what is surely outside stays 0."""

Array = NDArray[np.floating]


class DrawnMaps:
    """Block maps on a coarse grid, of expected values and of draws of them, and their fusion.

    Parameters
    ----------
    sums : per block, V_b on the grid [1 + D, R, C]: first of the expected values, then of D draws. A block without masks
        is 0 everywhere.
    """

    def __init__(self, sums: Sequence[Array]) -> None:
        self._margins: list[Array] = []
        fused = np.zeros_like(sums[0])
        started = False
        for block in sums:
            scaled = _scaled(block)
            thresholds = otsu_thresholds(scaled.reshape(len(scaled), -1))
            margins = scaled - thresholds[:, None, None].astype(scaled.dtype)
            self._margins.append(margins)
            if not scaled.any():
                continue
            fused = (fused + scaled) * (margins > 0) if started else scaled
            started = True
        self._fused = fused[1:]

    @property
    def agreement(self) -> float:
        """Mean correlation of the fused draws with their mean."""
        drawn = self._fused.reshape(len(self._fused), -1).astype(np.float64)
        drawn -= drawn.mean(axis=1, keepdims=True)
        mean = drawn.mean(axis=0)
        sizes = np.linalg.norm(drawn, axis=1) * np.linalg.norm(mean)
        flat = sizes == 0  # of two flat maps neither differs; one that is flat beside others says nothing
        alike = (drawn @ mean) / np.where(flat, 1.0, sizes)
        return float(np.where(flat, not drawn.any(), alike).mean())

    def fuse(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The expected heat map [H, W] in [0, 1] from the visualization maps [B, H, W] of the expected values.

        METHOD's fusion, E = (E + V_b) · [V_b > t_b], with the expectation of the step in the step's place: the probability
        that V_b - t_b > 0, Gaussian with the draws' mean and deviation on the grid around the map's own margin. It is the
        step itself where the draws do not differ.
        """
        size = maps.shape[1:]
        fused = np.zeros(size, np.float32)
        started = False
        for visualization, margins in zip(maps, self._margins, strict=True):
            if not visualization.any():
                continue
            if not started:
                fused, started = visualization, True
                continue
            shift, spread = upsample(
                np.stack([margins[1:].mean(axis=0) - margins[0], margins[1:].std(axis=0)]), size
            ).astype(np.float32)
            margin = visualization - np.float32(otsu_threshold(visualization)) + shift
            share = np.clip(0.5 + margin / np.maximum(2 * SURE * spread, np.float32(1e-6)), 0, 1)
            fused = (fused + visualization) * (share * share * (3 - 2 * share))
        found: NDArray[np.float32] = fused / np.maximum(fused.max(), np.finfo(np.float32).tiny)
        return found


def _scaled(maps: Array) -> Array:
    """Maps [n, R, C] scaled to [0, 1] each; 0 where flat."""
    least = maps.min(axis=(1, 2), keepdims=True)
    extent = maps.max(axis=(1, 2), keepdims=True) - least
    scaled: Array = (maps - least) / np.where(extent > 0, extent, 1.0).astype(maps.dtype)
    return scaled
