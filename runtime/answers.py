"""Reads questions off the network's answers: class scores on the host, everything else where it lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import DTYPES, Manifest
from sise_ort.readouts import Answers, Question, class_answers
from sise_ort.runtime.session import Session


def question_tensors(manifest: Manifest, questions: Sequence[Question]) -> dict[str, NDArray[Any]]:
    """What graphs are told about K questions: the task's tensors, [K, …] each."""
    found = {}
    for name, (dtype, shape) in manifest.task.given(manifest.head).items():
        rows: Any = [q.index if name == "class" else q.tensors[name] for q in questions]
        found[name] = np.array(rows, DTYPES[dtype]).reshape(len(questions), *shape)
    return found


def example(manifest: Manifest) -> Question:
    """A question that every network of this task can be asked, to try, warm up and time its graphs."""
    if not manifest.task.on_device:
        return Question.of_class()
    given = manifest.task.given(manifest.head)
    even = {
        name: np.full(shape, 1 / max(math.prod(shape), 1), np.float32)
        for name, (_, shape) in given.items()
        if name != "class"
    }
    return Question(0 if "class" in given else -1, even, phrase="a trial")


def from_outputs(
    manifest: Manifest, questions: Sequence[Question], outputs: Mapping[str, NDArray[Any]]
) -> Answers:
    """Answers from what a graph says besides feature maps and gradients: class scores, or psi and score.

    Parameters
    ----------
    manifest : Manifest
    questions : sequence of Question
        Their classes known.
    outputs : mapping of str to array
        "scores" [n, classes] and perhaps "confidence", or "psi" and "score", [K, n] each.
    """
    if not manifest.task.on_device:
        return class_answers(manifest.head, questions, outputs["scores"], outputs.get("confidence"))
    psi, score = (outputs[name].astype(np.float64) for name in ("psi", "score"))
    return Answers(psi, score, np.zeros((psi.shape[1], 0), np.float32))


def known_by(
    manifest: Manifest, questions: Sequence[Question], outputs: Mapping[str, NDArray[Any]]
) -> list[Question]:
    """Questions with their classes, from the first row of class scores where a graph gave some."""
    if manifest.task.on_device:
        return list(questions)
    return [question.known(outputs["scores"][0]) for question in questions]


def names_of_answer(manifest: Manifest) -> tuple[str, ...]:
    """Names of the outputs that say the network's answer in graphs that are told the questions."""
    return ("psi", "score") if manifest.task.on_device else ("scores",)


def read_on_device(
    manifest: Manifest, questions: Sequence[Question], outputs: Mapping[str, Any], session: Session
) -> Answers:
    """Answers by readout.onnx, from outputs of `predict` or `head` that lie on the device.

    Parameters
    ----------
    manifest : Manifest
    questions : sequence of Question
    outputs : mapping of str to Tensor or Rows
        Those of the task, [n, …] each.
    session : Session
        Of readout.onnx.
    """
    given = question_tensors(manifest, questions)
    fetched, _ = session.run({**outputs, **given}, fetch=["psi", "score"])
    return from_outputs(manifest, questions, fetched)
