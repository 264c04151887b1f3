"""The head of a network: how class scores become confidences, and what follows from that.

The one place that tells softmax, sigmoid and raw-score heads apart (docs/method.md, Heads).
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import TargetError
from sise_ort.formulas.confidence import absence, sigmoid, softmax
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.ops import Ops, V

HeadKind = Literal["softmax", "sigmoid", "none"]
KINDS: tuple[str, ...] = get_args(HeadKind)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How class scores become confidences.

    Attributes
    ----------
    kind : "softmax", "sigmoid" or "none"
        One probability shared by all classes, one probability for each class, or raw scores.
    classes : int
        Number of class scores.
    assumed : bool
        The network's graph does not say the kind itself.
    """

    kind: HeadKind
    classes: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
    assumed: bool = False

    @property
    def words(self) -> str:
        """The kind as a record says it: "softmax (assumed)"."""
        return f"{self.kind} (assumed)" if self.assumed else self.kind

    @property
    def bounded(self) -> bool:
        """Confidences lie in [0, 1]; raw scores do not."""
        return self.kind != "none"

    @property
    def contrast(self) -> float:
        """How much SISE's seed sets the class against the others: 1 for softmax, 0 otherwise (`formulas.seed`)."""
        return 1.0 if self.kind == "softmax" else 0.0

    @property
    def independent(self) -> bool:
        """Each class has a probability of its own, so that its absence and "over 0.5" have a meaning."""
        return self.kind == "sigmoid"

    def confidence(self, op: Ops[V], scores: V) -> V:
        """Confidences [n, classes] from scores [n, classes], by any operator builder; raw scores stay as they are."""
        if self.kind == "softmax":
            return softmax(op, scores)
        return sigmoid(op, scores) if self.kind == "sigmoid" else op.Identity(scores)

    def confidences(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Confidences of all classes in float64, for scores of any shape [..., classes]."""
        z = scores.astype(np.float64)
        return self.confidence(NumpyOps(), z.reshape(-1, z.shape[-1])).reshape(z.shape)

    def absence(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Confidence that a class is absent, 1 - Ψ, in float64 and exact where the class is certain.

        Raises
        ------
        TargetError
            The head is not sigmoid.
        """
        self.require_absence()
        return absence(NumpyOps(), scores.astype(np.float64))

    def positive(self, scores: NDArray[np.floating]) -> NDArray[np.int64]:
        """Indices of the classes whose confidence is over 0.5, from scores [classes].

        Raises
        ------
        TargetError
            The head is not sigmoid.
        """
        self.require_positive()
        return np.flatnonzero(scores > 0).astype(np.int64)  # sigmoid(z) > 0.5

    def require_absence(self, target: str = "not:") -> None:
        """Raise TargetError unless the head knows the absence of a class; `target` is what was asked for."""
        if not self.independent:
            raise TargetError(
                f'target "{target}": only a sigmoid head knows that a class is absent; a {self.kind} head '
                + (
                    "shares one probability among all classes: explain the other class"
                    if self.bounded
                    else "gives raw scores, not probabilities"
                )
            )

    def require_positive(self) -> None:
        """Raise TargetError unless each class can be over 0.5 on its own."""
        if not self.independent:
            raise TargetError(
                f'target "positive" takes every class with a probability over 0.5, which a {self.kind} head does not have: '
                + (
                    "one probability is shared by all classes"
                    if self.bounded
                    else "its outputs are raw scores, not probabilities"
                )
            )
