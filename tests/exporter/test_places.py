"""Scores at places become their mean: compared with onnxruntime on the file, and a gradient with a closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from exporting import exported, weights

from sise_ort.errors import SourceError
from sise_ort.exporter.places import mean_over_places
from sise_ort.exporter.sources.cleaning import OPSET, clean
from sise_ort.exporter.sources.shapes import infer_shapes

SIZE = (24, 32)
TAILS = {
    "first": ("", "z", [0, 1, 2, 3], ""),
    "first softmax": ("y = Softmax<axis=1>(z)", "z", [0, 1, 2, 3], "Softmax"),
    "first sigmoid": ("y = Sigmoid(z)", "z", [0, 1, 2, 3], "Sigmoid"),
    "last softmax": ("t = Transpose<perm=[0,2,3,1]>(z)\n y = Softmax<axis=-1>(t)", "t", [0, 3, 1, 2], "Softmax"),
    "softmax, then last": ("p = LogSoftmax<axis=1>(z)\n y = Transpose<perm=[0,2,3,1]>(p)", "z", [0, 1, 2, 3], "LogSoftmax"),
}  # fmt: skip


def network(tail: str, size: tuple[int, int] = SIZE, kernel: int = 3) -> onnx.ModelProto:
    """A classifier of five classes at every place."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 20]>
        g (float[n,3,{size[0]},{size[1]}] picture) => (float[n,a,b,c] {"y" if tail else "z"}) {{
          c = Conv<pads=[1,1,1,1], strides=[2,2]>(picture, w) r = Relu(c) z = Conv(r, v) {tail}
        }}"""
    )
    for name, array in (("w", weights(8, 3, 3, 3)), ("v", weights(5, 8, kernel, kernel, seed=4))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def run(model: onnx.ModelProto, tensor: str, x: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([tensor], {session.get_inputs()[0].name: x})[0]


def mean_network(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Any]:
    cleaned = clean(model).model
    found = mean_over_places(cleaned.graph)
    infer_shapes(cleaned, OPSET)
    return ir.to_proto(cleaned), found


@pytest.mark.parametrize("tail", TAILS)
def test_the_output_becomes_the_mean_of_the_scores(tail: str, rng: np.random.Generator) -> None:
    text, tensor, order, activation = TAILS[tail]
    model = network(text)
    ours, found = mean_network(model)
    x = rng.normal(0, 1, (2, 3, *SIZE)).astype(np.float32)
    theirs = run(model, tensor, x)
    assert (found.tensor, found.activation) == (tensor, activation)
    assert (found.classes, found.height, found.width) == (5, 10, 14)
    expected = theirs.transpose(order).astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(run(ours, ours.graph.output[0].name, x), expected, atol=1e-5)
    np.testing.assert_allclose(found.mean(theirs), expected, rtol=1e-12)
    assert "10 x 14 places: the mean of the scores over all places is explained" in found.note


@pytest.mark.parametrize("tail", TAILS)
def test_one_place_needs_no_note(tail: str, rng: np.random.Generator) -> None:
    model = network(TAILS[tail][0], size=(6, 6))
    ours, found = mean_network(model)
    if found is None:  # one row of scores already
        assert tail.startswith("first")
        return
    assert (found.classes, found.height, found.width, found.note) == (5, 1, 1, "")
    x = rng.normal(0, 1, (1, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(
        run(ours, ours.graph.output[0].name, x)[0], run(model, found.tensor, x).reshape(-1), atol=1e-5
    )


def test_other_outputs_stay_as_they_are() -> None:
    model = clean(network("m = GlobalAveragePool(z)\n y = Flatten(m)")).model
    before = model.graph.outputs[0]
    assert mean_over_places(model.graph) is None
    assert list(model.graph.outputs) == [before]


def test_a_softmax_over_places_is_refused() -> None:
    with pytest.raises(SourceError, match="final Softmax runs over axis 2 of"):
        mean_over_places(clean(network("y = Softmax<axis=2>(z)")).model.graph)


@pytest.mark.parametrize("tail", TAILS)
def test_asked_for_classes_a_bundle_gives_the_mean(
    tail: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Scores and confidences are those of the mean; the note says so once, and stands in the manifest."""
    text, tensor, order, activation = TAILS[tail]
    model = network(text)
    said: list[str] = []
    explainer = exported(model, tmp_path, task="classes", report=said.append)
    frame = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    x = ((frame.astype(np.float64) - 127.5) / 127.5).transpose(2, 0, 1)[None].astype(np.float32)
    z = run(model, tensor, x).transpose(order).mean(axis=(2, 3), dtype=np.float64)[0]
    found = explainer.explain(frame, target=1)
    np.testing.assert_allclose(found.scores, z, atol=1e-5)
    confidence = 1 / (1 + np.exp(-z[1])) if activation == "Sigmoid" else np.exp(z[1]) / np.exp(z).sum()
    assert found.confidence == pytest.approx(confidence, abs=1e-5)
    assert explainer.manifest.head.assumed == (activation == "")
    notes = [note for note in said if "10 x 14 places" in note]
    assert len(notes) == 1
    assert explainer.manifest.origin["notes"] == [notes[0].removeprefix("note: ")]
