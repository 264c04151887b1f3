"""Embedding: a vector for each network input, compared with a reference's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from sise_ort.formulas.likeness import likeness_seed, likeness_values
from sise_ort.formulas.ops import Ops, V
from sise_ort.heads import Head
from sise_ort.tasks.task import FLOAT, Lengths


class Embedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="embedding"):
    """Vectors [n, D]; explained is the likeness to a reference picture's vector."""

    on_device: ClassVar[bool] = True
    name: ClassVar[str] = "embedding"

    def bounded(self, head: Head) -> bool:
        """Whether Ψ lies in [0, 1]: always."""
        return True

    def contrast(self, head: Head) -> float:
        """The seed's contrast where Ψ itself is differentiated."""
        return 1.0

    def outputs(self, head: Head) -> dict[str, Lengths]:
        """The vector."""
        return {"scores": (head.classes,)}

    def given(self, head: Head) -> dict[str, tuple[int, Lengths]]:
        """The reference's vector."""
        return {"reference": (FLOAT, (head.classes,))}

    def seed(self, op: Ops[V], head: Head, scores: V, given: Mapping[str, V], contrast: V | float) -> V:
        """See `sise_ort.formulas.likeness.likeness_seed`."""
        return likeness_seed(op, scores, given["reference"])

    def read(self, op: Ops[V], head: Head, outputs: Mapping[str, V], given: Mapping[str, V]) -> tuple[V, V]:
        """See `sise_ort.formulas.likeness.likeness_values`."""
        return likeness_values(op, outputs["scores"], given["reference"])
