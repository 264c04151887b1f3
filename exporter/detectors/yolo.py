"""YOLO with boxes that the file decodes: with objectness (v3, v4, v5, v7) and without (v8, v9, v11, v12)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sise_ort.exporter.detectors.columns import Origin
from sise_ort.exporter.detectors.decoding import CENTRES, corners_of_centred
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs, names, taken
from sise_ort.exporter.detectors.table import Run, Table
from sise_ort.exporter.ops import constant_array
from sise_ort.tasks.layouts import Layout


def _find_v5(outputs: Outputs) -> Candidates | None:
    return _first(outputs, objectness=True)


def _find_v8(outputs: Outputs) -> Candidates | None:
    return _first(outputs, objectness=False)


def _first(outputs: Outputs, objectness: bool) -> Candidates | None:
    tables = (table for found in outputs.tables for table in found)
    return next((c for table in tables if (c := _read(table, objectness)) is not None), None)


def _read(table: Table, objectness: bool) -> Candidates | None:
    """Four columns that the file computes, then what stands after a Sigmoid."""
    box = [run for run in table.runs if run.stop <= 4]
    rest = [run for run in table.runs if run.start >= 4 and not _constant(run)]
    if sum(run.length for run in box) != 4 or any(run.activation for run in box) or not rest:
        return None
    origins = tuple(origin for run in box for origin in run.origins)
    if any(origin.operator in ("", "Conv") for origin in origins):
        return None
    first, *others = rest
    if first.activation != "sigmoid":
        return None
    if (
        first.length == 1
        and others
        and others[0].activation == "sigmoid"
        and others[0].length == table.columns - 5
    ):
        start, stop, has = 5, table.columns, True  # a Sigmoid for objectness alone
    else:
        has = first.length > 1 and _shared(origins, first.origins)
        start, stop = first.start + has, first.stop
    if has != objectness:
        return None
    return _candidates(table, origins, (start, stop), has)


def _candidates(
    table: Table, boxes: Sequence[Origin], classes: tuple[int, int], objectness: bool
) -> Candidates:
    start, stop = classes
    layout = Layout(
        name=(YOLO_V5 if objectness else YOLO_V8).name,
        activation="sigmoid",
        logits=names(table.origins(start, stop)),
        objectness=names(table.origins(start - 1, start)) if objectness else (),
        boxes=names(boxes),
        decoder=CENTRES,
    )
    return Candidates(
        layout,
        stop - start,
        table.rows,
        taken(table, start, stop),
        lambda op: corners_of_centred(op, table.take(op, 0, 4)),
        taken(table, start - 1, start) if objectness else None,
    )


def _constant(run: Run) -> bool:
    """Whether columns are the same for every picture: YOLOv6 writes 1 where others have objectness."""
    for value in (origin.tensor for origin in run.origins):
        node = value.producer()
        filled = node is not None and node.op_type == "ConstantOfShape"
        repeated = (
            node is not None
            and node.op_type in ("Expand", "Tile")
            and constant_array(node.inputs[0]) is not None
        )
        if constant_array(value) is None and not filled and not repeated:
            return False
    return True


def _shared(boxes: Sequence[Origin], scores: Sequence[Origin]) -> bool:
    """Whether boxes are computed from the very Sigmoids that scores come from: then columns begin with objectness."""
    wanted = {origin.tensor for origin in scores}
    waiting, seen = [origin.tensor for origin in boxes], set[ir.Value]()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        node = value.producer()
        if node is None or node.op_type == "Conv":
            continue
        if node.op_type == "Sigmoid" and node.inputs[0] in wanted:
            return True
        waiting += [v for v in node.inputs if v is not None]
    return False


YOLO_V5 = DetectorLayout(
    "yolov5",
    "one output [n, N, 5 + classes]: decoded centre x, centre y, width, height; objectness and classes after a Sigmoid",
    _find_v5,
)
YOLO_V8 = DetectorLayout(
    "yolov8",
    "one output [n, 4 + classes, N]: decoded centre x, centre y, width, height; classes after a Sigmoid",
    _find_v8,
)
