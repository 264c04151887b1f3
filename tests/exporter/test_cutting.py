"""Any tensor as the output, constants for other inputs: the bundle answers as onnxruntime does on the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from exporting import OPTIONS, exported
from tiny import tiny_model

import sise_ort
from sise_ort.cli.main import main
from sise_ort.errors import ParameterError, SourceError, on_command_line
from sise_ort.exporter.sources import cutting
from sise_ort.exporter.sources.choose import load_source
from sise_ort.exporter.sources.inputs import FileInput
from sise_ort.exporter.sources.onnx_file import load_onnx


def run(path: Path, tensor: str, frame: Any, **others: Any) -> Any:
    """What onnxruntime computes for a tensor of the file."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = ((frame.astype(np.float64) - 127.5) / 127.5).transpose(2, 0, 1)[None].astype(np.float32)
    return session.run([tensor], {"picture": x, **others})[0][0]


@pytest.mark.parametrize("opset", [8, 11, 20])
@pytest.mark.parametrize("outside", [False, True])
def test_any_tensor_is_an_output(outside: bool, opset: int, tmp_path: Path, frame: Any) -> None:
    """With weights in the file or beside it; what stands behind the tensor is not needed."""
    model = tiny_model(opset=opset, tail="y = Softmax<axis=1>(scores)")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=outside, location="w.bin", size_threshold=0)
    sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", output="f", head="none", **OPTIONS)
    explainer = sise_ort.load(tmp_path / "m.sise", provider="cpu")
    assert explainer.manifest.head.classes == 16
    assert explainer.manifest.origin["output"] == "f"
    np.testing.assert_allclose(
        explainer.explain(frame).scores, run(tmp_path / "m.onnx", "f", frame), atol=1e-5
    )
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"m.onnx", "m.sise"} | ({"w.bin"} if outside else set())


def test_the_reference_is_the_tensor_itself(
    tmp_path: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as a passing file, where a model is too large for bytes."""
    onnx.save(tiny_model(tail="y = Softmax<axis=1>(scores)"), tmp_path / "m.onnx")
    picture = FileInput("picture")
    x = np.random.default_rng(1).normal(0, 1, (2, 3, 32, 48)).astype(np.float32)
    inside = load_onnx(tmp_path / "m.onnx", "f").reference(x, picture)
    monkeypatch.setattr(cutting, "LARGEST_FILE", 100)
    np.testing.assert_array_equal(load_onnx(tmp_path / "m.onnx", "f").reference(x, picture), inside)
    assert inside.shape == (2, 16)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("score", "there is no tensor 'score'; the model has the outputs y; close names are scores"),
        ("picture", "'picture' is an input, not computed from the picture"),
        ("fc", "'fc' is a weight, not computed from the picture"),
        ("", "there is no tensor ''"),
    ],
)
def test_unknown_tensors_are_refused(output: str, words: str, tmp_path: Path) -> None:
    model = tiny_model(tail="y = Softmax<axis=1>(scores)")
    with pytest.raises(SourceError, match=words):
        exported(model, tmp_path, output=output)


def test_a_tensor_inside_of_a_function(tmp_path: Path, frame: Any) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 20, "mine" : 1]>
        g (float[n,3,32,48] picture) => (float[n,4] scores) {
          c = Conv<pads=[1,1,1,1]>(picture, w) r = Relu(c) m = GlobalAveragePool(r) f = Flatten(m) scores = mine.Last(f, fc)
        }
        <domain: "mine", opset_import: ["" : 20]> Last (x, k) => (y) { half = MatMul(x, k) y = Tanh(half) }"""
    )
    rng = np.random.default_rng(3)
    for name, shape in (("w", (8, 3, 3, 3)), ("fc", (8, 4))):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        )
    inlined = onnx.inliner.inline_local_functions(model)
    inner = next(node.output[0] for node in inlined.graph.node if node.op_type == "MatMul")
    onnx.save(inlined, tmp_path / "inlined.onnx")
    explainer = exported(model, tmp_path, output=inner)
    np.testing.assert_allclose(
        explainer.explain(frame).scores, run(tmp_path / "inlined.onnx", inner, frame), atol=1e-5
    )


def with_inputs(*inputs: tuple[str, int, list[Any]], tail: str) -> onnx.ModelProto:
    model = tiny_model(tail=tail)
    model.graph.input.extend(onnx.helper.make_tensor_value_info(*i) for i in inputs)
    return model


FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
GAIN = ("gain", FLOAT, [1, 4])
TAIL = "scaled = Mul(scores, gain)\n y = Softmax<axis=1>(scaled)"
VALUES = [0.5, 2.0, 1.0, -1.0]


@pytest.mark.parametrize("form", ["number", "list", "array", "file"])
@pytest.mark.parametrize("version", [3, 8])
def test_other_inputs_become_constants(form: str, version: int, tmp_path: Path, frame: Any) -> None:
    model = with_inputs(GAIN, tail=TAIL)
    model.ir_version = version
    if version == 3:  # in those days weights were inputs, too
        model.opset_import[0].version = 8
        model.graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
        )
    np.save(tmp_path / "gain.npy", np.array([VALUES]))
    value: Any = {
        "number": 3,
        "list": [VALUES],
        "array": np.array([VALUES], np.float64),
        "file": tmp_path / "gain.npy",
    }[form]
    explainer = exported(model, tmp_path, inputs={"gain": value})
    full = np.full((1, 4), 3, np.float32) if form == "number" else np.array([VALUES], np.float32)
    theirs = run(tmp_path / "m.onnx", "scaled", frame, gain=full)
    np.testing.assert_allclose(explainer.explain(frame).scores, theirs, atol=1e-4)
    expected = {"number": 3, "list": [VALUES], "array": "[1,4] float64", "file": str(tmp_path / "gain.npy")}
    assert explainer.manifest.origin["inputs"] == {"gain": expected[form]}


def test_inputs_and_an_inner_tensor_together(tmp_path: Path, frame: Any) -> None:
    model = with_inputs(
        GAIN, ("sr", INT64, []), tail="rate = Cast<to=1>(sr)\n loud = Mul(scores, rate)\n " + TAIL
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("loud", FLOAT, ["n", 4]))
    explainer = exported(model, tmp_path, output="loud", head="none", inputs={"sr": 16})
    theirs = run(tmp_path / "m.onnx", "loud", frame, sr=np.array(16), gain=np.ones((1, 4), np.float32))
    np.testing.assert_allclose(explainer.explain(frame).scores, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2]], r"gain float32 \[1,4\] is given a value of shape \[1, 2\], which does not fit"),
        ([1, 2, 3, 4], r"value of shape \[4\], which does not fit"),
        ([[1, 2], [3]], "numbers in rows of one length are needed"),
        ("gain.npy", "is given 'gain.npy', which cannot be read: a number, a list of numbers"),
        (float("nan"), "is given nan; finite numbers are needed"),
        (object(), "finite numbers are needed"),
    ],
)
def test_values_that_do_not_fit(value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=words):
        exported(with_inputs(GAIN, tail=TAIL), tmp_path, inputs={"gain": value})


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    model = with_inputs(("k", INT64, []), tail="r = Cast<to=1>(k)\n y = Mul(scores, r)")
    with pytest.raises(ParameterError, match=r"inputs=: k int64 \[\] is given 0.5, which its type cannot"):
        exported(model, tmp_path, inputs={"k": 0.5})
    with pytest.raises(
        ParameterError,
        match=r"there is no input 'q'; the model has picture float32 \[n,3,32,48\], k int64 \[\]",
    ):
        exported(model, tmp_path, inputs={"q": 1})
    with pytest.raises(ParameterError, match="a mapping of the inputs' names to values is needed"):
        exported(model, tmp_path, inputs=["k"])


def test_without_values_the_error_lists_the_other_inputs(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        exported(with_inputs(GAIN, ("sr", INT64, []), tail="rate = Cast<to=1>(sr)\n z = Mul(scores, rate)\n scaled = Mul(z, gain)\n y = Identity(scaled)"), tmp_path)  # fmt: skip
    assert "besides the picture 'picture' the model has the inputs gain float32 [1,4], sr int64 []" in str(
        caught.value
    )
    assert "inputs={'gain': 0, 'sr': 0}" in str(caught.value)
    assert "--input gain=0 --input sr=0" in on_command_line(caught.value)


def test_the_command_line_reads_numbers_lists_and_files(tmp_path: Path) -> None:
    onnx.save(with_inputs(GAIN, ("sr", INT64, []), tail="rate = Cast<to=1>(sr)\n z = Mul(scores, rate)\n scaled = Mul(z, gain)\n y = Identity(scaled)"), tmp_path / "m.onnx")  # fmt: skip
    np.save(tmp_path / "gain.npy", np.array([VALUES]))
    for gain in ("[[0.5, 2, 1, -1]]", str(tmp_path / "gain.npy"), "2"):
        words = [
            "export",
            str(tmp_path / "m.onnx"),
            "-o",
            str(tmp_path / "m.sise"),
            "--normalize",
            "tf",
            "--force",
        ]
        found = CliRunner().invoke(main, [*words, "--input", f"gain={gain}", "--input", "sr=2"])
        assert found.exit_code == 0, found.output
    refused = CliRunner().invoke(main, [*words, "--input", "gain"])
    assert refused.exit_code != 0
    assert "--input 'gain': NAME=VALUE is needed" in refused.output


def test_any_tensor_of_a_traced_module(tmp_path: Path, frame: Any) -> None:
    """A second output by its name, and what a layer computes, with the scores that torch gives for them."""
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.second = torch.nn.Conv2d(8, 16, 3, stride=2, padding=1)
            self.classes, self.kinds = torch.nn.Linear(16, 4), torch.nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            pooled = torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3))
            return self.classes(pooled), self.kinds(torch.tanh(pooled))

    torch.manual_seed(0)
    net = Two().eval()
    traced = load_source(net, input_size=(32, 48)).model
    second = traced.graph.outputs[1].name
    bend = next(node.outputs[0].name for node in traced.graph if node.op_type == "Tanh")
    x = torch.tensor((frame.astype(np.float32) - 127.5) / 127.5).permute(2, 0, 1)[None]
    with torch.no_grad():
        kinds = net(x)[1][0].numpy()
        inner = torch.tanh(torch.relu(net.second(torch.relu(net.first(x)))).mean((2, 3)))[0].numpy()
    for name, expected in ((second, kinds), (bend, inner)):
        folder = tmp_path / name
        sise_ort.export(
            net, folder, output=name, task="classes", head="none", input_size=(32, 48), normalize="tf"
        )
        explainer = sise_ort.load(folder, provider="cpu")
        assert explainer.manifest.origin["output"] == name
        np.testing.assert_allclose(explainer.explain(frame).scores, expected, atol=1e-5)
    with pytest.raises(SourceError, match=rf"output=: there is no tensor 'kinds'; .* outputs .*{second}"):
        load_source(net, input_size=(32, 48), output="kinds")
    with pytest.raises(ParameterError, match="inputs= does not go with a module"):
        load_source(net, input_size=(32, 48), inputs={"x": 0})
