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
    scores: Write = field(repr=False)
    boxes: Write = field(repr=False)
    objectness: Write | None = field(default=None, repr=False)


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


def taken(table: Table, start: int, stop: int) -> Write:
    """The writer of some columns before their activations."""
    return lambda op: table.take(op, start, stop)
