"""What a layout's file gives: the candidates of a detector, found in a graph, and the nodes that decode them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sise_ort.exporter.detectors.columns import Origin, deepest
from sise_ort.exporter.detectors.table import Table, tables_of
from sise_ort.exporter.ops import Ops, static_shape
from sise_ort.tasks.layouts import Layout

Write = Callable[[Ops], ir.Value]
"""Writes nodes into a graph and returns what they compute."""


@dataclass(frozen=True)
class Outputs:
    """A network's outputs, read as tables.

    Attributes
    ----------
    values : tuple of ir.Value
    tables : tuple of tuple of Table
        For each output the ways to read it as candidates × columns; empty where there is none.
    height, width : int
        Size of the network's input in pixels.
    """

    values: tuple[ir.Value, ...]
    tables: tuple[tuple[Table, ...], ...]
    height: int
    width: int

    @classmethod
    def of(cls, graph: ir.Graph, values: Sequence[ir.Value] | None = None) -> Outputs:
        """Read the outputs of a graph (or other tensors of it)."""
        found = tuple(graph.outputs if values is None else values)
        height, width = static_shape(graph.inputs[0])[2:]
        assert height is not None and width is not None
        return cls(found, tuple(tuple(tables_of(v)) for v in found), height, width)

    def pairs(self) -> list[tuple[Table, Table]]:
        """All pairs (scores, boxes) of outputs with the same number of candidates, boxes with four columns or more."""
        return [
            (scores, boxes)
            for i, first in enumerate(self.tables)
            for j, second in enumerate(self.tables)
            if i != j
            for scores in first
            for boxes in second
            if scores.rows == boxes.rows and boxes.columns >= 4
        ]


@dataclass(frozen=True)
class Taken:
    """The writer of some columns of tables before their activations, one table below the other.

    Attributes
    ----------
    tables : tuple of Table
    start, stop : int
    """

    tables: tuple[Table, ...]
    start: int
    stop: int

    def __call__(self, op: Ops) -> ir.Value:
        return self._joined(op, [t.take(op, self.start, self.stop) for t in self.tables])

    def given(self, op: Ops) -> ir.Value:
        """The same columns as the file gives them, after their activations."""
        return self._joined(op, [t.given(op, self.start, self.stop) for t in self.tables])

    @property
    def activation(self) -> str:
        """The activation that was taken off, "" for none."""
        found = {o.activation for t in self.tables for o in t.origins(self.start, self.stop)}
        return found.pop() if len(found) == 1 else "?"

    def _joined(self, op: Ops, parts: list[ir.Value]) -> ir.Value:
        return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=1)


@dataclass(frozen=True)
class Candidates:
    """A detector's candidates as a layout found them.

    Attributes
    ----------
    layout : Layout
        For the manifest.
    classes, count : int
        Number of classes (with a background, where there is one) and of candidates.
    scores : callable
        Writes [n, count, classes], before the activation.
    boxes : callable
        Writes [n, count, 4]: x0, y0, x1, y1 in pixels of the network's input.
    objectness : callable, optional
        Writes [n, count, 1], before the sigmoid.
    """

    layout: Layout
    classes: int
    count: int
    scores: Taken = field(repr=False)
    boxes: Write = field(repr=False)
    objectness: Taken | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DetectorLayout:
    """A layout that is known.

    Attributes
    ----------
    name : str
    words : str
        What its files look like, for errors and docs/detectors.md.
    find : callable
        Look at the outputs: the candidates, None where they are laid out differently.
    """

    name: str
    words: str
    find: Callable[[Outputs], Candidates | None]


def names(origins: Sequence[Origin]) -> tuple[str, ...]:
    """Names of the tensors that are computed last, for the record, each once: arranging alone makes no other tensor."""
    return tuple(dict.fromkeys(origin.tensor.name or "" for origin in deepest(origins)))


def taken(table: Table, start: int, stop: int) -> Taken:
    """The writer of some columns of one table before their activations."""
    return Taken((table,), start, stop)
