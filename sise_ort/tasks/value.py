"""Values: any tensor of numbers, explained by one of them or by a mean of some."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from sise_ort.formulas.ops import Ops, V
from sise_ort.heads import Head
from sise_ort.tasks.task import FLOAT, Lengths

Length = Annotated[int, Meta(ge=1, le=1 << 24)]


class Values(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="value"):
    """Numbers [n, *shape], such as a regression's or an anomaly score.

    Attributes
    ----------
    shape : tuple of int
        Lengths of the output behind the axis of the network inputs; empty for one number.
    output : str
        Name of the output in the source.
    """

    shape: Annotated[tuple[Length, ...], Meta(max_length=6)] = ()
    output: str = ""

    on_device: ClassVar[bool] = True
    name: ClassVar[str] = "value"

    @property
    def size(self) -> int:
        """Numbers for each network input."""
        return math.prod(self.shape)

    def bounded(self, head: Head) -> bool:
        """Whether Ψ lies in [0, 1]: nobody knows."""
        return False

    def contrast(self, head: Head) -> float:
        """The seed's contrast where Ψ itself is differentiated."""
        return 0.0

    def outputs(self, head: Head) -> dict[str, Lengths]:
        """The numbers."""
        return {"scores": self.shape}

    def given(self, head: Head) -> dict[str, tuple[int, Lengths]]:
        """The numbers' weights: 1 over how many count, 0 for the others."""
        return {"weights": (FLOAT, self.shape)}

    def seed(self, op: Ops[V], head: Head, scores: V, given: Mapping[str, V], contrast: V | float) -> V:
        """The weights: the gradient of a weighted sum."""
        return op.Identity(given["weights"])

    def read(self, op: Ops[V], head: Head, outputs: Mapping[str, V], given: Mapping[str, V]) -> tuple[V, V]:
        """The weighted sum, twice: as Ψ and as the score."""
        rows = op.Reshape(outputs["scores"], op.constant([-1, self.size]))
        weights = op.Reshape(given["weights"], op.constant([-1, self.size]))
        found = op.MatMul(weights, op.Transpose(rows, perm=[1, 0]))
        return op.Identity(found), op.Identity(found)
