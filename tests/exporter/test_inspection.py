"""Inspecting models: those that export takes, those that it refuses, those that are damaged, and files as found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutations
import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from exporting import parsed, weights
from tiny import tiny_model

import sise_ort
from sise_ort.errors import ParameterError, SiseError, SourceError
from sise_ort.exporter import inspect


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def two_outputs() -> onnx.ModelProto:
    """Probabilities of four classes, and sixteen numbers that do not come from them."""
    model = tiny_model(tail="y = Softmax<axis=1>(scores)\n z = Tanh(f)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 16]))
    return model


def test_options_that_help_are_tried(tmp_path: Path) -> None:
    """What stands under `ways` goes through an export, what stands under `tried` does not."""
    path = saved(two_outputs(), tmp_path)
    found = inspect(path)
    assert [o.name for o in found.outputs] == ["y", "z"]
    assert len(found.obstacles) == 1 and "outputs y, z" in str(found.obstacles[0])
    assert found.ways == (
        {"output": "y"},
        {"output": "z", "head": "none"},
        {"output": "z", "task": "value"},
    )
    assert found.shown_with == {"output": "y"} and found.tried[0][0] == {"output": "z"}
    assert [c.tensor for c in found.chosen] == ["r1", "r2", "r3"]
    assert "between -1 and 1" in found.outputs[1].looks_like
    for number, way in enumerate(found.ways):
        sise_ort.export(path, tmp_path / f"{number}.sise", normalize="tf", **way)
    for options, problem in found.tried:
        with pytest.raises(type(problem)):
            sise_ort.export(path, tmp_path / "never.sise", normalize="tf", **options)
    assert not inspect(path, output="y").obstacles and inspect(path, output="y").ways == ()


def test_options_that_are_given_stay(tmp_path: Path) -> None:
    """What the user decided is not tried otherwise."""
    path = saved(tiny_model(), tmp_path)
    found = inspect(path, task="detection")
    assert len(found.obstacles) == 1 and found.ways == ()
    assert all("task" not in options for options, _ in found.tried)
    assert [c.tensor for c in found.chosen] == ["r1", "r2", "r3"]
    found = inspect(path, layers=["nothing"])
    assert found.obstacles and found.ways == ()


def test_an_open_size(tmp_path: Path) -> None:
    path = saved(tiny_model(size=("h", "w")), tmp_path)
    found = inspect(path)
    assert found.inputs[0].looks_like == "a colour picture, size open"
    assert {"input_size": 224} in found.ways and found.chosen[0].height == 224
    assert [c.height for c in inspect(path, input_size=64).chosen] == [64, 32, 16]


def test_missing_weights(tmp_path: Path) -> None:
    """The graph is read without them, and nothing but the weights stands in the way."""
    model = tiny_model()
    onnx.external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    path = saved(model, tmp_path)
    (tmp_path / "w.bin").unlink()
    found = inspect(path)
    assert [c.tensor for c in found.chosen] == ["r1", "r2", "r3"]
    assert ["w.bin" in str(o) for o in found.obstacles] == [True] and found.ways == ()


def test_further_maps_can_be_named(tmp_path: Path) -> None:
    """A branch beside a residual sum is no candidate; `layers=` takes it."""
    body = (
        "a = Conv<pads=[1,1,1,1]>(picture, w)\n b = Conv<pads=[1,1,1,1]>(a, v)\n c = Relu(b)\n d = Add(a, c)\n"
        "g = GlobalAveragePool(d)\n scores = Flatten(g)"
    )
    path = saved(parsed(body, {"w": weights(4, 3, 3, 3), "v": weights(4, 4, 3, 3)}), tmp_path)
    found = inspect(path)
    assert [c.tensor for c in found.further] == ["b", "c"]
    assert "c" not in [c.tensor for c in found.candidates]
    named = inspect(path, layers=["c"])
    assert [c.tensor for c in named.chosen] == ["c"] and not named.obstacles
    assert [c.tensor for c in named.further] == ["b"]


def test_two_streams(tmp_path: Path) -> None:
    """No tensor lies on all paths; the last map of each size can be named, and an export takes them."""
    body = (
        "a = Conv<pads=[1,1,1,1]>(picture, w)\n b = Conv<pads=[1,1,1,1], strides=[2,2]>(a, v)\n ga = GlobalAveragePool(b)\n"
        "c = Conv<pads=[1,1,1,1]>(picture, w)\n d = Conv<pads=[1,1,1,1], strides=[2,2]>(c, v)\n gb = GlobalAveragePool(d)\n"
        "s = Add(ga, gb)\n scores = Flatten(s)"
    )
    path = saved(parsed(body, {"w": weights(4, 3, 3, 3), "v": weights(4, 4, 3, 3)}), tmp_path)
    found = inspect(path)
    assert "no spatial block found" in str(found.obstacles[0])
    assert found.ways == ({"layers": ["c", "d"]},) == (found.shown_with,)
    manifest = sise_ort.export(path, tmp_path / "m.sise", normalize="tf", **found.ways[0])
    assert [layer.tensor for layer in manifest.layers] == ["c", "d"] == [c.tensor for c in found.chosen]


def test_a_transformer_names_maps_in_front_of_it(tmp_path: Path) -> None:
    body = (
        "a = Conv<strides=[8,8]>(picture, w)\n f = Reshape(a, flat)\n t = Transpose<perm=[0,2,1]>(f)\n q = MatMul(t, f)\n"
        "s = Softmax(q)\n o = MatMul(s, t)\n scores = ReduceMean<keepdims=0>(o, axes)"
    )
    params = {"w": weights(4, 3, 8, 8), "flat": np.array([0, 4, -1]), "axes": np.array([1])}
    found = inspect(saved(parsed(body, params), tmp_path))
    assert "is a transformer" in str(found.obstacles[0])
    assert {"layers": ["a"]} in found.ways


def test_what_is_there_is_never_refused(tmp_path: Path) -> None:
    """Damaged files: a report each, with what is wrong; names that mean nothing are errors."""
    found: list[Any] = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        base = tiny_model() if seed % 2 else two_outputs()
        if seed % 4 == 0:
            content = mutations.changed_bytes(rng, base.SerializeToString())
        else:
            content = mutations.changed_model(rng, base).SerializeToString()
        (tmp_path / "m.onnx").write_bytes(content)
        found.append(inspect(tmp_path / "m.onnx"))
        for error in found[-1].obstacles:
            assert isinstance(error, SiseError) and len(str(error)) <= 500
    assert 5 < sum(bool(f.obstacles) for f in found) < 40
    (tmp_path / "m.onnx").write_bytes(b"")
    assert inspect(tmp_path / "m.onnx").obstacles and not inspect(tmp_path / "m.onnx").inputs
    with pytest.raises(SourceError, match="there is no model file"):
        inspect(tmp_path / "none.onnx")
    with pytest.raises(ParameterError, match="has no option 'lairs'"):
        inspect(tmp_path / "m.onnx", lairs=["a"])


# Files as found ---------------------------------------------------------------------------------------

CLASSES = "class scores of {} classes"
SQUEEZENET = [(64, 111), (128, 55), (256, 27), (1000, 13)]
WILD = {  # what inputs and outputs look like, and the number of maps and the height of every block
    "caelatent_mnist": ("no picture: 7 numbers at one place", ["a picture of 28 × 28 pixels"], []),
    "cifar100edge": ("a colour picture, 32 × 32", [CLASSES.format(100)], [(3, 30), (3, 9)]),
    "deeplab_v3_tf": (
        "a colour picture, 257 × 257, channels last",
        ["a segmentation (scores of 21 classes) or other numbers, at each of 257 × 257 places"],
        [(48, 129), (72, 65), (160, 33)],
    ),
    "ezkl_fr_age": ("a colour picture, 64 × 64", ["3 values not below 0"] * 3 + ["1 value between"] * 3 + ["a box or"] * 3, []),
    "light_shufflenet": (
        "a colour picture, 224 × 224", [CLASSES.format(1000)], [(24, 112), (136, 28), (272, 14), (544, 7)]
    ),
    "mesonet": (
        "a colour picture, 256 × 256, channels last", ["one probability"], [(8, 256), (8, 128), (16, 64), (16, 32)]
    ),
    "mnist_charlie": ("a gray picture, 28 × 28", [CLASSES.format(10)], [(24, 28), (48, 12), (64, 6), (64, 3)]),
    "mobilefacenet": (
        "a colour picture, 112 × 112", ["an embedding of 128 numbers"], [(128, 56), (256, 28), (512, 14), (512, 7)]
    ),
    "mtcnn_pnet": (
        "a colour picture, size open, channels last", ["a segmentation (scores of 4 classes)", "a segmentation: prob"], []
    ),
    "mtcnn_rnet": (
        "a colour picture, 24 × 24, channels last", [CLASSES.format(4), CLASSES.format(2)], [(28, 22), (48, 9), (64, 3)]
    ),
    "ortex_mnist": ("a gray picture, 28 × 28", [CLASSES.format(10)], [(8, 28), (16, 14)]),
    "own_sq_dynamic": ("a colour picture, 224 × 224", [CLASSES.format(1000)], SQUEEZENET),
    "own_sq_qoperator": ("a colour picture, 224 × 224", [CLASSES.format(1000)], SQUEEZENET),
    "ppocr_cls": (
        "a colour picture, size open", [CLASSES.format(2)], [(8, 112), (24, 56), (32, 28), (104, 14), (200, 7)]
    ),
    "road_segmentation_adas": (
        "a colour picture, 512 × 896, channels last",
        ["a segmentation: probabilities (Softmax) of 4 classes at each of 512 × 896 places"],
        [(32, 256), (48, 128), (48, 64), (16, 16)],
    ),
    "seeta_eye_state": ("a picture with an unknown number of channels, size open", [CLASSES.format(4)], []),
    "seeta_gender_predictor": ("a picture with an unknown number of channels, size open", [CLASSES.format(2)], []),
    "sign_language": (
        "a gray picture, 224 × 224",
        [CLASSES.format(25)],
        [(32, 220), (64, 106), (128, 51), (256, 23), (512, 9), (512, 4)],
    ),
    "silero_vad": ("no picture", ["one value", "a tensor with 3 axes of unknown length"], []),
    "ultraface_rfb320": (
        "a colour picture, 240 × 320",
        ["a detector's scores: probabilities (Softmax) of 2 classes for 4420", "a detector's boxes: 4 numbers for each of 4420"],
        [(32, 120), (32, 60), (64, 30), (128, 15), (64, 8), (256, 4)],
    ),
    "winml_candy_style": ("a colour picture, 720 × 720", ["a picture of the input's size, or scores of 3 classes"], []),
    "winml_cifar_classifier": ("a colour picture, 32 × 32", [CLASSES.format(10)], [(12, 28), (24, 10)]),
    "yolox_nano": (
        "a colour picture, 416 × 416",
        ["a detector's raw output: 85 numbers for each of 3549 candidates per picture, such as a box, an objectness and 80"],
        [(16, 208), (32, 104), (64, 52), (128, 26), (128, 13)],
    ),
    "yunet_120x160": (
        "a colour picture, 120 × 160",
        ["a detector's boxes or landmarks: 14", "a detector's scores: probabilities (Softmax) of 2", "a detector's raw output: 1"],
        [(16, 60), (64, 30), (64, 15), (64, 7), (64, 3), (51, 1)],
    ),
}  # fmt: skip
REFUSED_BECAUSE = {  # what no option changes
    "caelatent_mnist": "no input looks like a picture",
    "sign_language": "its external weights are missing",
    "silero_vad": "no input looks like a picture",
}


@pytest.mark.parametrize("name", WILD)
def test_files_as_found(name: str, shared_data: Path) -> None:
    picture, outputs, blocks = WILD[name]
    found = inspect(shared_data / "wild" / f"{name}.onnx")
    assert found.inputs[0].looks_like.startswith(picture)
    assert len(found.outputs) == len(outputs)
    for output, words in zip(found.outputs, outputs, strict=True):
        assert output.looks_like.startswith(words), output
    if blocks:
        assert [(c.channels, c.height) for c in found.chosen] == blocks
        assert len(found.candidates) >= len(blocks)
    if name in REFUSED_BECAUSE:
        assert REFUSED_BECAUSE[name] in str(found.obstacles[0]) and found.ways == ()
