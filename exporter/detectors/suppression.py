"""Files that end with non-maximum suppression: the candidates that it chooses among, of whatever network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sise_ort.errors import SourceError
from sise_ort.exporter.detectors.checking import run_once
from sise_ort.exporter.detectors.columns import Origin
from sise_ort.exporter.detectors.decoding import corners_of_centred, scaled_corners
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs, Write, names, taken
from sise_ort.exporter.detectors.table import Table, tables_of
from sise_ort.exporter.ops import Ops, attribute
from sise_ort.tasks.layouts import Layout

_MARK = "sise_ort.suppression"
"""Name of the note on the boxes of a suppression that was cut off: "centres" or "corners"."""
_CLEAR = 1.5
"""How much more x must change than y from one candidate to the next, or y than x, so that they can be told apart."""
_SHARES = 4.0
"""Blank pictures give boxes whose corners stay under this where they are shares of the picture, not pixels."""


def before_suppression(graph: ir.Graph) -> bool:
    """Make the boxes and scores of a graph's only NonMaxSuppression its outputs.

    Parameters
    ----------
    graph : ir.Graph
        Changed in place where an output depends on one such operator.

    Returns
    -------
    bool
        Whether it was changed.
    """
    found = [node for node in _behind(graph.outputs) if node.op_type == "NonMaxSuppression"]
    if len(found) != 1 or any(v is None for v in found[0].inputs[:2]):
        return False
    boxes, scores = found[0].inputs[:2]
    assert boxes is not None and scores is not None
    boxes.meta[_MARK] = "centres" if attribute(found[0], "center_point_box", 0) else "corners"
    graph.outputs[:] = [boxes, scores]
    return True


def is_before_suppression(value: ir.Value) -> bool:
    """Whether an output holds the boxes of a suppression that was cut off."""
    return _MARK in value.meta


def _behind(values: Sequence[ir.Value]) -> list[ir.Node]:
    """The nodes that values depend on."""
    waiting, seen = [v.producer() for v in values], set[ir.Node]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [v.producer() for v in node.inputs if v is not None]
    return list(seen)


def _find(outputs: Outputs) -> Candidates | None:
    """Boxes [n, N, 4] and scores [n, C, N] in front of a suppression."""
    marked = [v for v in outputs.values if is_before_suppression(v)]
    if len(marked) != 1 or len(outputs.values) != 2 or marked[0].shape is None or len(marked[0].shape) != 3:
        return None
    (boxes,) = marked
    count = boxes.shape[1] if boxes.shape is not None else None
    scores = next(v for v in outputs.values if v is not boxes)
    tables = [t for t in tables_of(scores) if t.axis == 1 and t.rows == count]
    read = _scores(tables[0]) if tables else None
    if read is None or not isinstance(count, int):
        return None
    (logits, start, stop), objectness, background = read
    form = boxes.meta[_MARK]
    order, shares = _measured(boxes, form == "centres")
    table = Table(boxes, 2, count, 4)
    layout = Layout(
        name=SUPPRESSED.name,
        activation="sigmoid" if background is None else "softmax",
        logits=names(logits.origins(start, stop)),
        objectness=() if objectness is None else names(objectness.origins(0, 1)),
        boxes=names(table.origins(0, 4)),
        decoder=f"{form} {order} {'as shares of the picture' if shares else 'in pixels'}, decoded in the file",
        background=background,
    )
    return Candidates(
        layout,
        stop - start,
        count,
        taken(logits, start, stop),
        _corners(boxes, form, order, (outputs.width, outputs.height) if shares else None),
        None if objectness is None else taken(objectness, 0, 1),
    )


Columns = tuple[Table, int, int]
"""A table, and the columns of it that hold the classes."""


def _scores(table: Table) -> tuple[Columns, Table | None, int | None] | None:
    """Class columns, objectness if scores are a product with it, and the index of the background; None if not understood."""
    origins = table.origins(0, table.columns)
    activations = {origin.activation for origin in origins}
    if activations == {"sigmoid"}:
        return (table, 0, table.columns), None, None
    if activations == {"softmax"}:
        return _softmax(table, origins)
    if len(origins) == 1 and origins[0].operator == "Mul":
        return _product(table, origins[0])
    return None


def _softmax(table: Table, origins: Sequence[Origin]) -> tuple[Columns, None, int] | None:
    """Classes of a softmax, with the one that was left out before suppression: the background, first or last."""
    if all(origin.whole for origin in origins):
        return (table, 0, table.columns), None, 0
    first = {origin.first for origin in origins}
    whole = [
        t for t in tables_of(origins[0].tensor) if (t.rows, t.columns) == (table.rows, table.columns + 1)
    ]
    if len(origins) != 1 or not whole or first not in ({0}, {1}):
        return None
    return (whole[0], 0, table.columns + 1), None, 0 if first == {1} else table.columns


def _product(table: Table, origin: Origin) -> tuple[Columns, Table, None] | None:
    """Probabilities of classes times that of an object, multiplied before suppression."""
    node = origin.tensor.producer()
    assert node is not None
    sides = [[t for t in tables_of(v) if t.rows == table.rows] for v in node.inputs if v is not None]
    for first, second in (sides, sides[::-1]) if len(sides) == 2 else ():
        for classes in (t for t in first if t.columns == table.columns):
            for seen in (t for t in second if t.columns == 1):
                found = (*classes.origins(0, classes.columns), *seen.origins(0, 1))
                if all(o.activation == "sigmoid" for o in found):
                    return (classes, 0, classes.columns), seen, None
    return None


def _measured(boxes: ir.Value, centred: bool) -> tuple[str, bool]:
    """Whether boxes name x or y first, and whether they are shares of the picture, from those of a blank picture.

    ONNX wants y first in corners, but suppression works the same with x first, and many files have it so. Candidates run along
    the rows of a feature map, so that x changes from one to the next far more than y.
    """
    graph = boxes.graph
    assert isinstance(graph, ir.Graph)
    corners = run_once(graph, [boxes])[0][0]
    shares = bool(np.abs(corners).max() < _SHARES)
    if centred:
        return "x, y", shares
    first, second = np.abs(np.diff((corners[:, :2] + corners[:, 2:]) / 2, axis=0)).mean(axis=0)
    if max(first, second) < _CLEAR * min(first, second):
        raise SourceError(
            "the boxes before NonMaxSuppression may be x0, y0, x1, y1 or y0, x0, y1, x1, and their places do not show which; export "
            "the network without suppression"
        )
    return ("x, y" if first > second else "y, x"), shares


def _corners(boxes: ir.Value, form: str, order: str, size: tuple[int, int] | None) -> Write:
    """The writer of corners from the boxes that suppression was given."""

    def write(op: Ops) -> ir.Value:
        found = boxes if order == "x, y" else op.Gather(boxes, [1, 0, 3, 2], axis=2)
        found = corners_of_centred(op, found) if form == "centres" else found
        return op.Identity(found) if size is None else scaled_corners(op, found, *size)

    return write


SUPPRESSED = DetectorLayout(
    "suppressed",
    "one NonMaxSuppression, with boxes [n, N, 4] and scores [n, C, N] before it",
    _find,
)
