"""Detection: class scores and boxes of many candidates, before non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from sise_ort.formulas.detection import detection_seed, detection_values
from sise_ort.formulas.ops import Ops, V
from sise_ort.heads import Head
from sise_ort.tasks.layouts import Layout
from sise_ort.tasks.task import CLASS, FLOAT, Lengths

Count = Annotated[int, Meta(ge=1, le=1 << 24)]


class Detector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="detection"):
    """Class scores [n, candidates, classes] and boxes [n, candidates, 4]; a detection is explained by its candidates.

    Attributes
    ----------
    candidates : int
        Boxes that the network proposes.
    objectness : bool
        Whether a score of "there is an object" stands behind the class scores; the confidence is the product of both.
    layout : Layout or None
        How the source's file held them.
    """

    candidates: Count
    objectness: bool = False
    layout: Layout | None = None

    on_device: ClassVar[bool] = True
    name: ClassVar[str] = "detection"

    @property
    def background(self) -> int | None:
        """The class that means that there is no object."""
        return self.layout.background if self.layout is not None else None

    def bounded(self, head: Head) -> bool:
        """Whether Ψ lies in [0, 1]: always."""
        return True

    def contrast(self, head: Head) -> float:
        """The seed's contrast where Ψ itself is differentiated."""
        return 1.0

    def outputs(self, head: Head) -> dict[str, Lengths]:
        """The candidates' scores, the objectness last, and their boxes (x0, y0, x1, y1) in pixels of the network's input."""
        return {
            "scores": (self.candidates, head.classes + self.objectness),
            "boxes": (self.candidates, 4),
        }

    def given(self, head: Head) -> dict[str, tuple[int, Lengths]]:
        """The class, and which candidates count (1, else 0)."""
        return {**CLASS, "candidates": (FLOAT, (self.candidates,))}

    def _shape(self, head: Head) -> tuple[int, int, bool]:
        return self.candidates, head.classes, self.objectness

    def seed(self, op: Ops[V], head: Head, scores: V, given: Mapping[str, V], contrast: V) -> V:
        """See `sise_ort.formulas.detection.detection_seed`."""
        asked, counted = given["class"], given["candidates"]
        return detection_seed(op, scores, asked, counted, contrast, self._shape(head), head.kind == "softmax")

    def read(self, op: Ops[V], head: Head, outputs: Mapping[str, V], given: Mapping[str, V]) -> tuple[V, V]:
        """See `sise_ort.formulas.detection.detection_values`."""
        asked, counted = given["class"], given["candidates"]
        return detection_values(
            op, outputs["scores"], asked, counted, self._shape(head), head.kind == "softmax"
        )
