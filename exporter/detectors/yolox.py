"""YOLOX as its own export writes it: one row per place of each level, boxes still to be decoded."""

from __future__ import annotations

import numpy as np

from sise_ort.exporter.detectors.decoding import corners_on_grid, grid, levels_of, strides_of
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs, names, taken
from sise_ort.exporter.detectors.table import Table
from sise_ort.tasks.layouts import Layout


def _find(outputs: Outputs) -> Candidates | None:
    return next((c for t in outputs.tables for table in t if (c := _read(table, outputs)) is not None), None)


def _read(table: Table, outputs: Outputs) -> Candidates | None:
    """Columns x, y, log w, log h of a convolution, then objectness, then the classes, from convolutions of their own."""
    if len(table.runs) != 3:
        return None
    box, seen, classes = table.runs
    if box.length != 4 or seen.length != 1 or {o.operator for o in box.origins} != {"Conv"}:
        return None
    if seen.activation != classes.activation or seen.activation not in ("", "sigmoid"):
        return None
    levels = levels_of(box.origins)
    strides = None if levels is None else strides_of(levels, outputs.height, outputs.width)
    if levels is None or strides is None or any(level.channels != 4 for level in levels):
        return None
    places, numbers = grid(levels, [1] * len(levels))
    if len(places) != table.rows:
        return None
    step = np.array(strides, np.float64)[numbers][:, None]
    boxes = taken(table, 0, 4)
    layout = Layout(
        name=YOLOX.name,
        activation="sigmoid",
        logits=names(classes.origins),
        objectness=names(seen.origins),
        boxes=names(box.origins),
        decoder="centre (xy + place) · stride, size exp(wh) · stride",
        strides=tuple(map(float, strides)),
    )
    return Candidates(
        layout,
        classes.length,
        table.rows,
        taken(table, 5, table.columns),
        lambda op: corners_on_grid(op, boxes(op), places, step),
        taken(table, 4, 5),
    )


YOLOX = DetectorLayout(
    "yolox",
    "one output [n, N, 5 + classes]: x, y, log w, log h from convolutions, objectness, classes; places row by row, level by level",
    _find,
)
