"""Follows columns of an output back through Concat, Reshape, Transpose and the like, to the tensors that they come from.

Detectors put class scores, objectness and boxes side by side, after activations. Where such an output is arranged only,
its columns can be taken before the activation: the same arrangement is written again for that part alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.axes import lengths_of
from sise_ort.exporter.ops import Ops, attribute, constant_array

ACTIVATIONS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "softmax"}
_UNCHANGED = frozenset("Cast Dropout Identity".split())
_RESHAPES = frozenset("Flatten Reshape Squeeze Unsqueeze".split())
Window = tuple[int, int, int]
"""An axis, and the first and the last place but one along it."""


@dataclass(frozen=True)
class Origin:
    """A tensor that columns come from.

    Attributes
    ----------
    tensor : ir.Value
        Before the activation, where there is one.
    activation : str
        "sigmoid", "softmax", or "" for none.
    whole : bool
        Whether a softmax runs along the columns, and all its classes are among them.
    first : int
        Where it runs along the columns but some of its classes are left out: the first that is not.
    """

    tensor: ir.Value
    activation: str = ""
    whole: bool = True
    first: int = 0

    @property
    def operator(self) -> str:
        """The operator that computes the tensor, "" for an input or a constant."""
        node = self.tensor.producer()
        return "" if node is None else node.op_type


class Walk:
    """Takes a part of a tensor from before the activations.

    Parameters
    ----------
    op : Ops or None
        Where the arrangement is written again; None only looks.
    """

    def __init__(self, op: Ops | None = None) -> None:
        self.op = op
        self.origins: list[Origin] = []

    def take(self, value: ir.Value, window: Window | None) -> ir.Value:
        """The part of `value` inside the window (None: all of it), before activations."""
        node = value.producer()
        if node is None:
            return self._end(value, window)
        if node.op_type in ACTIVATIONS:
            return self._activated(node, value, window)
        rules: dict[str, Callable[[ir.Node, ir.Value, Window | None], ir.Value | None]] = {
            "Concat": self._concat,
            "Gather": self._gather,
            "Slice": self._slice,
            "Split": self._split,
            "Transpose": self._transpose,
        }
        rules |= dict.fromkeys(_UNCHANGED, self._unchanged) | dict.fromkeys(_RESHAPES, self._reshape)
        rule = rules.get(node.op_type)
        found = rule(node, value, window) if rule is not None else None
        return self._end(value, window) if found is None else found

    def _end(
        self, value: ir.Value, window: Window | None, activation: str = "", whole: bool = True
    ) -> ir.Value:
        self.origins.append(Origin(value, activation, whole))
        return self._cut(value, window, lengths_of(value))

    def _cut(self, value: ir.Value, window: Window | None, lengths: list[int] | None) -> ir.Value:
        if self.op is None or window is None:
            return value
        axis, start, stop = window
        if lengths is not None and (start, stop) == (0, lengths[axis]):
            return value
        return self.op.Slice(value, [start], [stop], [axis])

    def _activated(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value:
        source, lengths = node.inputs[0], lengths_of(value)
        assert source is not None
        kind = ACTIVATIONS[node.op_type]
        if kind == "sigmoid":
            return self._end(source, window, kind)
        if lengths is None or window is None or window[0] != attribute(node, "axis", -1) % len(lengths):
            return self._end(source, window, kind, False)
        self.origins.append(Origin(source, kind, window[1:] == (0, lengths[window[0]]), window[1]))
        return self._cut(source, window, lengths)

    def _unchanged(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        source = node.inputs[0]
        return None if source is None or source.dtype != value.dtype else self.take(source, window)

    def _transpose(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        source = node.inputs[0]
        if source is None or source.shape is None:
            return None
        perm = [int(i) for i in attribute(node, "perm", range(len(source.shape))[::-1])]
        found = self.take(source, None if window is None else (perm[window[0]], *window[1:]))
        return found if self.op is None else self.op.Transpose(found, perm=perm)

    def _concat(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        rank = None if value.shape is None else len(value.shape)
        if rank is None:
            return None
        axis, place, parts = attribute(node, "axis", 0) % rank, 0, []
        for part in node.inputs:
            lengths = lengths_of(part) if part is not None else None
            if part is None or lengths is None:
                return None
            inner = window
            if window is not None and window[0] == axis:
                start, stop = max(window[1] - place, 0), min(window[2] - place, lengths[axis])
                place += lengths[axis]
                if start >= stop:
                    continue
                inner = (axis, start, stop)
            parts.append((part, inner))
        taken = [self.take(part, inner) for part, inner in parts]
        return taken[0] if self.op is None or len(taken) == 1 else self.op.Concat(*taken, axis=axis)

    def _split(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        source, mine = node.inputs[0], lengths_of(value)
        before = [lengths_of(v) for v in node.outputs[: node.outputs.index(value)]]
        if source is None or source.shape is None or mine is None or any(v is None for v in before):
            return None
        axis = attribute(node, "axis", 0) % len(mine)
        start = sum(v[axis] for v in before if v is not None)
        return self._part(source, (axis, start, start + mine[axis]), window)

    def _slice(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        source = node.inputs[0]
        lengths = lengths_of(source) if source is not None else None
        found = [constant_array(v) for v in node.inputs[1:]]
        if source is None or lengths is None or any(a is None for a in found):
            return None
        starts, stops, *rest = (np.asarray(a).tolist() for a in found)
        axes = [a % len(lengths) for a in (rest[0] if rest else range(len(starts)))]
        if len(axes) != 1 or (len(rest) > 1 and rest[1] != [1]):
            return None
        start, stop, _ = slice(starts[0], stops[0]).indices(lengths[axes[0]])
        return self._part(source, (axes[0], start, stop), window)

    def _part(self, source: ir.Value, part: Window, window: Window | None) -> ir.Value | None:
        """A window into a part of a tensor along one axis."""
        axis, start, _ = part
        if window is None:
            return self.take(source, part)
        if window[0] == axis:
            return self.take(source, (axis, start + window[1], start + window[2]))
        return self._cut(self.take(source, window), part, lengths_of(source))

    def _gather(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        """x[..., 4] or x[..., [0, 1]], with constant indices."""
        source, index = node.inputs[0], constant_array(node.inputs[1])
        lengths = lengths_of(source) if source is not None else None
        if source is None or lengths is None or index is None or index.ndim > 1 or index.size == 0:
            return None
        axis = attribute(node, "axis", 0) % len(lengths)
        first = int(index.flat[0]) % lengths[axis]
        if not np.array_equal(index.ravel() % lengths[axis], first + np.arange(index.size)):
            return None
        part = (axis, first, first + index.size)
        if index.ndim == 1:
            return self._part(source, part, window)
        if window is None:
            found: ir.Value | None = self.take(source, part)
        else:
            found = self._part(source, part, (window[0] + (window[0] >= axis), *window[1:]))
        return found if self.op is None or found is None else self.op.Squeeze(found, [axis])

    def _reshape(self, node: ir.Node, value: ir.Value, window: Window | None) -> ir.Value | None:
        source = node.inputs[0]
        old, new = (lengths_of(source), lengths_of(value)) if source is not None else (None, None)
        if source is None or old is None or new is None:
            return None
        aligned = _same_axis(old, new, window[0]) if window is not None else None
        if window is None or aligned is None:
            found = self.take(source, None)
            return self._cut(self._shaped(found, value, {}), window, new)
        found = self.take(source, (aligned, *window[1:]))
        return self._shaped(found, value, {window[0]: window[2] - window[1]})

    def _shaped(self, found: ir.Value, like: ir.Value, changed: dict[int, int]) -> ir.Value:
        if self.op is None:
            return found
        assert like.shape is not None
        dims = [d if isinstance(d, int) else -1 for d in like.shape.dims]
        return self.op.Reshape(found, [changed.get(i, d) for i, d in enumerate(dims)])


def deepest(origins: Sequence[Origin]) -> list[Origin]:
    """The tensors behind the origins that are computed last, and not only arranged, such as the convolutions of each level."""
    walk = Walk()
    for origin in origins:
        walk.take(origin.tensor, None)
    return walk.origins


def _same_axis(old: list[int], new: list[int], axis: int) -> int | None:
    """The axis before a Reshape that is `axis` after it, unsplit and unmerged; None if there is none."""
    outer = math.prod(new[:axis])
    for place, length in enumerate(old):
        if length == new[axis] and math.prod(old[:place]) == outer:
            return place
    return None
