"""Endings that are no scores: the tensor in front of them is taken, and the bundle answers as the file does there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from exporting import OPTIONS, exported, weights
from tiny import tiny_model
from torch import nn

import sise_ort
from sise_ort.errors import SourceError
from sise_ort.exporter.sources.endings import choose_output
from sise_ort.targets import Region

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
ZIPPED = (
    "probabilities = Softmax<axis=1>(scores)\n label = ArgMax<axis=1, keepdims=0>(probabilities)\n y = {}"
)
STRINGS = 'ai.onnx.ml.ZipMap<classlabels_strings=["dent","hole","none","scratch"]>(probabilities)'


def ended(tail: str, *outputs: tuple[str, int, list[Any]], **constants: Any) -> onnx.ModelProto:
    """The tiny network with an ending, and with other outputs than its scores."""
    model = tiny_model(tail=tail)
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    if outputs:
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_tensor_value_info(*o) for o in outputs)
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return model


def tensor_of(model: onnx.ModelProto, name: str, frame: Any) -> Any:
    """What onnxruntime computes for a tensor of the file."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    x = ((frame.astype(np.float64) - 127.5) / 127.5).transpose(2, 0, 1)[None].astype(np.float32)
    return session.run([name], {"picture": x})[0][0]


T = np.float32(0.5)
ENDINGS = {
    "winner": ("y = ArgMax<axis=1>(scores)", "y", INT64, {}, "scores", "ArgMax"),
    "winner of probabilities": ("p = Softmax<axis=1>(scores)\n y = ArgMax<axis=1>(p)", "y", INT64, {}, "p", "ArgMax"),
    "best values": ("y, i = TopK<axis=1>(scores, k)", "y", FLOAT, {"k": [2]}, "scores", "TopK"),
    "threshold": ("p = Sigmoid(scores)\n y = Greater(p, t)", "y", BOOL, {"t": T}, "p", "Greater"),
    "not below": ("l = Less(scores, t)\n y = Not(l)", "y", BOOL, {"t": T}, "scores", "Less, Not"),
    "mask": ("p = Sigmoid(scores)\n a = Greater(p, t)\n c = Cast<to=1>(a)\n y = Mul(c, w)", "y", FLOAT,
             {"t": T, "w": np.float32(255)}, "p", "Greater"),
    "where on constants": ("h = Greater(scores, t)\n y = Where(h, a, b)", "y", FLOAT,
                           {"t": T, "a": np.float32(1), "b": np.float32(0)}, "scores", "Greater"),
    "where on itself": ("h = Greater(scores, t)\n y = Where(h, scores, b)", "y", FLOAT,
                        {"t": T, "b": np.float32(0)}, "scores", "Greater"),
    "rounded": ("p = Sigmoid(scores)\n y = Round(p)", "y", FLOAT, {}, "p", "Round"),
    "whole": ("p = Sigmoid(scores)\n y = Cast<to=7>(p)", "y", INT64, {}, "p", "Cast"),
    "one-hot": ("a = ArgMax<axis=1, keepdims=0>(scores)\n y = OneHot(a, d, v)", "y", FLOAT,
                {"d": np.int64(4), "v": np.float32([0, 1])}, "scores", "ArgMax, OneHot"),
    "label from a table": ("a = ArgMax<axis=1, keepdims=0>(scores)\n y = Gather(table, a)", "y", INT64,
                           {"table": np.int64([7, 8, 9, 10])}, "scores", "ArgMax"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_the_tensor_before_an_ending_is_taken(name: str, tmp_path: Path, frame: Any) -> None:
    tail, output, kind, constants, before, operators = ENDINGS[name]
    model = ended(tail, (output, kind, None), **constants)  # type: ignore[arg-type]
    said: list[str] = []
    explainer = exported(model, tmp_path, report=said.append)
    note = f"output 'y' ends with {operators}, which has no gradient: the tensor before it, '{before}', is explained"
    assert [line for line in said if "ends with" in line] == [f"note: {note}"]
    assert explainer.manifest.origin["notes"] == [note]
    found = explainer.explain(frame)
    np.testing.assert_allclose(found.scores, tensor_of(model, "scores", frame), atol=1e-5)
    assert found.heatmap.any()


@pytest.mark.parametrize("opset", [12, 20])
def test_labels_of_a_dictionary_become_the_bundles(opset: int, tmp_path: Path, frame: Any) -> None:
    model = ended(ZIPPED.format(STRINGS), ("label", INT64, ["n"]))
    model.opset_import[0].version = opset
    kind = onnx.helper.make_map_type_proto(
        onnx.TensorProto.STRING, onnx.helper.make_tensor_type_proto(FLOAT, [])
    )
    model.graph.output.append(onnx.helper.make_value_info("y", onnx.helper.make_sequence_type_proto(kind)))
    explainer = exported(model, tmp_path)
    assert explainer.manifest.labels == ("dent", "hole", "none", "scratch")
    assert explainer.manifest.head.words == "softmax"
    assert explainer.manifest.origin["notes"] == [
        "outputs 'label', 'y' end with ArgMax, ZipMap, which has no gradient: the tensor before it, 'probabilities', is explained"
    ]
    probabilities = tensor_of(model, "probabilities", frame)
    assert explainer.explain(frame, target="hole").confidence == pytest.approx(probabilities[1], abs=1e-5)
    exported(model, tmp_path, labels=["a", "b", "c", "d"], force=True)
    assert sise_ort.load(tmp_path / "m.sise").manifest.labels == ("a", "b", "c", "d")


@pytest.mark.parametrize("first", ["label", "probabilities", "confidence", "scores"])
def test_outputs_of_one_tensor_need_no_name(first: str, tmp_path: Path, frame: Any) -> None:
    tail = (
        "probabilities = Softmax<axis=1>(scores)\n label = ArgMax<axis=1, keepdims=0>(scores)\n"
        "confidence = ReduceMax<keepdims=0>(probabilities, axes)"
    )
    kinds = {"label": (INT64, ["n"]), "probabilities": (FLOAT, ["n", 4]), "confidence": (FLOAT, ["n"]), "scores": (FLOAT, ["n", 4])}  # fmt: skip
    order = [first, *(k for k in kinds if k != first)]
    model = ended(tail, *((name, *kinds[name]) for name in order), axes=[1])
    explainer = exported(model, tmp_path)
    assert not explainer.manifest.head.assumed
    assert explainer.manifest.head.kind == "softmax"
    np.testing.assert_allclose(explainer.explain(frame).scores, tensor_of(model, "scores", frame), atol=1e-5)


def test_outputs_of_several_tensors_need_a_name(tmp_path: Path) -> None:
    model = ended("label = ArgMax<axis=1>(scores)", ("label", INT64, ["n", 1]), ("f", FLOAT, ["n", 16]))
    with pytest.raises(
        SourceError,
        match=r"outputs label, f: name the class scores with output=; or .* 'scores' \(before ArgMax",
    ):
        exported(model, tmp_path)
    assert exported(model, tmp_path, output="label").manifest.head.classes == 4


def test_the_error_names_the_output_with_an_activation(tmp_path: Path) -> None:
    model = ended("p = Softmax<axis=1>(scores)", ("f", FLOAT, ["n", 16]), ("p", FLOAT, ["n", 4]))
    with pytest.raises(SourceError, match=r"name the class scores with output= \('p' ends with Softmax\)"):
        exported(model, tmp_path)


def test_a_mixture_of_tensors_is_no_ending(tmp_path: Path) -> None:
    """Boxes, scores and winners side by side, as detectors give them: nothing is taken in their place."""
    tail = "l = ArgMax<axis=1>(scores)\n c = Cast<to=1>(l)\n y = Concat<axis=1>(scores, f, c)"
    explainer = exported(ended(tail, ("y", FLOAT, ["n", 21])), tmp_path, output="scores")
    assert "notes" not in explainer.manifest.origin


def test_suppression_leads_to_its_scores(tmp_path: Path) -> None:
    """The outputs of a detector with non-maximum suppression inside come from the scores that it takes."""
    tail = (
        "s = Reshape(scores, rows)\n b = Reshape(f, corners)\n i = NonMaxSuppression(b, s, most)\n boxes = Squeeze(b, zero)\n"
        "k = Gather<axis=1>(i, two)\n kept = Gather<axis=0>(boxes, k)\n labels = Gather<axis=1>(i, one)"
    )
    constants: dict[str, Any] = {
        "rows": [1, 1, 4], "corners": [1, 4, 4], "most": [4], "zero": [0], "one": np.int64(1), "two": np.int64(2),
    }  # fmt: skip
    for asked in (None, "labels"):
        graph = ir.from_proto(
            ended(tail, ("kept", FLOAT, ["m", 4]), ("labels", INT64, ["m"]), **constants)
        ).graph
        chosen = choose_output(graph, asked)
        assert [v.name for v in graph.outputs] == [chosen.tensor] == ["s"]
        assert (
            "NonMaxSuppression, which has no gradient: the tensor before it, 's', is explained"
            in chosen.notes[0]
        )
    graph = ir.from_proto(ended(tail, ("kept", FLOAT, ["m", 4]), ("labels", INT64, ["m"]), **constants)).graph
    assert choose_output(graph, "kept").tensor == "boxes"  # whoever asks for boxes gets them


@pytest.mark.parametrize("ending", ["argmax", "topk", "threshold"])
def test_a_module_with_an_ending(ending: str, tmp_path: Path, frame: Any) -> None:
    class Ended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(4)
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                nn.Flatten(), nn.Linear(16, 5),
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> Any:
            z = self.body(x)
            if ending == "argmax":
                return z.argmax(1)
            return z.topk(2) if ending == "topk" else (z.sigmoid() > 0.5).float()

    net = Ended()
    sise_ort.export(net, tmp_path / "m.sise", input_size=(32, 48), **OPTIONS)
    explainer = sise_ort.load(tmp_path / "m.sise", provider="cpu")
    x = torch.from_numpy(((frame.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None].copy())
    with torch.no_grad():
        theirs = net.body(x).numpy()[0]
    np.testing.assert_allclose(explainer.explain(frame).scores, theirs, atol=1e-4)
    assert explainer.manifest.head.kind == ("sigmoid" if ending == "threshold" else "softmax")


SEGMENTED = {
    "winner": ("l = ArgMax<axis=1, keepdims=0>(z)\n y = Cast<to=2>(l)", 5, "z", "softmax"),
    "winner, last": (
        "t = Transpose<perm=[0,2,3,1]>(z)\n p = Softmax<axis=-1>(t)\n y = ArgMax<axis=-1>(p)", 5, "p", "softmax",
    ),
    "threshold": ("p = Sigmoid(z)\n g = Greater(p, half)\n f = Cast<to=1>(g)\n y = Mul(f, white)", 1, "p", "sigmoid"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEGMENTED)
def test_a_segmentation_with_its_decision_inside(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Files that give the mask itself: the scores in front of it are explained over a region."""
    tail, classes, before, head = SEGMENTED[name]
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 20]>
        g (float[n,3,24,32] picture) => (float[a,b,c] y) {{
          c = Conv<pads=[1,1,1,1], strides=[2,2]>(picture, w) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, v)
          e = Relu(d) u = Resize<mode="linear">(e, , scales) z = Conv(u, last) {tail}
        }}"""
    )
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="y"))
    for key, array in {
        "w": weights(8, 3, 3, 3), "v": weights(8, 8, 3, 3), "last": weights(classes, 8, 1, 1, seed=5),
        "scales": np.float32([1, 1, 2, 2]), "half": np.float32(0.5), "white": np.float32(255),
    }.items():  # fmt: skip
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), key))
    explainer = exported(model, tmp_path)
    manifest = explainer.manifest
    assert (manifest.task.name, manifest.head.kind, manifest.head.classes) == ("segmentation", head, classes)
    assert f"the tensor before it, '{before}', is explained" in manifest.origin["notes"][0]
    frame = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    result = explainer.explain(frame, target=Region(0, box=(4, 4, 20, 16)))
    z = tensor_of(model, "z", frame)[:, 4:16, 4:20].astype(np.float64)
    p = 1 / (1 + np.exp(-z)) if head == "sigmoid" else np.exp(z) / np.exp(z).sum(0)
    assert result.confidence == pytest.approx(p[0].mean(), abs=1e-5)
