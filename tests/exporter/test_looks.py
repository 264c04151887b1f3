"""What inputs and outputs look like, on graphs of a few nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from gradcheck import graph_of

from sise_ort.exporter.looks import has_places, input_looks, output_looks, rows_per_picture


def value(*dims: Any) -> ir.Value:
    return ir.Value(name="v", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(dims))


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        (("n", 3, 224, 320), "a colour picture, 224 × 320"),
        ((1, 28, 28, 1), "a gray picture, 28 × 28, channels last"),
        ((3, 64, 64), "a colour picture, 64 × 64"),
        ((-1, -1, -1, -1), "a picture with an unknown number of channels, size open"),
        (("n", 3, "h", "w"), "a colour picture, size open"),
        (("n", 4, 64, 64), "no picture: 4 channels; a picture has 1 or 3"),
        ((1, 7, 1, 1), "no picture: 7 numbers at one place, as a decoder takes them"),
        ((1, 16000), "no picture: a picture has three or four axes"),
    ],
)
def test_inputs(dims: tuple[Any, ...], words: str) -> None:
    assert input_looks(value(*dims)) == words


CONV = "c = Conv<pads=[1,1,1,1]>(x, w)\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("g = GlobalAveragePool(c)\n f = Flatten(g)\n y = Softmax(f)", "class scores of 6 classes, as probabilities (Softmax)"),
        ("g = GlobalAveragePool(c)\n y = Flatten(g)", "class scores of 6 classes before their activation, or as many other numbers"),
        ("g = GlobalAveragePool(c)\n f = Flatten(g)\n y = Tanh(f)", "6 values between -1 and 1, no class scores"),
        ("g = GlobalAveragePool(c)\n f = Flatten(g)\n y = LpNormalization<axis=1>(f)", "an embedding of 6 numbers"),
        ("g = GlobalAveragePool(c)\n f = Flatten(g)\n l = ReduceL2<axes=[1]>(f)\n y = Div(f, l)", "an embedding of 6 numbers"),
        ("g = ReduceMean(c)\n f = Flatten(g)\n y = Sigmoid(f)", "one probability (Sigmoid)"),
        ("y = Softmax<axis=1>(c)", "a segmentation: probabilities (Softmax) of 6 classes at each of 32 × 48 places"),
        ("y = Identity(c)", "a segmentation (scores of 6 classes) or other numbers, at each of 32 × 48 places"),
        ("y = Transpose<perm=[0,2,3,1]>(c)", "a segmentation (scores of 6 classes) or other numbers, at each of 32 × 48 places"),
        ("y = ArgMax<axis=1>(c)", "what ArgMax decided, without a gradient; 'c' before it has one"),
        ("f = Reshape(c, cells)\n y = Transpose<perm=[0,2,1]>(f)",
         "a detector's raw output: 6 numbers for each of 1536 candidates per picture, such as a box, an objectness and one class"),
        ("f = Reshape(c, four)\n y = Transpose<perm=[0,2,1]>(f)", "a detector's boxes: 4 numbers for each of 2304 candidates per picture"),
        ("f = Reshape(c, cells)\n t = Transpose<perm=[0,2,1]>(f)\n y = Sigmoid(t)",
         "a detector's scores: probabilities (Sigmoid) of 6 classes for 1536 candidates per picture"),
        ("t = Transpose<perm=[0,2,3,1]>(c)\n y = Reshape(t, rows)",
         "a detector's raw output: 6 numbers for each of 1536 candidates per picture, such as a box, an objectness and one class"),
    ],
)  # fmt: skip
def test_outputs(body: str, words: str) -> None:
    params = {
        "w": np.ones((6, 3, 3, 3)),
        "cells": np.array([0, 6, -1]),
        "four": np.array([0, 4, -1]),
        "rows": np.array([-1, 6]),
    }
    opset = 13 if "ReduceL2" in body else 20
    graph = graph_of(CONV + body, params, ("n", 3, 32, 48), np.float32, opset).graph
    output, image = graph.outputs[0], graph.inputs[0]
    rows = rows_per_picture(
        tuple(d if isinstance(d, int) else d.value for d in output.shape.dims), ("n", 3, 32, 48)
    )  # type: ignore[union-attr]
    assert output_looks(output, rows=rows) == words
    assert has_places(output, image) == any(w in words for w in ("segmentation", "detector", "ArgMax"))


def test_a_picture_out_of_a_picture() -> None:
    graph = graph_of(
        CONV + "y = Identity(c)", {"w": np.ones((3, 3, 3, 3))}, ("n", 3, 32, 48), np.float32
    ).graph
    words = output_looks(graph.outputs[0], picture=(32, 48))
    assert words == "a picture of the input's size, or scores of 3 classes at each of its pixels"


def test_rows_that_are_no_pictures() -> None:
    assert rows_per_picture(("1076*n", 14), ("n", 3, 8, 8)) == 1076
    assert rows_per_picture((1076, 14), (1, 3, 8, 8)) == 1076
    assert rows_per_picture(("n", 14), ("n", 3, 8, 8)) == rows_per_picture((1, 14), (1, 3, 8, 8)) == 1
