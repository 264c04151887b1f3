"""Classification: one row of class scores for each network input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from sise_ort.formulas.ops import INT64, Ops, V
from sise_ort.formulas.seed import class_seed
from sise_ort.heads import Head
from sise_ort.tasks.task import CLASS, Lengths


class Classes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="classes"):
    """Class scores [n, classes]."""

    on_device: ClassVar[bool] = False
    name: ClassVar[str] = "classes"

    def bounded(self, head: Head) -> bool:
        """Whether Ψ lies in [0, 1]: raw scores do not."""
        return head.bounded

    def contrast(self, head: Head) -> float:
        """The seed's contrast where Ψ itself is differentiated."""
        return head.contrast

    def outputs(self, head: Head) -> dict[str, Lengths]:
        """The class scores, and the confidences that the head makes of them."""
        return {"scores": (head.classes,), "confidence": (head.classes,)}

    def given(self, head: Head) -> dict[str, tuple[int, Lengths]]:
        """The class, and the class rather than which it is asked for (`formulas.seed.class_seed`)."""
        return {**CLASS, "other": (INT64, ())}

    def seed(self, op: Ops[V], head: Head, scores: V, given: Mapping[str, V], contrast: V | float) -> V:
        """See `sise_ort.formulas.seed.class_seed`."""
        return class_seed(op, scores, given["class"], given["other"], contrast, head.classes)
