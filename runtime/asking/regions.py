"""Questions about a class over a region of a segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Fit
from sise_ort.errors import NotSeenError, TargetError, shown
from sise_ort.fitting import fit_frame, resize
from sise_ort.readouts import Question, class_name
from sise_ort.runtime.asking.picture import Asking
from sise_ort.targets import Region, class_index, place_in_words
from sise_ort.tasks import Segmentation

BACKGROUND = ("background", "__background__", "_background_")


def every(asking: Asking) -> list[Question]:
    """A question about each class that the network sees somewhere."""
    asking.manifest.head.require_positive()
    there = (asking.outputs["scores"] > 0).any((1, 2))
    return [ask(asking, Region(int(i))) for i in np.flatnonzero(there)]


def ask(asking: Asking, target: Any) -> Question:
    """The question about a class over a mask, a box, or where the network itself decides for it."""
    asked = target if isinstance(target, Region) else Region(target)
    index = _largest(asking) if asked.target is None else class_index(asking.manifest, asked.target)
    name = class_name(index, asking.manifest.labels)
    if asked.mask is None and asked.box is None:
        grid = _decided(asking, index).astype(np.float32)
        words = f"{name}, where the network sees it"
        if not grid.any():
            raise NotSeenError(
                f"the network sees {shown(name)} nowhere in this picture: give a region, Region({shown(name)}, box=…) or --region X0,Y0,X1,Y1"
            )
    else:
        grid = _on_grid(asking, _frame_mask(asking, asked))
        words = (
            f"{name} in the box {place_in_words(asked.box)}" if asked.box is not None else f"{name} in a mask"
        )
        if not grid.any():
            raise NotSeenError("the region is empty, or lies where the network does not look")
    weights = grid / grid.sum(dtype=np.float64)
    return Question(
        index, {"region": weights.astype(np.float32)}, phrase=words, region=_at_network_size(asking, grid)
    )


def _decided(asking: Asking, index: int) -> NDArray[np.bool_]:
    """Where the network itself decides for a class, [h, w]."""
    scores = asking.outputs["scores"]
    if asking.manifest.head.independent:
        return np.asarray(scores[index] > 0)
    return np.asarray(scores.argmax(0) == index)


def _largest(asking: Asking) -> int:
    """The class with the most places, background left out."""
    labels, scores = asking.manifest.labels, asking.outputs["scores"]
    counts = np.array([_decided(asking, i).sum() for i in range(len(scores))])
    for i, label in enumerate(labels):
        if label.lower() in BACKGROUND:
            counts[i] = 0
    if not counts.any():
        raise NotSeenError(
            "the network sees no class in this picture: name one with a region, Region(1, box=…)"
        )
    return int(counts.argmax())


def _frame_mask(asking: Asking, asked: Region) -> NDArray[np.float32]:
    height, width = asking.prepared.placement.frame_size
    if asked.mask is not None:
        mask = np.asarray(asked.mask)
        if mask.shape != (height, width):
            raise TargetError(
                f"the mask of the region is {mask.shape[0]} × {mask.shape[1]}, the frame {height} × {width}: both must have one size"
            )
        return np.asarray(mask != 0, np.float32)
    assert asked.box is not None
    x0, y0, x1, y1 = asked.box
    found = np.zeros((height, width), np.float32)
    found[max(round(y0), 0) : max(round(y1), 0), max(round(x0), 0) : max(round(x1), 0)] = 1
    return found


def _on_grid(asking: Asking, mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mask of frame size as shares of the places' areas, [h, w]."""
    task, fit = asking.manifest.task, asking.manifest.fit
    assert isinstance(task, Segmentation)
    empty = Fit(fit.mode, fit.resize, (0,) if fit.mode == "letterbox" else ())
    fitted, _ = fit_frame(mask[:, :, None], asking.manifest.input, empty)
    return np.asarray(np.clip(resize(fitted[:, :, 0], (task.height, task.width)), 0, 1), np.float32)


def _at_network_size(asking: Asking, grid: NDArray[np.float32]) -> NDArray[np.float32]:
    spec = asking.manifest.input
    return np.asarray(np.clip(resize(grid, (spec.height, spec.width)), 0, 1), np.float32)
