"""Questions about a detection, and the list of what a detector sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import NotSeenError, TargetError, shown
from sise_ort.formulas.boxes import iou, suppress
from sise_ort.readouts import Question, class_name
from sise_ort.runtime.asking.picture import Asking
from sise_ort.targets import Detection, checked_box, class_index, place_in_words
from sise_ort.tasks import Detector

SUREST = 0.25
"""Least confidence of a detection that is listed."""
OVERLAP = 0.5
"""IoU from which two boxes of one class show the same object."""


@dataclass(frozen=True)
class Found:
    """A detection, after non-maximum suppression.

    Attributes
    ----------
    index : int
        Its number, the surest first.
    target : int
        Index of its class.
    label : str
        Name of its class.
    confidence : float
        Ψ of its candidate.
    box : (x0, y0, x1, y1)
        In pixels of the frame.
    """

    index: int
    target: int
    label: str
    confidence: float
    box: tuple[float, float, float, float]


def every(asking: Asking) -> list[Question]:
    """A question about each detection."""
    return [ask(asking, Detection(one.index)) for one in detections(asking)]


def detections(asking: Asking) -> list[Found]:
    """All detections with a confidence of 0.25 or more, the surest first, after non-maximum suppression."""
    task = asking.manifest.task
    if not isinstance(task, Detector):
        raise TargetError(f"the bundle's task is {task.name}: it has no detections")
    confidence, boxes = _confidences(asking), asking.outputs["boxes"]
    wanted = [c for c in range(confidence.shape[1]) if c != task.background]
    best = np.array(wanted)[confidence[:, wanted].argmax(1)]
    sure = confidence[np.arange(len(best)), best]
    kept = suppress(boxes, sure, best, overlap=OVERLAP, least=SUREST)
    return [
        Found(
            number,
            int(best[place]),
            class_name(int(best[place]), asking.manifest.labels),
            float(sure[place]),
            _to_frame(asking, boxes[place]),
        )
        for number, place in enumerate(kept)
    ]


def _confidences(asking: Asking) -> NDArray[np.float64]:
    """Of every candidate and class, [N, classes]."""
    task, head, scores = asking.manifest.task, asking.manifest.head, asking.outputs["scores"]
    assert isinstance(task, Detector)
    found = head.confidences(scores[:, : head.classes])
    if task.objectness:
        found = found / (1 + np.exp(-scores[:, head.classes :].astype(np.float64)))
    return found


def ask(asking: Asking, target: Any) -> Question:
    """The question about a numbered detection, the surest of a class, or what is seen in a box."""
    asked = Detection() if target is None else target
    if not isinstance(asked, Detection) or asked.box is None:
        by_class = not isinstance(asked, Detection)
        one = (
            _best_of(asking, class_index(asking.manifest, asked))
            if by_class
            else _numbered(asking, asked.target)
        )
        index, box = one.target, one.box
        words = f"detection {one.index}, {one.label} in the box {place_in_words(one.box)}"
    else:
        index, box = class_index(asking.manifest, asked.target), asked.box
        words = f"{class_name(index, asking.manifest.labels)} in the box {place_in_words(box)}"
    at = _to_network(asking, box)
    overlaps = iou(asking.outputs["boxes"], np.asarray(at)) >= OVERLAP
    if not overlaps.any():
        raise NotSeenError(
            f"no candidate of the network overlaps the box {place_in_words(box)} by half or more; Explainer.detections lists what it sees"
        )
    spec = asking.manifest.input
    region = np.zeros((spec.height, spec.width), np.float32)
    x0, y0, x1, y1 = (max(round(v), 0) for v in at)
    region[y0:y1, x0:x1] = 1
    return Question(index, {"candidates": overlaps.astype(np.float32)}, phrase=words, region=region)


def _numbered(asking: Asking, number: Any) -> Found:
    found = detections(asking)
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool):
        return _best_of(asking, class_index(asking.manifest, number))
    if not 0 <= number < len(found):
        there = f"there are 0 to {len(found) - 1}" if found else "the network sees nothing in this picture"
        raise NotSeenError(f"there is no detection {shown(number)}: {there}")
    return found[number]


def _best_of(asking: Asking, index: int) -> Found:
    """The surest detection of a class."""
    for one in detections(asking):
        if one.target == index:
            return one
    name = class_name(index, asking.manifest.labels)
    raise NotSeenError(
        f"the network detects no {shown(name)} in this picture with a confidence of {SUREST} or more; give the place in Python "
        f"with Detection({shown(name)}, box=…)"
    )


def _to_network(asking: Asking, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box of the frame in pixels of the network's input."""
    place = asking.prepared.placement
    y0, y1, x0, x1 = place.frame
    top, bottom, left, right = place.network
    rows, columns = (bottom - top) / (y1 - y0), (right - left) / (x1 - x0)
    return checked_box(
        (
            left + (box[0] - x0) * columns,
            top + (box[1] - y0) * rows,
            left + (box[2] - x0) * columns,
            top + (box[3] - y0) * rows,
        )
    )


def _to_frame(asking: Asking, box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """A box of the network's input in pixels of the frame."""
    place = asking.prepared.placement
    y0, y1, x0, x1 = place.frame
    top, bottom, left, right = place.network
    rows, columns = (y1 - y0) / (bottom - top), (x1 - x0) / (right - left)
    left_, top_, right_, bottom_ = (float(v) for v in box)
    return (
        x0 + (left_ - left) * columns,
        y0 + (top_ - top) * rows,
        x0 + (right_ - left) * columns,
        y0 + (bottom_ - top) * rows,
    )
