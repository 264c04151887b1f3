"""What is explained: a number read off the network's outputs, and the question about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sise_ort.formulas.confidence import absence
from sise_ort.formulas.numpy_ops import NumpyOps


@dataclass(frozen=True)
class Outputs:
    """What the network answers to n inputs.

    Attributes
    ----------
    scores : float32, [n, classes]
        Class scores, before the head's activation.
    confidence : float32, [n, classes]
        Ψ of every class.
    """

    scores: NDArray[np.floating]
    confidence: NDArray[np.floating]


@dataclass(frozen=True)
class ClassReadout:
    """The confidence of one class.

    Parameters
    ----------
    index : int
        The class, from 0; negative where the top class is asked for and not known yet.
    """

    index: int

    def known(self, scores: NDArray[np.floating]) -> ClassReadout:
        """The readout with its class, from the whole picture's scores [classes]."""
        return replace(self, index=int(np.argmax(scores))) if self.index < 0 else self

    def value(self, outputs: Outputs) -> NDArray[np.float64]:
        """Ψ of the class, [n]."""
        return outputs.confidence[:, self.index].astype(np.float64)

    def absence(self, outputs: Outputs) -> NDArray[np.float64]:
        """1 - Ψ, [n], from the scores of a sigmoid head, so that it is exact where the class is certain."""
        return absence(NumpyOps(), outputs.scores[:, self.index].astype(np.float64))

    def score(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The class score z, [n], from scores [n, classes]; gradients of methods other than SISE are its."""
        return scores[:, self.index].astype(np.float64)

    def words(self, labels: Sequence[str]) -> str:
        """The class's name, or its number where there are no labels."""
        return labels[self.index] if labels else f"class {self.index}"


@dataclass(frozen=True)
class Question:
    """A readout, and whether what speaks for it or against it is asked for.

    Parameters
    ----------
    readout : ClassReadout
        What is read off the network's outputs.
    sign : float
        1, or -1 where the evidence for the class's absence is asked for (sigmoid heads).
    """

    readout: ClassReadout
    sign: float = 1.0

    @classmethod
    def of_class(cls, index: int = -1, *, absent: bool = False) -> Question:
        """The question about a class; about the top class where `index` is negative."""
        return cls(ClassReadout(index), -1.0 if absent else 1.0)

    @property
    def absent(self) -> bool:
        """Whether the absence is asked for."""
        return self.sign < 0

    @property
    def seed(self) -> int:
        """What the graphs need to form the gradient's seed: the index of the class, negative for the top class."""
        return self.readout.index

    def known(self, scores: NDArray[np.floating]) -> Question:
        """The question with its class, from the whole picture's scores [classes]."""
        return replace(self, readout=self.readout.known(scores))

    def value(self, outputs: Outputs) -> NDArray[np.float64]:
        """The number that is explained, [n]: Ψ, or 1 - Ψ where the absence is asked for."""
        return self.readout.absence(outputs) if self.absent else self.readout.value(outputs)

    def score(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The class score in the question's sense, [n], from scores [n, classes]: -z where the absence is asked for."""
        return self.sign * self.readout.score(scores)

    def words(self, labels: Sequence[str]) -> str:
        """What is asked for, as a record says it: a class's name, or ``not`` and its name."""
        name = self.readout.words(labels)
        return f"not {name}" if self.absent else name


def values(questions: Sequence[Question], outputs: Outputs) -> NDArray[np.float64]:
    """The numbers of several questions, [K, n]."""
    return np.stack([question.value(outputs) for question in questions])
