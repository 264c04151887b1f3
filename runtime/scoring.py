"""Feature maps as masks: what the network answers to the picture through each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.runtime.method import Progress
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor

Reading = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]
"""From scores and confidence, [n, classes] each, to the values of K questions, [K, n]."""


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
    wanted: Sequence[NDArray[np.int64]],
    read: Reading,
    progress: Progress | None = None,
) -> Scored:
    """Score the wanted maps of some blocks in full batches.

    Batches run across blocks; only the very last one is padded (with whatever the buffer holds).

    Raises
    ------
    FrameError : an answer is not finite.
    """
    sizes = [len(index) for index in wanted]
    everything = sum(sizes)
    extent, total = np.empty(everything), np.empty(everything)
    found: list[NDArray[np.float64]] = []
    done = filled = 0

    def flush() -> None:
        nonlocal done, filled
        scores, confidence = model.score_masks(image)
        found.append(read(scores[:filled], confidence[:filled]))
        done, filled = done + filled, 0
        if progress is not None:
            progress(done, everything)

    for maps, index in zip(features, wanted, strict=True):
        start = 0
        while start < len(index):
            part = index[start : start + model.batch_size - filled]
            place = slice(done + filled, done + filled + len(part))
            extent[place], total[place] = model.write_masks(maps, part, filled)
            start, filled = start + len(part), filled + len(part)
            if filled == model.batch_size:
                flush()
    if filled:
        flush()
    empty = np.empty((0, model.manifest.head.classes), np.float32)
    nothing = read(empty, empty)  # where no map is wanted
    values = np.concatenate([nothing, *found], axis=1)
    if not np.isfinite(values).all():
        raise FrameError("the network answers masked copies of this frame with NaN or infinite scores")
    cuts = np.cumsum(sizes)[:-1]
    return Scored(
        np.split(values, cuts, axis=1),
        np.split(extent, cuts),
        np.split(total, cuts),
        len(found) * model.batch_size,
    )
