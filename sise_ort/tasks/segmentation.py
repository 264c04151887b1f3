"""Segmentation: class scores at every place of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.region import region_seed, region_values
from sise_ort.heads import Head
from sise_ort.tasks.task import CLASS, FLOAT, Lengths

Length = Annotated[int, Meta(ge=1, le=1 << 14)]


class Segmentation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="segmentation"
):
    """Class scores [n, classes, height, width]; a class is explained over a region.

    Attributes
    ----------
    height, width : int
        Size of the grid of places, which covers the network's input.
    """

    height: Length
    width: Length

    on_device: ClassVar[bool] = True
    name: ClassVar[str] = "segmentation"

    def bounded(self, head: Head) -> bool:
        """Whether Ψ lies in [0, 1]: raw scores do not."""
        return head.bounded

    def contrast(self, head: Head) -> float:
        """The seed's contrast where Ψ itself is differentiated."""
        return 1.0

    def outputs(self, head: Head) -> dict[str, Lengths]:
        """The class scores of all places."""
        return {"scores": (head.classes, self.height, self.width)}

    def given(self, head: Head) -> dict[str, tuple[int, Lengths]]:
        """The class, and the weights of the region's places."""
        return {**CLASS, "region": (FLOAT, (self.height, self.width))}

    def seed(self, op: Ops[V], head: Head, scores: V, given: Mapping[str, V], contrast: V) -> V:
        """See `sise_ort.formulas.region.region_seed`."""
        return region_seed(op, scores, given["class"], given["region"], contrast, head.kind, head.classes)

    def read(self, op: Ops[V], head: Head, outputs: Mapping[str, V], given: Mapping[str, V]) -> tuple[V, V]:
        """See `sise_ort.formulas.region.region_values`."""
        return region_values(op, outputs["scores"], given["class"], given["region"], head.kind)
