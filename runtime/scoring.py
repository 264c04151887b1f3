"""Feature maps as masks: what the network answers to the picture through each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.runtime.method import Progress
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor

Reading = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]
"""From scores and confidence, [n, classes] each, to the values of K questions, [K, n]."""


Picks = Sequence[NDArray[np.int64]]
"""Per block, indices of feature maps."""


@dataclass(frozen=True)
class Masks:
    """The feature maps of all blocks that become masks for some question, in one row of M.

    block, index : int64 [M], where each lies. chosen : bool [K, M], for which questions. channels : maps per block.
    """

    block: NDArray[np.int64]
    index: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, chosen: Sequence[NDArray[np.bool_]]) -> Masks:
        """From the selection per block, bool [K, N_b]."""
        everything = np.concatenate(chosen, axis=1)
        channels = tuple(c.shape[1] for c in chosen)
        wanted = np.flatnonzero(everything.any(axis=0))
        starts = np.cumsum((0, *channels))
        block = np.searchsorted(starts, wanted, side="right") - 1
        return cls(block, wanted - starts[block], everything[:, wanted], channels)

    @property
    def wanted(self) -> list[NDArray[np.int64]]:
        """Per block, the indices of the maps."""
        return [self.index[self.block == b] for b in range(len(self.channels))]

    def gather(self, arrays: Sequence[NDArray[Any]], axis: int = 0) -> NDArray[Any]:
        """One row of what stands per block and map."""
        parts = [np.take(a, index, axis=axis) for a, index in zip(arrays, self.wanted, strict=True)]
        return np.concatenate(parts, axis=axis)

    def counts(self, numbers: Sequence[int] | NDArray[np.int64] | None = None) -> list[tuple[int, ...]]:
        """Per question, how many of its masks lie in each block; of those with these numbers only."""
        among = np.ones(len(self.block), bool)
        if numbers is not None:
            among[:] = False
            among[np.asarray(numbers, np.int64)] = True
        blocks = len(self.channels)
        return [
            tuple(np.bincount(self.block[mine & among], minlength=blocks).tolist()) for mine in self.chosen
        ]

    def weights(self, values: NDArray[np.float64], mass: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        """Per block, w_k = s_k / (range_k · total_k) as float32 [R, N_b], for values s [R, M] and mass r·t [M].

        In each row and block they are divided by the largest: a positive factor cancels, tiny weights would underflow.
        """
        found = []
        for b, (channels, index) in enumerate(zip(self.channels, self.wanted, strict=True)):
            here = self.block == b
            weight = np.zeros((len(values), channels))
            weight[:, index] = values[:, here] / mass[here]
            largest = np.abs(weight).max(axis=1, keepdims=True)
            found.append((weight / np.where(largest > 0, largest, 1.0)).astype(np.float32))
        return found


@dataclass(frozen=True)
class Scored:
    """Per block: values [K, n_b] of the masked inputs; range [n_b] and total [n_b] of the masks (see mask.onnx).
    passes : inputs through the network, padding of the last batch included."""

    values: list[NDArray[np.float64]]
    extent: list[NDArray[np.float64]]
    total: list[NDArray[np.float64]]
    passes: int


def score_feature_maps(
    model: BundleModel,
    image: Tensor,
    features: Sequence[Tensor],
    wanted: Picks,
    read: Reading,
    progress: Progress | None = None,
) -> Scored:
    """Score the wanted maps of some blocks in full batches; batches run across blocks.

    Raises
    ------
    FrameError : an answer is not finite.
    """
    sizes = [len(index) for index in wanted]
    everything = sum(sizes)
    extent, total = np.empty(everything), np.empty(everything)
    empty = np.empty((0, model.manifest.head.classes), np.float32)
    found = [read(empty, empty)]  # where no map is wanted
    for start in range(0, everything, model.batch_size):
        stop = min(start + model.batch_size, everything)
        scores, confidence, extent[start:stop], total[start:stop] = model.score_maps(
            image, _between(features, wanted, start, stop)
        )
        found.append(read(scores, confidence))
        if progress is not None:
            progress(stop, everything)
    values = np.concatenate(found, axis=1)
    require_finite_answers(values)
    cuts = np.cumsum(sizes)[:-1]
    return Scored(
        np.split(values, cuts, axis=1),
        np.split(extent, cuts),
        np.split(total, cuts),
        model.passes(everything),
    )


def require_finite_answers(values: NDArray[np.float64]) -> None:
    """Raise FrameError where the network answers masked inputs with NaN or infinity."""
    if not np.isfinite(values).all():
        raise FrameError("the network answers masked copies of this frame with NaN or infinite scores")


def _between(
    features: Sequence[Tensor], wanted: Picks, start: int, stop: int
) -> list[tuple[Tensor, NDArray[np.int64]]]:
    """The wanted maps from number `start` to `stop`, counted through all blocks."""
    found, first = [], 0
    for maps, index in zip(features, wanted, strict=True):
        part = index[max(start - first, 0) : max(stop - first, 0)]
        if len(part):
            found.append((maps, part))
        first += len(index)
    return found
