"""YuNet, OpenCV's face detector, in its two forms: with a softmax and priors (2021), with sigmoids and no priors (2023)."""

from __future__ import annotations

import numpy as np

from sise_ort.exporter.detectors.decoding import (
    Boxes,
    corners_by_priors,
    corners_on_grid,
    grid,
    levels_of,
    strides_of,
)
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs, Taken, names, taken
from sise_ort.exporter.detectors.table import Table
from sise_ort.exporter.detectors.ultraface import SIDES, STRIDES, VARIANCES
from sise_ort.tasks.layouts import Layout


def priors(levels: list[tuple[int, int]]) -> Boxes:
    """Priors of the form of 2021: centre (place + ½) · stride, squares (OpenCV's face_detect.cpp, generatePriors)."""
    found = []
    for (height, width), stride, sides in zip(levels, STRIDES, SIDES, strict=True):
        rows, columns = np.mgrid[:height, :width]
        centres = (np.stack([columns, rows], axis=-1).reshape(-1, 1, 2) + 0.5) * stride
        squares = np.array(sides, np.float64)[None, :, None] * np.ones(2)
        shape = (height * width, len(sides), 2)
        found.append(
            np.concatenate([np.broadcast_to(centres, shape), np.broadcast_to(squares, shape)], axis=2)
        )
    return np.concatenate([f.reshape(-1, 4) for f in found])


def _find(outputs: Outputs) -> Candidates | None:
    found = (c for s, b in outputs.pairs() if (c := _read_2021(s, b)) is not None)
    return next(found, None) or _read_2023(outputs)


def _read_2021(scores: Table, boxes: Table) -> Candidates | None:
    """Scores [N, 2] after a Softmax, boxes and five landmarks [N, 14]."""
    if scores.columns != 2 or boxes.columns != 14:
        return None
    origins, found = scores.origins(0, 2), boxes.origins(0, 4)
    levels = levels_of(found)
    if levels is None or len(levels) != 4 or not all(o.activation == "softmax" and o.whole for o in origins):
        return None
    anchors = priors([(level.height, level.width) for level in levels])
    if len(anchors) != scores.rows:
        return None
    take = taken(boxes, 0, 4)
    layout = Layout(
        name=YUNET.name,
        activation="softmax",
        logits=names(origins),
        boxes=names(found),
        decoder="centre prior + 0.1 · xy · size, size · exp(0.2 · wh)",
        strides=tuple(map(float, STRIDES)),
        priors=f"squares of {', '.join('/'.join(map(str, s)) for s in SIDES)} pixels",
        background=0,
    )
    return Candidates(
        layout,
        2,
        scores.rows,
        taken(scores, 0, 2),
        lambda op: corners_by_priors(op, take(op), anchors, VARIANCES),
    )


def _read_2023(outputs: Outputs) -> Candidates | None:
    """For each level outputs cls_8 [n, N, 1], obj_8 [n, N, 1] and bbox_8 [n, N, 4], where 8 is the stride."""
    by_name = {v.name or "": t[0] for v, t in zip(outputs.values, outputs.tables, strict=True) if t}
    strides = sorted(int(s) for n in by_name if (s := n.removeprefix("bbox_")) != n and s.isdigit())
    parts = {kind: [by_name.get(f"{kind}_{s}") for s in strides] for kind in ("cls", "obj", "bbox")}
    if not strides or any(table is None for tables in parts.values() for table in tables):
        return None
    classes, seen, boxes = ([t for t in parts[kind] if t is not None] for kind in parts)
    origins = {
        kind: [o for t in parts[kind] if t is not None for o in t.origins(0, t.columns)] for kind in parts
    }
    if any(t.columns != 1 for t in (*classes, *seen)) or any(t.columns != 4 for t in boxes):
        return None
    levels = levels_of(origins["bbox"])
    if levels is None or strides_of(levels, outputs.height, outputs.width) != strides:
        return None
    places, numbers = grid(levels, [1] * len(levels))
    step = np.array(strides, np.float64)[numbers][:, None]
    layout = Layout(
        name=YUNET.name,
        activation="sigmoid",
        logits=names(origins["cls"]),
        objectness=names(origins["obj"]),
        boxes=names(origins["bbox"]),
        decoder="centre (xy + place) · stride, size exp(wh) · stride",
        strides=tuple(map(float, strides)),
    )
    write = Taken(tuple(boxes), 0, 4)
    return Candidates(
        layout,
        1,
        len(places),
        Taken(tuple(classes), 0, 1),
        lambda op: corners_on_grid(op, write(op), places, step),
        Taken(tuple(seen), 0, 1),
    )


YUNET = DetectorLayout(
    "yunet",
    "outputs loc [N, 14], conf [N, 2] and iou [N, 1] (2021), or cls_8, obj_8, bbox_8 and so on for each stride (2023)",
    _find,
)
