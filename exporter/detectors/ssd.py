"""torchvision's detectors by their heads: SSD and SSDLite (softmax, default boxes), RetinaNet (sigmoid, anchors), FCOS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sise_ort.exporter.detectors.columns import deepest
from sise_ort.exporter.detectors.decoding import (
    Boxes,
    Level,
    corners_by_priors,
    corners_by_sides,
    grid,
    levels_of,
)
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs, names, taken
from sise_ort.exporter.detectors.table import Table
from sise_ort.tasks.layouts import Layout

LARGEST = math.log(1000 / 16)
"""Largest logarithm of a size in torchvision's BoxCoder."""
VGG_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
VGG_STEPS = (8, 16, 32, 64, 100, 300)
LITE_SCALES = (*(0.2 + 0.75 * k / 5 for k in range(6)), 1.0)
RETINA_SIDES = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
FCOS_UNITS = (8, 16, 32, 64, 128)
PER_PLACE: dict[tuple[int, ...], str] = {(4, 6, 6, 6, 4, 4): "ssd300", (6,) * 6: "ssdlite"}
"""Default boxes per place of each level, and whose they are."""


def default_boxes(levels: Sequence[Level], height: int, width: int) -> Boxes | None:
    """Default boxes of torchvision's ssd300_vgg16 or ssdlite320_mobilenet_v3_large; None for other numbers per place.

    Level k has, at each place, squares of s_k and √(s_k · s_{k+1}), then s_k · √r × s_k / √r and its turned form for each ratio
    r, as shares of the picture and at most as large (`DefaultBoxGenerator`).
    """
    counts = tuple(level.channels // 4 for level in levels)
    kind = PER_PLACE.get(counts)
    if kind is None:
        return None
    scales, steps = (VGG_SCALES, VGG_STEPS) if kind == "ssd300" else (LITE_SCALES, None)
    found = []
    for k, (level, count) in enumerate(zip(levels, counts, strict=True)):
        side, between = scales[k], math.sqrt(scales[k] * scales[k + 1])
        shapes = [(side, side), (between, between)]
        for ratio in (2, 3)[: (count - 2) // 2]:
            root = math.sqrt(ratio)
            shapes += [(side * root, side / root), (side / root, side * root)]
        places, _ = grid([level], [count])
        spans = (level.width, level.height) if steps is None else (width / steps[k], height / steps[k])
        sizes = np.tile(np.minimum(shapes, 1), (level.height * level.width, 1))
        found.append(np.concatenate([(places + 0.5) / spans, sizes], axis=1) * (width, height, width, height))
    return np.concatenate(found)


def anchors(levels: Sequence[Level], height: int, width: int) -> Boxes | None:
    """Anchors of torchvision's RetinaNet: three sizes of three shapes per place; None for other numbers of levels.

    Places are whole multiples of the stride, corners are rounded to whole pixels (`AnchorGenerator`).
    """
    if len(levels) != len(RETINA_SIDES) or any(level.channels != 36 for level in levels):
        return None
    found = []
    for level, sides in zip(levels, RETINA_SIDES, strict=True):
        tall = np.sqrt([0.5, 1.0, 2.0])[:, None] * np.array(sides)
        wide = np.array(sides) / np.sqrt([0.5, 1.0, 2.0])[:, None]
        half = np.round(np.stack([wide.ravel(), tall.ravel()], axis=1).astype(np.float32) / 2)
        places, _ = grid([level], [9])
        stride = (width // level.width, height // level.height)
        found.append(np.concatenate([places * stride, np.tile(2.0 * half, (len(places) // 9, 1))], axis=1))
    return np.concatenate(found)


def _find_ssd(outputs: Outputs) -> Candidates | None:
    return _first(outputs, _read_ssd)


def _find_retinanet(outputs: Outputs) -> Candidates | None:
    return _first(outputs, _read_retinanet)


Read = Callable[[Table, Table, list[Level], Outputs], Candidates | None]


def _first(outputs: Outputs, read: Read) -> Candidates | None:
    """The first pair of scores and raw boxes that a reader takes."""
    for scores, boxes in outputs.pairs():
        if boxes.columns != 4:
            continue
        levels = levels_of(boxes.origins(0, 4))
        if levels is not None and sum(v.height * v.width * v.channels // 4 for v in levels) == boxes.rows:
            found = read(scores, boxes, levels, outputs)
            if found is not None:
                return found
    return None


def _read_ssd(scores: Table, boxes: Table, levels: list[Level], outputs: Outputs) -> Candidates | None:
    """Background and classes for each default box."""
    origins = scores.origins(0, scores.columns)
    if not _follow(scores, levels) or any(
        o.activation not in ("", "softmax") or not o.whole for o in origins
    ):
        return None
    priors = default_boxes(levels, outputs.height, outputs.width)
    if priors is None:
        return None
    take = taken(boxes, 0, 4)
    layout = Layout(
        name=SSD.name,
        activation="softmax",
        logits=names(origins),
        boxes=names(boxes.origins(0, 4)),
        decoder="centre prior + 0.1 · xy · size, size · exp(0.2 · wh)",
        priors=f"torchvision's default boxes of {PER_PLACE[tuple(v.channels // 4 for v in levels)]}",
        background=0,
    )
    return Candidates(
        layout,
        scores.columns,
        scores.rows,
        taken(scores, 0, scores.columns),
        lambda op: corners_by_priors(op, take(op), priors, (0.1, 0.2), LARGEST),
    )


def _read_retinanet(scores: Table, boxes: Table, levels: list[Level], outputs: Outputs) -> Candidates | None:
    """Classes for each anchor, every one with a probability of its own."""
    origins = scores.origins(0, scores.columns)
    priors = anchors(levels, outputs.height, outputs.width)
    if (
        priors is None
        or not _follow(scores, levels)
        or any(o.activation not in ("", "sigmoid") for o in origins)
    ):
        return None
    take = taken(boxes, 0, 4)
    layout = Layout(
        name=RETINANET.name,
        activation="sigmoid",
        logits=names(origins),
        boxes=names(boxes.origins(0, 4)),
        decoder="centre anchor + xy · size, size · exp(wh)",
        strides=tuple(float(outputs.width // level.width) for level in levels),
        priors="torchvision's anchors: sides of 32 to 645 pixels, ratios 1/2, 1 and 2",
    )
    return Candidates(
        layout,
        scores.columns,
        scores.rows,
        taken(scores, 0, scores.columns),
        lambda op: corners_by_priors(op, take(op), priors, (1.0, 1.0), LARGEST),
    )


def _follow(scores: Table, levels: Sequence[Level]) -> bool:
    """Whether scores come from feature maps of the same sizes, one after another, as the boxes do."""
    found = levels_of(deepest(scores.origins(0, scores.columns)))
    return found is not None and [(v.height, v.width) for v in found] == [(v.height, v.width) for v in levels]


def _find_fcos(outputs: Outputs) -> Candidates | None:
    """Classes, distances to the four sides, and centre-ness; one candidate per place."""
    for boxes in (t for found in outputs.tables for t in found if t.columns == 4):
        levels = levels_of(origins := boxes.origins(0, 4))
        if {o.operator for o in origins} != {"Relu"} or levels is None or len(levels) != len(FCOS_UNITS):
            continue
        beside = [t for found in outputs.tables for t in found if t.rows == boxes.rows and t is not boxes]
        found = [
            (s, c) for s in beside for c in beside if s is not c and c.columns == 1 and _follow(s, levels)
        ]
        if found and sum(v.height * v.width for v in levels) == boxes.rows:
            return _fcos(*found[0], boxes, levels, outputs)
    return None


def _fcos(
    scores: Table, centre: Table, boxes: Table, levels: list[Level], outputs: Outputs
) -> Candidates | None:
    origins = [*scores.origins(0, scores.columns), *centre.origins(0, 1)]
    if any(o.activation not in ("", "sigmoid") for o in origins):
        return None
    places, numbers = grid(levels, [1] * len(levels))
    strides = np.array([(outputs.width // v.width, outputs.height // v.height) for v in levels], np.float64)
    units = np.array(FCOS_UNITS, np.float64)[numbers][:, None]
    take = taken(boxes, 0, 4)
    layout = Layout(
        name=FCOS.name,
        activation="sigmoid",
        logits=names(scores.origins(0, scores.columns)),
        objectness=names(centre.origins(0, 1)),
        boxes=names(boxes.origins(0, 4)),
        decoder="place · stride - (left, top) · unit, place · stride + (right, bottom) · unit",
        strides=tuple(map(float, strides[:, 0])),
        priors=f"units of {', '.join(map(str, FCOS_UNITS))} pixels",
    )
    return Candidates(
        layout,
        scores.columns,
        scores.rows,
        taken(scores, 0, scores.columns),
        lambda op: corners_by_sides(op, take(op), places * strides[numbers], units),
        taken(centre, 0, 1),
    )


SSD = DetectorLayout(
    "ssd",
    "outputs [n, N, 1 + classes] and [n, N, 4] of convolutions, as the head of torchvision's ssd300 or ssdlite320 gives them",
    _find_ssd,
)
RETINANET = DetectorLayout(
    "retinanet",
    "outputs [n, N, classes] and [n, N, 4] of convolutions, nine per place, as the head of torchvision's RetinaNet gives them",
    _find_retinanet,
)
FCOS = DetectorLayout(
    "fcos",
    "outputs [n, N, classes], [n, N, 4] (distances) and [n, N, 1] (centre-ness), as the head of torchvision's FCOS gives them",
    _find_fcos,
)
