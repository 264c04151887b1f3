"""Questions about numbers of an output."""

from __future__ import annotations

from typing import Any

import numpy as np

from sise_ort.errors import TargetError, shown
from sise_ort.readouts import Question
from sise_ort.runtime.asking.picture import Asking
from sise_ort.targets import Value
from sise_ort.tasks import Values


def ask(asking: Asking, target: Any) -> Question:
    """The question about one number, or the mean of some."""
    asked = target if isinstance(target, Value) else Value(target)
    task = asking.manifest.task
    assert isinstance(task, Values)
    if asked.output is not None and asked.output != task.output:
        raise TargetError(f"the bundle's output is {shown(task.output)}, not {shown(asked.output)}")
    weights = np.zeros(task.shape, np.float32)
    try:
        weights[... if asked.index is None else asked.index] = 1
    except (IndexError, TypeError, ValueError) as error:
        raise TargetError(
            f"the output {shown(task.output)} has the shape {list(task.shape)}: [{_place(asked.index)}] is no place in it"
        ) from error
    count = weights.sum(dtype=np.float64)
    if not count:
        raise TargetError(f"{shown(asked.index)} takes no value of the output {shown(task.output)}")
    which = "" if asked.index is None else f"[{_place(asked.index)}]"
    words = f"{'mean of ' if count > 1 else ''}{task.output or 'the output'}{which}"
    return Question(tensors={"weights": (weights / count).astype(np.float32)}, phrase=words)


def _place(index: Any) -> str:
    """An index as Python writes it."""
    if isinstance(index, tuple):
        return ", ".join(map(_place, index))
    if isinstance(index, slice):
        parts = ["" if part is None else str(part) for part in (index.start, index.stop, index.step)]
        return ":".join(parts if index.step is not None else parts[:2])
    return str(index)
