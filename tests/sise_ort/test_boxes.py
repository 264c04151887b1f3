"""Boxes: intersection over union by counting pixels, suppression by its definition and by OpenCV's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from sise_ort.exporter.ops import Ops
from sise_ort.formulas.boxes import iou, overlaps, suppress

Array = NDArray[Any]


def some_boxes(rng: np.random.Generator, count: int, side: int = 30) -> Array:
    """Boxes with whole corners; some have no area."""
    low = rng.integers(0, side, (count, 2))
    return np.concatenate([low, low + rng.integers(0, 12, (count, 2))], axis=1).astype(np.float64)


def pixels(box: Array) -> Array:
    found = np.zeros((64, 64), bool)
    x0, y0, x1, y1 = box.astype(int)
    found[y0:y1, x0:x1] = True
    return found


def counted(a: Array, b: Array) -> float:
    either = (pixels(a) | pixels(b)).sum()
    return float((pixels(a) & pixels(b)).sum() / either) if either else 0.0


def test_iou_by_counting(rng: np.random.Generator) -> None:
    boxes = some_boxes(rng, 60)
    for box in boxes[:12]:
        np.testing.assert_allclose(iou(boxes, box), [counted(b, box) for b in boxes], rtol=0, atol=1e-12)


def test_iou_worked_out() -> None:
    boxes = np.array(
        [
            [0, 0, 2, 2],
            [1, 1, 3, 3],
            [1, 0, 3, 2],
            [5, 5, 6, 6],
            [2, 2, 0, 0],
            [np.nan] * 4,
            [0, 0, np.inf, 2],
        ]
    )
    assert iou(boxes, np.array([0, 0, 2, 2])).tolist() == [1, 1 / 7, 1 / 3, 0, 0, 0, 0]
    assert iou(boxes, np.full(4, np.nan)).tolist() == [0] * 7
    assert iou(np.zeros((0, 4)), np.zeros(4)).shape == (0,)


def test_overlaps_in_a_graph(rng: np.random.Generator) -> None:
    import onnx.reference

    values = [
        ir.Value(name=n, type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape([None, 4]))
        for n in ("a", "b")
    ]
    graph = ir.Graph(values, [], nodes=[], opset_imports={"": 20}, name="boxes")
    graph.outputs.append(overlaps(Ops(graph, ir.DataType.DOUBLE), *values))
    graph.outputs[0].type = ir.TensorType(ir.DataType.DOUBLE)
    boxes = some_boxes(rng, 20)
    found = onnx.reference.ReferenceEvaluator(ir.to_proto(ir.Model(graph, ir_version=10)))
    (given,) = found.run(None, {"a": boxes, "b": boxes[3:4]})
    np.testing.assert_allclose(given[:, 0], [counted(b, boxes[3]) for b in boxes], rtol=0, atol=1e-12)


def slow_suppress(
    boxes: Array, confidences: Array, classes: Array, overlap: float, least: float
) -> list[int]:
    """A candidate remains unless a better one of its class that remains overlaps it too much."""
    order = sorted(range(len(boxes)), key=lambda i: (-confidences[i], i))
    found: list[int] = []
    for i in order:
        if confidences[i] >= least and not any(
            classes[i] == classes[k] and counted(boxes[i], boxes[k]) > overlap for k in found
        ):
            found.append(i)
    return found


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 1.0])
def test_suppress(rng: np.random.Generator, overlap: float) -> None:
    boxes = some_boxes(rng, 150)
    confidences = rng.integers(0, 20, 150) / 20  # with ties
    classes = rng.integers(0, 3, 150)
    theirs = slow_suppress(boxes, confidences, classes, overlap, 0.3)
    ours = suppress(boxes, confidences, classes, overlap=overlap, least=0.3, most=1000)
    assert ours.tolist() == theirs and 3 < len(theirs) < 150
    assert suppress(boxes, confidences, classes, overlap=overlap, least=0.3, most=4).tolist() == theirs[:4]


def test_suppress_by_opencv(rng: np.random.Generator) -> None:
    boxes = some_boxes(rng, 100) + np.array([0, 0, 1, 1])
    confidences = rng.permutation(100) / 100
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    theirs = cv2.dnn.NMSBoxes(sized.tolist(), confidences.tolist(), 0.2, 0.4)
    ours = suppress(boxes, confidences, np.zeros(100, np.int64), overlap=0.4, least=0.2)
    assert ours.tolist() == np.ravel(theirs).tolist()


def test_nothing_to_suppress() -> None:
    none = suppress(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert none.shape == (0,) and none.dtype == np.int64
    assert suppress(np.zeros((2, 4)), np.zeros(2), np.zeros(2, np.int64)).shape == (0,)
