"""UltraFace (Ultra-Light-Fast-Generic-Face-Detector-1MB): a softmax of background and face, boxes refined from priors."""

from __future__ import annotations

import numpy as np

from sise_ort.exporter.detectors.decoding import (
    Boxes,
    Level,
    corners_by_priors,
    grid,
    levels_of,
    scaled_corners,
)
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs, names, taken
from sise_ort.exporter.detectors.table import Table
from sise_ort.tasks.layouts import Layout

STRIDES = (8, 16, 32, 64)
SIDES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
"""Sides of the square priors of each level, in pixels."""
VARIANCES = (0.1, 0.2)


def priors(height: int, width: int) -> Boxes:
    """Priors of UltraFace, and of YuNet where its maps have the same sizes.

    Maps have ceil(side / stride) places, which lie evenly: the centre of column i of w is (i + ½) · width / w (`generate_priors`
    of the authors' box_utils.py).
    """
    levels = [
        Level(-(-height // s), -(-width // s), len(sides)) for s, sides in zip(STRIDES, SIDES, strict=True)
    ]
    places, numbers = grid(levels, [level.channels for level in levels])
    counts = np.array([(level.width, level.height) for level in levels])[numbers]
    centres = (places + 0.5) / counts * (width, height)
    sides = np.concatenate([np.tile(s, v.height * v.width) for v, s in zip(levels, SIDES, strict=True)])
    boxes = np.concatenate([centres, np.stack([sides, sides], axis=1)], axis=1)
    return boxes.clip(0, np.array([width, height, width, height]))


def _find(outputs: Outputs) -> Candidates | None:
    return next((c for s, b in outputs.pairs() if (c := _read(s, b, outputs)) is not None), None)


def _read(scores: Table, boxes: Table, outputs: Outputs) -> Candidates | None:
    if scores.columns != 2 or boxes.columns != 4 or len(scores.runs) != 1:
        return None
    origins = scores.origins(0, 2)
    if not all(o.activation == "softmax" and o.whole for o in origins):
        return None
    anchors = priors(outputs.height, outputs.width)
    if len(anchors) != scores.rows:
        return None
    found = boxes.origins(0, 4)
    take = taken(boxes, 0, 4)
    decoded = levels_of(found) is None
    layout = Layout(
        name=ULTRAFACE.name,
        activation="softmax",
        logits=names(origins),
        boxes=names(found),
        decoder="corners as shares of the picture, decoded in the file"
        if decoded
        else "centre prior + 0.1 · xy · size, size · exp(0.2 · wh)",
        strides=tuple(map(float, STRIDES)),
        priors="" if decoded else f"squares of {', '.join('/'.join(map(str, s)) for s in SIDES)} pixels",
        background=0,
    )
    width, height = outputs.width, outputs.height
    return Candidates(
        layout,
        2,
        scores.rows,
        taken(scores, 0, 2),
        (lambda op: scaled_corners(op, take(op), width, height))
        if decoded
        else (lambda op: corners_by_priors(op, take(op), anchors, VARIANCES)),
    )


ULTRAFACE = DetectorLayout(
    "ultraface",
    "outputs [n, N, 2] (background and face, after a Softmax) and [n, N, 4] (boxes), with UltraFace's number of priors",
    _find,
)
