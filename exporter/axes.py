"""What each axis of each tensor is made of: pictures, channels, rows or columns of the picture, or parts of these.

The image's axes are known; operators carry them on, move, merge or split them, and never invent them. An axis is a
sequence of parts: [n, c, h, w] reshaped to [n, c, h·w] has a last axis of the rows and, inside each, the columns. A
Reshape that splits rows into patches and one that puts them together again is followed exactly; what it does not
prove stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

BATCH, CHANNELS, HEIGHT, WIDTH = "batch", "channels", "height", "width"
PLACES = frozenset({HEIGHT, WIDTH})
ANYTHING = frozenset({BATCH, CHANNELS, HEIGHT, WIDTH})
_PICTURES = 1_000_003
"""Stands for the number of pictures, "n": a prime that is no other axis's length, so that Reshapes can be followed."""


@dataclass(frozen=True)
class Axis:
    """An axis as an operator made it.

    Attributes
    ----------
    kinds : frozenset of str
        What its places stand for; several where they can no longer be told apart.
    length : int
    whole : bool
        Whether its places run over the picture in order. False where that cannot be proven.
    pieces : tuple of Label
        What lies side by side in it, such as a strip of rows before a strip of columns; empty where that is not known.
    """

    kinds: frozenset[str]
    length: int
    whole: bool = True
    pieces: tuple[tuple[Part, ...], ...] = ()


@dataclass(frozen=True)
class Part:
    """The digit ``index // step % length`` of a place on an `Axis`."""

    axis: Axis
    step: int
    length: int

    @property
    def is_window(self) -> bool:
        """Whether it tells places apart inside windows only."""
        return self.axis.whole and self.step == 1 and self.length < self.axis.length


Label = tuple[Part, ...]
Labels = tuple[Label, ...]
"""One label per axis of a tensor, outermost part first."""


def whole_axis(kinds: Iterable[str], length: int) -> Label:
    return (Part(Axis(frozenset(kinds), length), 1, length),)


def unknown_axis(kinds: Iterable[str], length: int) -> Label:
    return (Part(Axis(frozenset(kinds), length, whole=False), 1, length),)


def side_by_side(labels: Iterable[Label]) -> Label:
    """An axis in which several stand one behind the other: `cut_out` gives each of them back."""
    pieces = tuple(piece for label in labels for piece in pieces_of(label) or (label,))
    kinds = frozenset(kind for piece in pieces for kind in kinds_of(piece))
    length = sum(map(length_of, pieces))
    return (Part(Axis(kinds, length, whole=False, pieces=pieces), 1, length),)


def pieces_of(label: Label) -> tuple[Label, ...]:
    """The labels that lie side by side in an axis; empty where it is none of `side_by_side`."""
    whole = len(label) == 1 and label[0].step == 1 and label[0].length == label[0].axis.length
    return label[0].axis.pieces if whole else ()


def cut_out(label: Label, start: int, length: int) -> Label | None:
    """The label of the places from `start` on; None where they are not some of the pieces of `side_by_side`."""
    at, found = 0, []
    for piece in pieces_of(label):
        if at >= start and at + length_of(piece) <= start + length:
            found.append(piece)
        at += length_of(piece)
    if sum(map(length_of, found)) != length or not found:
        return None
    return found[0] if len(found) == 1 else side_by_side(found)


def kinds_of(label: Iterable[Part]) -> frozenset[str]:
    return frozenset(kind for part in label if part.length > 1 for kind in part.axis.kinds)


def length_of(label: Iterable[Part]) -> int:
    return math.prod(part.length for part in label)


def places_in(label: Iterable[Part]) -> list[Part]:
    """The parts that tell places of the picture apart."""
    return [part for part in label if part.length > 1 and part.axis.kinds & PLACES]


def place_axis(label: Label) -> str | None:
    """HEIGHT or WIDTH where an axis runs once over the picture's rows or columns, possibly finer or coarser."""
    if not label:
        return None
    first, *finer = label
    spans = first.axis.whole and first.step * first.length == first.axis.length
    if not spans or any(not part.axis.kinds <= {CHANNELS} for part in finer):
        return None
    return next((kind for kind in (HEIGHT, WIDTH) if first.axis.kinds == {kind}), None)


def lengths_of(value: ir.Value) -> list[int] | None:
    """The lengths of all axes, with a stand-in for the number of pictures; None where one is unknown."""
    if value.shape is None:
        return None
    found = []
    for dim in value.shape.dims:
        if isinstance(dim, int):
            found.append(dim)
            continue
        times, _, name = str(dim.value).rpartition("*")
        if name != "n" or not (times or "1").isdigit():
            return None
        found.append(int(times or 1) * _PICTURES)
    return found


Known = dict[ir.Value, Labels | None]


def labels_of(value: ir.Value | None, labels: Known) -> Labels | None:
    """The labels of an input; constants have axes of no kind."""
    if value is None:
        return None
    if value in labels:
        return labels[value]
    lengths = lengths_of(value)
    return None if lengths is None else tuple(unknown_axis([], n) for n in lengths)


def join(found: Sequence[Label], length: int) -> Label:
    """The label of an axis along which several tensors run side by side."""
    known = list(dict.fromkeys(label for label in found if length_of(label) == length and kinds_of(label)))
    if len(known) == 1:
        return known[0]
    if not known:
        return next((label for label in found if length_of(label) == length), unknown_axis([], length))
    places = {place_axis(label) for label in known}
    if len(places) == 1 and (place := places.pop()) is not None:
        return whole_axis([place], length)
    kinds = {kind for label in known for kind in kinds_of(label)}
    return whole_axis(kinds, length) if kinds == {CHANNELS} else unknown_axis(kinds, length)


def resized(label: Label, length: int, *, moved: bool = False) -> Label:
    """An axis with another length: places that span the picture still do, unless they were `moved`."""
    place = place_axis(label)
    if length == length_of(label) and not moved and (place is None or len(label) == 1):
        return label
    if place is not None and not moved:
        return whole_axis([place], length)
    kinds = kinds_of(label)
    return whole_axis(kinds, length) if kinds == {CHANNELS} else unknown_axis(kinds, length)


def handed_out(source: Sequence[Label], lengths: Sequence[int]) -> Labels | None:
    """The parts of a tensor's axes as a Reshape hands them out to new ones, split where a new axis ends inside one.

    Returns
    -------
    tuple of Label or None
        None where a new axis ends where no part can be split.
    """
    waiting = [part for label in source for part in label if part.length > 1][::-1]
    found: list[Label] = []
    for length in lengths:
        own: list[Part] = []
        while length > 1:
            if not waiting:
                return None
            part = waiting.pop()
            if length % part.length == 0:
                length //= part.length
            elif part.length % length == 0:
                inner = part.length // length
                waiting.append(Part(part.axis, part.step, inner))
                part = Part(part.axis, part.step * inner, length)
                length = 1
            else:
                return None
            own.append(part)
        found.append(_merged(own))
    return tuple(found)


def _merged(parts: Sequence[Part]) -> Label:
    """Neighbours that were one part before they were split are one again."""
    found: list[Part] = []
    for part in parts:
        if found and found[-1].axis == part.axis and found[-1].step == part.step * part.length:
            part = Part(part.axis, part.step, found.pop().length * part.length)
        found.append(part)
    return tuple(found)
