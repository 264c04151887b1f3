"""What to explain, as users say it: classes by index or label, and objects for everything else."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import TargetError, option, shown
from sise_ort.formulas.seed import NO_OTHER, RUNNER_UP
from sise_ort.readouts import Question

ABSENT = "not:"
POSITIVE = "positive"
MOST_QUESTIONS = 1000
"""Classes that may be asked for at once."""
LONGEST_LABEL = 200
"""Characters of an unknown label that are compared with the known ones."""
INDEX = option("target_index")

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the frame, from its upper left corner."""


@dataclass(frozen=True)
class RatherThan:
    """Why this class rather than that one; for class scores with softmax or sigmoid.

    Ψ is σ(z_c - z_d), which is p_c / (p_c + p_d) of a softmax head.

    Parameters
    ----------
    target : None, int or str
        The class c, by index or label; None takes the top class.
    other : None, int or str
        The class d; None takes the runner-up, the class with the highest score of the others.
    """

    target: int | str | None = None
    other: int | str | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """A class over a region of a segmentation; Ψ is its mean confidence over the region's places.

    Parameters
    ----------
    target : None, int or str
        The class, by index or label; None takes the one that the network sees at most places, background left out.
    mask : array, [H0, W0], optional
        The region at the frame's size: True, or any number but 0, inside.
    box : (x0, y0, x1, y1), optional
        The region in pixels of the frame. Without mask and box the region is where the network itself decides for the class.
    """

    target: int | str | None = None
    mask: NDArray[Any] | None = None
    box: Box | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.box is not None:
            raise TargetError("Region takes a mask or a box, not both")
        if self.mask is not None and np.ndim(self.mask) != 2:
            raise TargetError(
                f"the mask of a Region is [height, width], of the frame's size; this one is {list(np.shape(self.mask))}"
            )
        if self.box is not None:
            object.__setattr__(self, "box", checked_box(self.box))


@dataclass(frozen=True)
class Detection:
    """One detection; Ψ is the highest confidence of the candidates that overlap its box by an IoU of 0.5 or more.

    Parameters
    ----------
    target : int or str
        The number of a detection in `Explainer.detections` (from 0, the surest first), or with a box the class, by label or index.
    box : (x0, y0, x1, y1), optional
        Where the object is, in pixels of the frame.
    """

    target: int | str = 0
    box: Box | None = None

    def __post_init__(self) -> None:
        if self.box is not None:
            object.__setattr__(self, "box", checked_box(self.box))


@dataclass(frozen=True, eq=False)
class LikenessTo:
    """Likeness of an embedding to that of another picture; Ψ is (1 + cos) / 2.

    Parameters
    ----------
    frame : path, bytes, file, PIL image or array
        The reference picture, as `Explainer.explain` takes pictures.
    color : str
        Channel order of an array, "rgb" or "bgr".
    """

    frame: Any
    color: str = "rgb"


@dataclass(frozen=True)
class Value:
    """A number of the network's output, or the mean of some.

    Parameters
    ----------
    index : None, int, slice or tuple of these
        Which numbers, as NumPy indexes the output without its first axis; None takes all.
    output : str, optional
        Name of the output, to make sure that it is the one that was exported.
    """

    index: Any = None
    output: str | None = None


Target = None | int | str | RatherThan | Region | Detection | LikenessTo | Value
OBJECTS = (RatherThan, Region, Detection, LikenessTo, Value)


def checked_box(box: Any) -> Box:
    """Return a box as four numbers.

    Raises
    ------
    TargetError
        It is none, or empty.
    """
    try:
        found = tuple(float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise TargetError(f"a box is four numbers, x0, y0, x1, y1; this is {shown(box)}") from error
    if len(found) != 4 or not np.isfinite(found).all() or found[0] >= found[2] or found[1] >= found[3]:
        raise TargetError(f"a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1; this is {shown(box)}")
    return found


def value_index(text: str) -> Any:
    """A place in an array from text such as ``3``, ``0,2:5`` or ``:``, as NumPy indexes it.

    Raises
    ------
    TargetError
        It is none.
    """

    def one(part: str) -> Any:
        bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
        if len(bounds) == 1 and bounds[0] is not None:
            return bounds[0]
        if len(bounds) not in (2, 3):
            raise ValueError(part)
        return slice(*bounds)

    try:
        return tuple(one(part) for part in text.split(","))
    except ValueError as error:
        raise TargetError(f"{shown(text)} is no index such as 3, or 0,2:5 for the mean of several") from error


def place_in_words(box: Sequence[float]) -> str:
    """A box as a record says it: whole pixels."""
    return ", ".join(str(round(value)) for value in box)


def class_index(manifest: Manifest, target: Any) -> int:
    """The class that an index or a label means.

    Raises
    ------
    TargetError
        There is no such class, or several have the name.
    """
    classes, labels = manifest.head.classes, manifest.labels
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if not 0 <= target < classes:
            raise TargetError(
                f"target {shown(target)} is out of range: the network has classes 0 to {classes - 1}"
            )
        return int(target)
    if not isinstance(target, str):
        raise TargetError(
            f"target is {shown(target)}; an index, a label, None, an object such as RatherThan(…), or a sequence of these is "
            "needed"
        )
    places = [i for i, name in enumerate(labels) if name == target]
    if len(places) == 1:
        return places[0]
    if len(places) > 1:
        raise TargetError(f"label {shown(target)} names the classes {places}: pass the index ({INDEX})")
    if not labels:
        raise TargetError(
            f"label {shown(target)} is unknown: the bundle has no labels; pass an index ({INDEX}), or export "
            f"it again with {option('labels')} the file of names"
        )
    close = difflib.get_close_matches(target[:LONGEST_LABEL], labels, n=3)
    hint = f"; did you mean {', '.join(map(shown, close))}?" if close else f"; there are {len(labels)} labels"
    raise TargetError(f"there is no label {shown(target)}{hint}")


def class_question(manifest: Manifest, target: Any) -> Question:
    """The question about class scores that a target means; None asks about the top class, which is not known yet.

    Parameters
    ----------
    manifest : Manifest
        The bundle's labels and head.
    target : None, int, str or RatherThan
        An index from 0, a label, ``not:`` and a label; or one class rather than another.

    Raises
    ------
    TargetError
        There is no such class, several have the name, or the head does not know an absence.
    """
    if isinstance(target, RatherThan):
        return _rather_than(manifest, target)
    if target is None:
        return Question.of_class()
    absent = isinstance(target, str) and target.startswith(ABSENT) and target not in manifest.labels
    if not absent:
        return Question.of_class(class_index(manifest, target))
    manifest.head.require_absence(target)
    label = target[len(ABSENT) :]
    number = (
        not manifest.labels and label.isdecimal() and len(label) < 10 and int(label) < manifest.head.classes
    )
    return Question.of_class(class_index(manifest, int(label) if number else label), absent=True)


def _rather_than(manifest: Manifest, asked: RatherThan) -> Question:
    if not manifest.head.bounded:
        raise TargetError(
            "one class rather than another is asked of probabilities; this network gives raw scores (head none)"
        )
    if manifest.head.classes < 2:
        raise TargetError("one class rather than another: the network has one class only")
    index = -1 if asked.target is None else class_index(manifest, asked.target)
    other = RUNNER_UP if asked.other is None else class_index(manifest, asked.other)
    if index == other and index >= 0:
        raise TargetError(f"one class rather than another: both are {shown(asked.target)}")
    return Question.of_class(index, other=other)


def listed(target: Target | Sequence[Target]) -> tuple[list[Target], bool]:
    """The targets that one target or a sequence of them means, and whether a sequence was given.

    Raises
    ------
    TargetError
        The sequence is empty or too long.
    """
    if isinstance(target, np.ndarray) and target.ndim == 0:
        target = target.item()
    several = isinstance(target, (Sequence, np.ndarray, set, frozenset))
    if isinstance(target, (str, bytes, bytearray, *OBJECTS)) or not several:
        return [target], False  # type: ignore[list-item]
    count = len(target)  # type: ignore[arg-type]
    if not count:
        raise TargetError("target is an empty sequence")
    if count > MOST_QUESTIONS:
        raise TargetError(f"target asks for {count} classes at once; at most {MOST_QUESTIONS} are explained")
    return list(target), True  # type: ignore[arg-type]


__all__ = [
    "ABSENT", "INDEX", "NO_OTHER", "POSITIVE", "Detection", "LikenessTo", "RatherThan", "Region", "Target", "Value",
    "checked_box", "class_index", "class_question", "listed", "place_in_words", "value_index",
]  # fmt: skip
