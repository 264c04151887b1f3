"""From what a user asks about a picture to questions that the graphs can answer; one file per task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sise_ort.bundle import Manifest
from sise_ort.errors import TargetError
from sise_ort.readouts import Question
from sise_ort.runtime.asking import classes, detections, likeness, regions, values
from sise_ort.runtime.asking.detections import Found
from sise_ort.runtime.asking.picture import Asking
from sise_ort.targets import (
    OBJECTS,
    POSITIVE,
    Detection,
    LikenessTo,
    RatherThan,
    Region,
    Target,
    Value,
    listed,
)


@dataclass(frozen=True)
class _Kind:
    """How a task is asked.

    ask : from a target to its question. every : questions about all that the network sees, None where that means nothing.
    objects : targets that fit. words : what can be asked for.
    """

    ask: Callable[[Asking, Any], Question]
    every: Callable[[Asking], list[Question]] | None
    objects: tuple[type, ...]
    words: str


_KINDS = {
    "classes": _Kind(
        classes.ask, classes.every, (RatherThan,), "a class, by index or label, or RatherThan(…)"
    ),
    "segmentation": _Kind(regions.ask, regions.every, (Region,), "a class, or Region(…)"),
    "detection": _Kind(detections.ask, detections.every, (Detection,), "a class, or Detection(…)"),
    "embedding": _Kind(likeness.ask, None, (LikenessTo,), "LikenessTo(picture)"),
    "value": _Kind(values.ask, None, (Value,), "Value(index)"),
}


def questions_of(asking: Asking, target: Target | Sequence[Target]) -> tuple[list[Question], bool]:
    """The questions that one target or several mean, and whether the answer is a list.

    Raises
    ------
    TargetError
        There is no such class, region or detection, or the network cannot answer the question.
    """
    manifest = asking.manifest
    if isinstance(target, str) and target == POSITIVE and POSITIVE not in manifest.labels:
        every = _KINDS[manifest.task.name].every
        if every is None:
            raise TargetError(
                f'target "positive" asks for classes, which the task {manifest.task.name} does not have'
            )
        return every(asking), True
    targets, several = listed(target)
    return [question_of(asking, one) for one in targets], several


def question_of(asking: Asking, target: Target) -> Question:
    """The question that one target means; see `questions_of`."""
    require_target(asking.manifest, target)
    return _KINDS[asking.manifest.task.name].ask(asking, target)


def require_target(manifest: Manifest, target: Any) -> None:
    """Raise TargetError where an object of another task is asked for."""
    kind, name = _KINDS[manifest.task.name], manifest.task.name
    if isinstance(target, OBJECTS) and not isinstance(target, kind.objects):
        raise TargetError(
            f"{type(target).__name__} does not go with a bundle of the task {name}: ask for {kind.words}"
        )


__all__ = ["Asking", "Found", "question_of", "questions_of", "require_target"]
