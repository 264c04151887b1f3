"""The record of a detection head: which tensors hold scores and boxes, and how boxes become pixels (docs/detectors.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:  # whoever builds a struct has plain strings; what is read from a file is checked
    Activation = str
else:
    Activation = Literal["sigmoid", "softmax"]

Tensors = Annotated[tuple[str, ...], Meta(max_length=10_000)]


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a network's file holds the candidates of a detector; the bundle's graphs hold them already decoded.

    Attributes
    ----------
    name : str
        Name of the layout, such as "yolox".
    activation : str
        From a logit to a probability: "sigmoid" (each class by itself) or "softmax" (over all classes).
    logits, boxes : tuple of str
        Tensors of the source's graph that hold the class scores before the activation, and the boxes.
    objectness : tuple of str
        Tensors that hold the logit of "there is an object", which multiplies every class; empty where there is none.
    decoder : str
        How boxes become corners in pixels of the network's input, in words.
    strides : tuple of float
        Pixels from one place of a feature map to the next, for each level; empty where the file decodes its boxes itself.
    priors : str
        The boxes that the network refines (anchors), in words; empty where there are none, or the file holds them.
    background : int or None
        Index of the class that means "no object"; it stays among the scores, since the softmax needs it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    activation: Activation
    logits: Tensors
    boxes: Tensors
    objectness: Tensors = ()
    decoder: str = ""
    strides: Annotated[tuple[float, ...], Meta(max_length=100)] = ()
    priors: str = ""
    background: Annotated[int, Meta(ge=0, le=1 << 24)] | None = None

    @property
    def multiplied(self) -> bool:
        """Whether a detection's confidence is its class's probability times that of an object."""
        return bool(self.objectness)
