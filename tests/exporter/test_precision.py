"""predict.onnx in half precision and in integers: what it becomes, what it keeps, when it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper
from tiny import tiny_model

import sise_ort
from sise_ort.cli.main import main
from sise_ort.errors import DatasetError, ExportError, ParameterError
from sise_ort.exporter.integers import correct_biases, first_layers
from sise_ort.exporter.precision import COMPARED_MU
from sise_ort.metrics import correlation


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(tiny_model(seed=5, width=2), tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


@pytest.fixture
def pictures(tmp_path: Path, frame: Any) -> Path:
    """Twelve pictures, one file that is none, and two sizes."""
    folder = tmp_path / "typical"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(12):
        moved = np.roll(frame, rng.integers(0, 30, 2), (0, 1))
        cv2.imwrite(str(folder / f"{i:02}.png"), cv2.resize(moved, (96, 64)) if i % 2 else moved)
    (folder / "03.png").write_bytes(b"torn")
    return folder


def tensor(name: str, value: Any) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(value, name)


def network(nodes: list[onnx.NodeProto], taken: Any = None, given: Any = None) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(n, 1, shape) for n, shape in (("input", taken), ("y", given))]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))


def operators(bundle: Path) -> set[str]:
    return {node.op_type for node in onnx.load(bundle / "predict.onnx").graph.node}


def exported(model: Path, name: str, **options: Any) -> sise_ort.Explainer:
    sise_ort.export(model, model.with_name(name), normalize="tf", **options)
    return sise_ort.load(model.with_name(name), provider="cpu")


def test_half(model: Path, pictures: Path, frame: Any) -> None:
    whole = exported(model, "whole.sise")
    half = exported(model, "half.sise", precision="fp16", calibration=pictures)
    assert half.manifest.precision == "fp16" and whole.manifest.precision == "fp32"
    folder = model.with_name("half.sise")
    weights = {i.name: i.data_type for i in onnx.load(folder / "predict.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in weights.values()
    assert (folder / "extract.onnx").read_bytes() == (
        model.with_name("whole.sise") / "extract.onnx"
    ).read_bytes()
    x = whole.model.network_input(whole.model.upload(frame))
    ours, theirs = (e.model.predict(x)["scores"] for e in (half, whole))
    np.testing.assert_allclose(ours, theirs, atol=5e-3 * np.abs(theirs).max())
    assert np.abs(ours - theirs).max() > 0  # it is another precision indeed
    a, b = half.explain(frame, 1), whole.explain(frame, 1)
    assert correlation(a.heatmap, b.heatmap) > 0.98
    assert any("fp16" in note for note in a.notes) and not any("fp32" in note for note in b.notes)
    facts = half.manifest.origin["precision"]
    assert (
        facts["pictures"] == 8
        and facts["source"] == "typical, where 1 cannot be read"
        and 0.97 <= facts["mean"] <= 1.0
    )
    assert facts["lowest"] <= facts["mean"]


def test_half_without_pictures(model: Path) -> None:
    half = exported(model, "half.sise", precision="fp16")
    assert half.manifest.origin["precision"]["source"] == "synthetic"


def test_integers(model: Path, pictures: Path, frame: Any) -> None:
    whole = exported(model, "whole.sise")
    small = exported(model, "small.sise", precision="int8", calibration=pictures, least_correlation=0.5)
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(model.with_name("small.sise"))
    weights = onnx.load(model.with_name("small.sise") / "predict.onnx").graph.initializer
    kinds = {i.name: (i.data_type, tuple(i.dims)) for i in weights}
    convolutions = [dims for kind, dims in kinds.values() if kind == onnx.TensorProto.INT8 and len(dims) == 4]
    assert len(convolutions) == 3
    scales = [dims for name, (_, dims) in kinds.items() if "scale" in name]
    assert any(dims == (16,) for dims in scales)  # per channel
    for i in weights:  # seven bits: no sum of two products overflows where there is no VNNI
        if i.data_type == onnx.TensorProto.INT8:
            assert np.abs(onnx.numpy_helper.to_array(i).astype(int)).max() <= 64
    x = whole.model.network_input(whole.model.upload(frame))
    ours, theirs = (e.model.predict(x)["scores"] for e in (small, whole))
    assert 0 < np.abs(ours - theirs).max() < 0.1 * np.abs(theirs).max()
    assert correlation(small.explain(frame, 1).heatmap, whole.explain(frame, 1).heatmap) > 0.8
    assert not (model.with_name("small.sise") / "quantised.onnx").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_refused_below_the_least_correlation(model: Path, pictures: Path, precision: str) -> None:
    with pytest.raises(ExportError, match=rf"in {precision} the heat maps correlate .* by [01]\.\d+ .*less than 1\. Export in fp32") as caught:  # fmt: skip
        sise_ort.export(
            model, model.with_name("x.sise"), normalize="tf", precision=precision, calibration=pictures, least_correlation=1.0,
        )  # fmt: skip
    assert "least_correlation=0." in str(caught.value)
    assert [p.name for p in model.parent.iterdir() if p.name.startswith((".", "x"))] == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"precision": "int8"}, ParameterError, 'precision="int8" needs calibration='),
        ({"precision": "int4"}, ParameterError, "precision= is 'int4'"),
        ({"calibration": "."}, ParameterError, "calibration= is for precision="),
        ({"precision": "fp16", "least_correlation": 2.0}, ParameterError, "least_correlation= is 2.0"),
        ({"precision": "int8", "calibration": "nowhere"}, DatasetError, "nowhere"),
    ],
)
def test_options_that_do_not_go_together(
    model: Path, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        sise_ort.export(model, model.with_name("x.sise"), normalize="tf", **options)
    assert not model.with_name("x.sise").exists()


def test_pictures_that_cannot_be_read(model: Path, tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_bytes(b"torn")
    with pytest.raises(ParameterError, match="no picture that can be read"):
        exported(model, "x.sise", precision="fp16", calibration=tmp_path / "torn")


def test_quantised_already(model: Path, pictures: Path) -> None:
    exported(model, "small.sise", precision="int8", calibration=pictures, least_correlation=0.0)
    quantised = model.with_name("again.onnx")
    predict = onnx.load(model.with_name("small.sise") / "predict.onnx")
    onnx.save(predict, quantised)
    with pytest.raises(ExportError, match="quantised already"):
        exported(quantised, "again.sise", precision="int8", calibration=pictures, output="confidence")


def test_command(model: Path, pictures: Path) -> None:
    bundle = model.with_name("half.sise")
    arguments = [str(model), "-o", str(bundle), "--normalize", "tf", "--precision", "fp16", "--calibration", str(pictures)]  # fmt: skip
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == 0, result.output
    facts = json.loads((bundle / "manifest.json").read_text())
    assert facts["precision"] == "fp16"
    # What it prints is the correlation with a float32 bundle of the same file on the same pictures.
    whole, half = exported(model, "whole.sise"), sise_ort.load(bundle, provider="cpu")
    readable = [path for path in sorted(pictures.iterdir()) if path.name != "03.png"][:8]
    found = [
        np.corrcoef(*(e.explain(path, mu=COMPARED_MU).heatmap.ravel() for e in (whole, half)))[0, 1]
        for path in readable
    ]
    assert facts["origin"]["precision"]["mean"] == pytest.approx(np.mean(found), abs=1e-6)
    assert facts["origin"]["precision"]["lowest"] == pytest.approx(np.min(found), abs=1e-6)
    (line,) = [line for line in result.stderr.splitlines() if "fp16" in line and "correlate" in line]
    assert f"{np.mean(found):.3f}" in line


@pytest.mark.parametrize("operator", ["Conv", "Gemm", "Gemm, transposed"])
def test_biases_make_up_for_rounded_weights(operator: str) -> None:
    """By hand: (W - W') E[x] = (0.52 - 5 * 0.1) * 10 = 0.2 and (-0.27 + 3 * 0.1) * 20 = 0.6, in steps of 0.01."""
    # Conv has two groups of one channel each, Gemm has the same matrix: zero elsewhere
    whole, steps = {
        "Conv": ([[[0.52]], [[-0.27]]], [[[5]], [[-3]]]),
        "Gemm": ([[0.52, 0], [0, -0.27]], [[5, 0], [0, -3]]),
        "Gemm, transposed": ([[0.52, 0], [0, -0.27]], [[5, 0], [0, -3]]),
    }[operator]
    settings = {"Conv": {"group": 2}, "Gemm": {}, "Gemm, transposed": {"transB": 1}}[operator]
    kind = operator.split(",")[0]
    own = network([helper.make_node(kind, ["input", "w", "b"], ["y"], "layer", **settings)])
    own.graph.initializer.extend([tensor("w", np.float32(whole)), tensor("b", np.float32([1, 1]))])
    lowered = network(
        [
            helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
            helper.make_node("DequantizeLinear", ["i", "u"], ["b"]),
            helper.make_node(kind, ["input", "w", "b"], ["y"], "layer", **settings),
        ]
    )
    stored = {"q": np.int8(steps), "s": np.float32([0.1, 0.1]), "i": np.int32([100, 100]), "u": np.float32([0.01, 0.01])}  # fmt: skip
    lowered.graph.initializer.extend(tensor(name, value) for name, value in stored.items())
    correct_biases(own, lowered, {"input": np.array([10.0, 20.0])})
    found = {t.name: onnx.numpy_helper.to_array(t) for t in lowered.graph.initializer}
    assert found["i"].tolist() == [120, 160] and found["i"].dtype == np.int32
    assert found["q"].tolist() == steps


def test_first_layers_stay_in_float() -> None:
    """By hand: 3 x 3 of 3 to 4 channels at 16 x 16 is 27,648 of 1,207,296 multiplications (2 %), and its Relu goes with it."""
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w1"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    two = network(nodes, ["N", 3, 16, 16], ["N", 128, 16, 16])
    shapes = {"w0": (4, 3, 3, 3), "w1": (128, 4, 3, 3)}
    two.graph.initializer.extend(tensor(name, np.ones(shape, np.float32)) for name, shape in shapes.items())
    assert first_layers(two) == ["first", "relu"]
