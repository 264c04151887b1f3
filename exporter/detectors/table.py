"""An output of a detector, read as a table: one row per candidate, columns for scores and boxes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from sise_ort.exporter.axes import lengths_of
from sise_ort.exporter.detectors.columns import Origin, Walk
from sise_ort.exporter.ops import Ops

MOST_COLUMNS = 4096
"""Columns that are looked at one by one; an axis that is longer runs over candidates."""


@dataclass(frozen=True)
class Run:
    """Neighbouring columns that come from the same tensors.

    Attributes
    ----------
    start, stop : int
    origins : tuple of Origin
        One per level of a feature pyramid, as a rule.
    """

    start: int
    stop: int
    origins: tuple[Origin, ...]

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def activation(self) -> str:
        """The activation of all of them, "" for none, "?" where they differ."""
        found = {origin.activation for origin in self.origins}
        return found.pop() if len(found) == 1 else "?"

    @property
    def words(self) -> str:
        """What an error says of them: "80 columns after Sigmoid"."""
        columns = "1 column" if self.length == 1 else f"{self.length} columns"
        if self.activation not in ("", "?"):
            return f"{columns} after {self.activation.capitalize()}"
        operators = list(dict.fromkeys(origin.operator or "a constant" for origin in self.origins))
        return f"{columns} from {' and '.join(operators[:3])}"


@dataclass(frozen=True)
class Table:
    """A tensor as candidates × columns.

    Attributes
    ----------
    value : ir.Value
        [n, N, columns], [n, columns, N], [N·n, columns], or with several axes of candidates.
    axis : int
        The axis of the columns.
    rows, columns : int
        Number of candidates per picture, and of columns.
    """

    value: ir.Value
    axis: int
    rows: int
    columns: int

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Runs of columns, from left to right."""
        origins = [
            tuple(Origin(o.tensor, o.activation) for o in self.origins(c, c + 1)) for c in range(self.columns)
        ]
        found, start = [], 0
        for key, group in itertools.groupby(origins):
            stop = start + len(list(group))
            found.append(Run(start, stop, key))
            start = stop
        return tuple(found)

    def origins(self, start: int, stop: int) -> tuple[Origin, ...]:
        """The tensors that columns come from."""
        walk = Walk()
        walk.take(self.value, (self.axis, start, stop))
        return tuple(walk.origins)

    def take(self, op: Ops, start: int, stop: int) -> ir.Value:
        """Columns before their activations, as [n, rows, stop - start]."""
        return self._arranged(op, Walk(op).take(self.value, (self.axis, start, stop)), stop - start)

    def given(self, op: Ops, start: int, stop: int) -> ir.Value:
        """Columns as the file gives them, after their activations, as [n, rows, stop - start]."""
        return self._arranged(op, op.Slice(self.value, [start], [stop], [self.axis]), stop - start)

    def _arranged(self, op: Ops, found: ir.Value, columns: int) -> ir.Value:
        assert self.value.shape is not None
        rank = len(self.value.shape)
        if self.axis != rank - 1:
            found = op.Transpose(found, perm=[*(i for i in range(rank) if i != self.axis), self.axis])
        return found if rank == 3 else op.Reshape(found, [-1, self.rows, columns])


def tables_of(value: ir.Value) -> Iterator[Table]:
    """The ways to read a tensor as a table, columns on its shortest axis first."""
    lengths = lengths_of(value)
    if lengths is None or value.shape is None or len(lengths) < 2 or 0 in lengths:
        return
    dims = value.shape.dims
    times = _pictures(dims[0])
    if times is None or not all(isinstance(d, int) for d in dims[1:]) or (len(lengths) > 2 and times != 1):
        return
    axes = [1] if len(lengths) == 2 else sorted(range(1, len(lengths)), key=lambda a: (lengths[a], -a))
    total = times * math.prod(lengths[1:])
    for axis in axes:
        if lengths[axis] <= MOST_COLUMNS:
            yield Table(value, axis, total // lengths[axis], lengths[axis])


def _pictures(dim: int | ir.SymbolicDim) -> int | None:
    """Rows per picture along the first axis: 1 for "n" (or a batch of 1), 1076 for "1076*n"."""
    if isinstance(dim, int):
        return dim
    times, _, name = str(dim.value).rpartition("*")
    return int(times or 1) if name == "n" and (times or "1").isdigit() else None
