"""Questions about class scores."""

from __future__ import annotations

from typing import Any

from sise_ort.readouts import Question
from sise_ort.runtime.asking.picture import Asking
from sise_ort.targets import class_question


def ask(asking: Asking, target: Any) -> Question:
    """The question about a class, its absence, or one class rather than another."""
    return class_question(asking.manifest, target)


def every(asking: Asking) -> list[Question]:
    """A question about each class over 0.5."""
    head = asking.manifest.head
    head.require_positive()
    return [Question.of_class(int(i)) for i in head.positive(asking.outputs["scores"])]
