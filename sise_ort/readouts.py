"""What is asked about a network's answer, and the numbers that are read off it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import TargetError
from sise_ort.formulas.confidence import absence, sigmoid
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.seed import NO_OTHER, RUNNER_UP
from sise_ort.heads import Head

TOP = -1
"""In place of a class's index: the class with the highest score."""


@dataclass(frozen=True)
class Answers:
    """What the network answers to n inputs, as K questions read it.

    Attributes
    ----------
    psi : float64, [K, n]
        Ψ, the number that is explained, in the question's sense.
    score : float64, [K, n]
        The score behind it, whose gradient methods other than SISE take: z_c, -z_c where the absence is asked for, z_c - z_d;
        where Ψ is no confidence, Ψ itself.
    scores : float32, [n, classes]
        All class scores; [n, 0] of networks that give none.
    """

    psi: NDArray[np.float64]
    score: NDArray[np.float64]
    scores: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All numbers, to be checked."""
        return self.psi, self.score, self.scores

    def among(self, start: int, stop: int) -> Answers:
        """The answers to some of the inputs."""
        part = slice(start, stop)
        return Answers(self.psi[:, part], self.score[:, part], self.scores[part])

    @staticmethod
    def stacked(parts: Sequence[Answers]) -> Answers:
        """What several questions read off the same answers, from what each reads alone."""
        psi, score = (np.concatenate([getattr(p, name) for p in parts]) for name in ("psi", "score"))
        return Answers(psi, score, parts[0].scores)

    @staticmethod
    def joined(parts: Sequence[Answers]) -> Answers:
        """The answers to all inputs, from parts of them in order."""
        psi, score = (np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("psi", "score"))
        return Answers(psi, score, np.concatenate([p.scores for p in parts]))


@dataclass(frozen=True)
class Question:
    """A number of the network's outputs, and whether what speaks for it or against it is asked for.

    Parameters
    ----------
    index : int
        The class, from 0; negative where there is none, or where the top class is asked for and not known yet.
    tensors : mapping of str to array
        What else the graphs are told, by the names of the task's `given`.
    sign : float
        1, or -1 where the evidence for the class's absence is asked for (sigmoid heads).
    phrase : str
        What is asked for in words, where it is more than a class.
    region : float32, [H, W], or None
        Where in the network's input the explained output lies, 1 inside, of questions that have a place.
    """

    index: int = TOP
    tensors: Mapping[str, Any] = field(default_factory=dict)
    sign: float = 1.0
    phrase: str = ""
    region: NDArray[np.float32] | None = field(default=None, repr=False)

    @classmethod
    def of_class(cls, index: int = TOP, *, absent: bool = False, other: int = NO_OTHER) -> Question:
        """The question about a class, rather than another where one is given; about the top class where it is negative."""
        return cls(index, {"other": other}, -1.0 if absent else 1.0)

    @property
    def absent(self) -> bool:
        """Whether the absence is asked for."""
        return self.sign < 0

    @property
    def other(self) -> int:
        """The class rather than which the class is asked for; `NO_OTHER` for none."""
        return int(self.tensors.get("other", NO_OTHER))

    @property
    def digest(self) -> str:
        """SHA-256 of what the graphs are told besides classes; empty where that is nothing."""
        found = hashlib.sha256()
        arrays = {name: np.asarray(value) for name, value in self.tensors.items() if np.ndim(value)}
        for name, array in sorted(arrays.items()):
            found.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest() if arrays else ""

    def known(self, scores: NDArray[np.floating]) -> Question:
        """The question with its classes, from the whole picture's scores [classes].

        Raises
        ------
        TargetError
            The top class, asked for rather than another one, is that other one.
        """
        if not scores.size or (self.index >= 0 and self.other != RUNNER_UP):
            return self
        index = int(np.argmax(scores)) if self.index < 0 else self.index
        other = self.other
        if other == RUNNER_UP:
            rest = scores.astype(np.float64)
            rest[index] = -np.inf
            other = int(np.argmax(rest))
        if other == index:
            raise TargetError(
                "one class rather than another: the other class is the network's top class itself"
            )
        return replace(self, index=index, tensors={**self.tensors, "other": other})

    def words(self, labels: Sequence[str]) -> str:
        """What is asked for, as a record says it: a class's name, or ``not`` and its name, or more words."""
        if self.phrase:
            return self.phrase
        name = class_name(self.index, labels)
        if self.other >= 0:
            return f"{name} rather than {class_name(self.other, labels)}"
        return f"not {name}" if self.absent else name


def class_name(index: int, labels: Sequence[str]) -> str:
    """A class's name, or its number where there are no labels."""
    return labels[index] if labels else f"class {index}"


def as_questions(asked: Sequence[Question | int]) -> list[Question]:
    """Questions, from questions and indices of classes."""
    return [q if isinstance(q, Question) else Question.of_class(int(q)) for q in asked]


def class_answers(
    head: Head,
    questions: Sequence[Question],
    scores: NDArray[np.floating],
    confidence: NDArray[np.floating] | None = None,
) -> Answers:
    """What questions about classes read off class scores.

    Parameters
    ----------
    head : Head
        From scores to confidences.
    questions : sequence of Question
        K of them, their classes known.
    scores : [n, classes]
        Class scores.
    confidence : [n, classes], optional
        Confidences, where the network has computed them; else the head does, in float64.
    """
    if confidence is None:
        with np.errstate(invalid="ignore"):  # scores that are not finite are refused later
            confidence = head.confidences(scores)
    psi, score = np.empty((2, len(questions), len(scores)))
    for k, question in enumerate(questions):
        z = scores[:, question.index].astype(np.float64)
        if question.other >= 0:
            score[k] = z - scores[:, question.other].astype(np.float64)
            psi[k] = sigmoid(NumpyOps(), score[k])
        else:
            score[k] = question.sign * z
            psi[k] = absence(NumpyOps(), z) if question.absent else confidence[:, question.index]
    return Answers(psi, score, np.asarray(scores, np.float32))
