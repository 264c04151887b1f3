"""Outputs that are no class scores are not explained as classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from exporting import exported
from tiny import tiny_model

import sise_ort
from sise_ort.errors import SourceError

UNIT = {
    "LpNormalization": "y = LpNormalization<axis=1>(scores)",
    "torch's normalize": "l = ReduceL2<keepdims=1>(scores, one)\n m = Max(l, tiny)\n y = Div(scores, m)",
    "by its square": "s = Mul(scores, scores)\n l = ReduceSum<keepdims=1>(s, one)\n q = Sqrt(l)\n y = Div(scores, q)",
    "by a power": "s = Pow(scores, two)\n l = ReduceSum<keepdims=1>(s, one)\n q = Sqrt(l)\n r = Reciprocal(q)\n"
    "y = Mul(scores, r)",
    "keras": "s = Mul(scores, scores)\n l = ReduceSum<keepdims=1>(s, one)\n c = Max(l, tiny)\n q = Sqrt(c)\n"
    "r = Reciprocal(q)\n t = Mul(scores, r)\n y = Identity(t)",
}  # fmt: skip


def with_tail(tail: str) -> onnx.ModelProto:
    model = tiny_model(tail=tail)
    for name, value in (("one", np.array([1])), ("tiny", np.float32(1e-12)), ("two", np.float32(2))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return model


@pytest.mark.parametrize("tail", UNIT.values(), ids=UNIT)
def test_a_vector_of_length_1_is_an_embedding(tmp_path: Path, frame: Any, tail: str) -> None:
    said: list[str] = []
    explainer = exported(with_tail(tail), tmp_path, report=said.append)
    assert any("'y' is scaled to length 1: it is taken for an embedding" in step for step in said)
    assert explainer.manifest.task.name == "embedding"
    image = explainer.model.upload(frame)
    assert abs(np.linalg.norm(explainer.model.whole(image)["scores"]) - 1) < 1e-5
    with pytest.raises(SourceError, match=r"'y' is scaled to length 1 \(an embedding\).*task=\"value\""):
        exported(with_tail(tail), tmp_path, task="classes", force=True)
    result = exported(with_tail(tail), tmp_path, task="classes", head="none", force=True).explain(frame)
    assert abs(np.linalg.norm(result.scores) - 1) < 1e-5
    assert not any("taken for class scores" in note for note in result.notes)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("y = Tanh(scores)", "ends with Tanh"),
        ("m = ReduceMax<keepdims=1>(scores, one)\n y = Div(scores, m)", ""),  # no norm
        ("l = ReduceL2<keepdims=1>(f, one)\n y = Div(scores, l)", ""),  # the norm of something else
    ],
)
def test_other_ends(tmp_path: Path, tail: str, words: str) -> None:
    if not words:
        assert exported(with_tail(tail), tmp_path).manifest.head.words == "softmax (assumed)"
        return
    with pytest.raises(SourceError, match=words):
        exported(with_tail(tail), tmp_path)


@pytest.mark.parametrize("name", ["embeddings", "landmark_xy", "Loc", "pred-boxes", "box_offsets:0"])
def test_names_that_say_something_else(tmp_path: Path, name: str) -> None:
    model = tiny_model(tail="y = Identity(scores)")
    model.graph.node[-1].output[0] = model.graph.output[0].name = name
    with pytest.raises(SourceError, match=r"is called '.*task=\"value\""):
        exported(model, tmp_path)
    assert exported(model, tmp_path, head="softmax").manifest.head.words == "softmax"


@pytest.mark.parametrize("name", ["output", "logits", "location_class", "scores_boxer"])
def test_names_that_say_nothing(tmp_path: Path, name: str) -> None:
    model = tiny_model(tail="y = Identity(scores)")
    model.graph.node[-1].output[0] = model.graph.output[0].name = name
    assert exported(model, tmp_path).manifest.head.words == "softmax (assumed)"


def test_a_raw_output_beside_a_softmax(tmp_path: Path) -> None:
    """As in MTCNN: four numbers of a box, and the scores of two classes."""
    model = tiny_model(tail="p = Softmax<axis=1>(scores)\n y = Neg(scores)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, ["n", 4]))
    with pytest.raises(SourceError, match=r"output 'y' has no Softmax or Sigmoid, but the output p has one"):
        exported(model, tmp_path, output="y")
    assert exported(model, tmp_path, output="p").manifest.head.words == "softmax"
    assert exported(model, tmp_path, output="y", head="none", force=True).manifest.head.words == "none"


@pytest.mark.parametrize("head", ["auto", "none", "softmax"])
def test_rows_per_box_are_refused(tmp_path: Path, head: str) -> None:
    model = tiny_model(tail="y = Reshape(scores, rows)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 2]), "rows"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "boxes"
    with pytest.raises(SourceError, match=r"\[2\*n,2\]: its first axis is not the pictures"):
        exported(model, tmp_path, head=head)


WILD = {
    "mobilefacenet": ({"input_size": 112}, "is called 'embeddings'"),
    "mtcnn_rnet": ({"output": "dense_2"}, "but the output softmax_1 has one"),
    "ultraface_rfb320": ({"output": "scores"}, "first axis is not the pictures"),
    "yunet_120x160": ({"output": "loc"}, "is called 'loc'|first axis is not the pictures"),
}


@pytest.mark.parametrize("name", WILD)
def test_wild_files(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "wild" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("shared/data/wild is not on this machine")
    options, words = WILD[name]
    with pytest.raises(SourceError, match=words):
        sise_ort.export(path, tmp_path / "w.sise", normalize="none", **options)
