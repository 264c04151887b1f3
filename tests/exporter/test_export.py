"""Options of an export, and that nothing is left half-written or lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exporting import OPTIONS, exported, own_scores
from tiny import tiny_model

import sise_ort
from sise_ort.errors import ExportError, OutputError, ParameterError, SourceError

# Options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "does not say how its pixels are normalised"),
        ({"normalize": "max"}, "normalize= is 'max'; it must be one of imagenet"),
        ({"normalize": "tf", "mean": (1, 2, 3), "std": (1, 1, 1)}, "not both"),
        ({"mean": (1, 2, 3)}, "belong together"),
        ({"mean": (1, 2), "std": (1, 1)}, "need 3 values"),
        ({"mean": (1, 2, 3), "std": (1, 0, 1)}, "positive"),
        ({"normalize": "tf", "color": "gray"}, "does not fit a network with 3 input channels"),
        ({"normalize": "tf", "fit": "zoom"}, "fit= is 'zoom'"),
        ({"normalize": "tf", "head": "max"}, "head= is 'max'"),
        ({"normalize": "tf", "hidden": "red"}, "hidden= is 'red'"),
        ({"normalize": "tf", "frame_dtype": "int8"}, "frame_dtype= is 'int8'"),
        ({"normalize": "tf", "input_size": "12y13"}, "pass N, or height x width"),
        ({"normalize": "tf", "labels": ["a"]}, "1 labels, but the network has 4 classes"),
        ({"normalise": "tf"}, "no option 'normalise'; did you mean normalize"),
        ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, r"mean=\[123.675, 116.28, 103.53\] std=\[58.395"),
        ({"mean": 0, "std": 0.5}, "units of 0 to 1"),
        ({"mean": 0.5, "std": 1}, "units of 0 to 1"),
        ({"mean": 0.5, "std": 255}, r"mean=\[127.5, 127.5, 127.5\] std=\[255.0, 255.0, 255.0\]$"),
        ({"mean": 127.5, "std": 0.5}, r"mean=\[127.5, 127.5, 127.5\] std=\[127.5, 127.5, 127.5\]$"),
        ({"mean": "1,2,3", "std": 1}, "mean= is '1,2,3'; numbers are needed"),
        ({"normalize": "tf", "layers": 3}, "layers= is 3; a list of names is needed"),
        ({"normalize": "tf", "classes": True}, "classes= is True; it must be a whole number"),
        ({"normalize": "tf", "input_size": 10**9}, "input_size= is 1000000000: pass N"),
        ({"normalize": "tf", "input_size": (9999, 9999)}, "more than 67,108,864 pixels"),
        ({"normalize": "tf", "input_size": 12.5}, "pass N, or height x width"),
        ({"normalize": "tf", "labels": ["a", "b", "c", "\x1b[31mred"]}, "label 3, .* holds control characters"),
        ({"normalize": "tf", "labels": ["a", "b", "c", "\ud800"]}, "halves of characters"),
        ({"normalize": "tf", "labels": 7}, "the labels are int; a list of names or a file is needed"),
        ({"normalize": "tf", "layers": ["c9"]}, "no tensor or module 'c9'"),
        ({"normalize": "tf", "layers": ["f"]}, r"not \[n, channels"),
        ({"normalize": "tf", "weights": "NONE"}, "does not go with an .onnx file"),
        ({"normalize": "tf", "classes": 3}, "does not go with an .onnx file"),
    ],
)  # fmt: skip
def test_options_that_are_refused(
    tmp_path: Path, tiny_onnx: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises((ExportError, ParameterError), match=words):
        sise_ort.export(tiny_onnx, tmp_path / "t.sise", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.onnx"]


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("frame_dtype", ["uint8", "float32"])
@pytest.mark.parametrize("hidden", ["mean", "black"])
def test_pixels_reach_the_network_as_told(
    tmp_path: Path, tiny_onnx: Path, frame: Any, color: str, frame_dtype: str, hidden: str
) -> None:
    mean, std = (100.0, 120.0, 140.0), (50.0, 60.0, 70.0)
    sise_ort.export(
        tiny_onnx,
        tmp_path / "t.sise",
        mean=mean,
        std=std,
        color=color,
        frame_dtype=frame_dtype,
        hidden=hidden,
    )
    explainer = sise_ort.load(tmp_path / "t.sise", provider="cpu")
    ordered = frame[..., ::-1] if color == "bgr" else frame
    expected = own_scores(onnx.load(tiny_onnx), ordered, np.array(mean), np.array(std))
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, atol=1e-4)
    np.testing.assert_allclose(explainer.explain(frame[..., ::-1], color="bgr").scores, expected, atol=1e-4)

    mask = np.random.default_rng(0).random((2, 1, 32, 48)).astype(np.float32)
    masked = explainer.model.apply(explainer.model.upload(frame.astype(frame_dtype)), mask)
    pixels = ordered * mask[:, 0, :, :, None]
    if hidden == "mean":
        pixels = pixels + np.array(mean) * (1 - mask[:, 0, :, :, None])
    np.testing.assert_allclose(masked, ((pixels - mean) / np.array(std)).transpose(0, 3, 1, 2), atol=1e-4)


def test_gray_network(tmp_path: Path, frame: Any) -> None:
    explainer = exported(tiny_model(channels=1), tmp_path, normalize=None, mean=(90,), std=(40,))
    assert explainer.manifest.preprocessing.color == "gray"
    gray = frame[:, :, 1]
    expected = own_scores(tiny_model(channels=1), gray[:, :, None], 90, 40)
    np.testing.assert_allclose(explainer.explain(gray).scores, expected, atol=1e-4)
    np.testing.assert_allclose(explainer.explain(np.dstack([gray] * 3)).scores, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("tail", "asked", "classes", "words"),
    [
        ("", "auto", 4, "softmax (assumed)"),
        ("", "sigmoid", 4, "sigmoid"),
        ("", "none", 4, "none"),
        ("", "auto", 1, "sigmoid (assumed)"),
        ("y = Softmax<axis=1>(scores)", "auto", 4, "softmax"),
        ("y = Sigmoid(scores)", "auto", 4, "sigmoid"),
        ("y = LogSoftmax<axis=1>(scores)", "auto", 4, "softmax"),
        ("s = Sigmoid(scores)\n y = Identity(s)", "auto", 4, "sigmoid"),
    ],
)
def test_heads(tmp_path: Path, frame: Any, tail: str, asked: str, classes: int, words: str) -> None:
    model = tiny_model(tail=tail, classes=classes)
    explainer = exported(model, tmp_path, head=asked)
    assert explainer.manifest.head.words == words
    result = explainer.explain(frame)
    np.testing.assert_allclose(result.scores, own_scores(tiny_model(classes=classes), frame), atol=1e-4)
    taken = [
        note for note in result.notes if f"{words}: the model's outputs are taken for class scores" in note
    ]
    assert bool(taken) == ("assumed" in words)
    assert result.record()["head"] == words


@pytest.mark.parametrize(
    ("tail", "asked", "classes", "words"),
    [
        ("y = Sigmoid(scores)", "softmax", 4, "ends with a sigmoid of its own"),
        ("y = Softmax<axis=1>(scores)", "sigmoid", 4, "ends with a softmax of its own"),
        ("", "softmax", 1, "whose softmax is always 1"),
        ("y = Softmax<axis=1>(scores)", "auto", 1, "over one class"),
    ],
)
def test_heads_that_contradict_the_graph(
    tmp_path: Path, tail: str, asked: str, classes: int, words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        exported(tiny_model(tail=tail, classes=classes), tmp_path, head=asked)


def test_labels_files(tmp_path: Path, tiny_onnx: Path) -> None:
    (tmp_path / "names.txt").write_bytes("﻿ä one\nb\r\nc\nd\n\n".encode())
    (tmp_path / "names.json").write_text('["a", "b", "c", "d"]')
    manifest = sise_ort.export(tiny_onnx, tmp_path / "1.sise", labels=tmp_path / "names.txt", **OPTIONS)
    assert manifest.labels == ("ä one", "b", "c", "d")
    manifest = sise_ort.export(tiny_onnx, tmp_path / "2.sise", labels=str(tmp_path / "names.json"), **OPTIONS)
    assert manifest.labels == ("a", "b", "c", "d")
    with pytest.raises(ExportError, match="cannot be read"):
        sise_ort.export(tiny_onnx, tmp_path / "3.sise", labels=tmp_path / "none.txt", **OPTIONS)


# Writing --------------------------------------------------------------------------------------------


def test_never_overwrites_unasked(tmp_path: Path, tiny_onnx: Path) -> None:
    target = tmp_path / "t.sise"
    sise_ort.export(tiny_onnx, target, **OPTIONS)
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    with pytest.raises(
        ExportError, match="exists already; pass force=True to overwrite it, or another name as bundle="
    ):
        sise_ort.export(tiny_onnx, target, normalize="none")
    assert before == {p.name: p.read_bytes() for p in target.iterdir()}
    sise_ort.export(tiny_onnx, target, normalize="none", force=True)
    assert sise_ort.load(target).manifest.preprocessing.std == (1, 1, 1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(ExportError, match="is not a bundle; it will not be overwritten"):
        sise_ort.export(tiny_onnx, tmp_path / "photos", force=True, **OPTIONS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "t.sise", "tiny.onnx"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [False, True])
def test_full_disk_and_interruption_leave_nothing(
    tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, exists: bool
) -> None:
    import onnx_ir

    target = tmp_path / "t.sise"
    if exists:
        sise_ort.export(tiny_onnx, target, **OPTIONS)
    before = {p.name: p.read_bytes() for p in target.iterdir()} if exists else {}
    save = onnx_ir.save

    def failing(model: Any, path: Path) -> None:
        if path.name == "predict.onnx":
            path.write_bytes(b"half")
            raise failure
        save(model, path)

    monkeypatch.setattr(onnx_ir, "save", failing)
    expected = OutputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if isinstance(failure, OSError) else None):
        sise_ort.export(tiny_onnx, target, force=True, **OPTIONS)
    assert sorted(p.name for p in tmp_path.iterdir()) == (["t.sise"] if exists else []) + ["tiny.onnx"]
    assert before == ({p.name: p.read_bytes() for p in target.iterdir()} if exists else {})


def test_read_only_folder(tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(
        "sise_ort.exporter.writing._held_folder", refuse
    )  # who runs tests as root may write anywhere
    with pytest.raises(OutputError, match=r"cannot write to .*: Permission denied"):
        sise_ort.export(tiny_onnx, tmp_path / "t.sise", **OPTIONS)


def test_unwritable_target(tmp_path: Path, tiny_onnx: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        sise_ort.export(tiny_onnx, tmp_path / "file" / "t.sise", **OPTIONS)


def test_a_source_that_uses_our_names(tmp_path: Path, tiny_onnx: Path, frame: Any) -> None:
    """Tensors and nodes of the source may be called what the bundle's graphs call their own."""
    words = {
        "c1": "image", "r1": "features_1", "p1": "input", "c2": "class", "r2": "scores", "p2": "contrast", "c3": "alpha_3",
        "r3": "features_2", "g": "gradients_1", "f": "confidence", "scores": "sise/0",
    }  # fmt: skip
    model = onnx.load(tiny_onnx)
    for number, node in enumerate(model.graph.node):
        node.input[:] = [words.get(name, name) for name in node.input]
        node.output[:] = [words.get(name, name) for name in node.output]
        node.name = f"sise/{number + 1}"
    model.graph.output[0].name = "sise/0"
    onnx.save(model, tmp_path / "ours.onnx")
    results = []
    for name in ("tiny", "ours"):
        sise_ort.export(
            tmp_path / f"{name}.onnx", tmp_path / f"{name}.sise", normalize="tf",
            graphs=("head", "image-gradient", "full-gradient"),
        )  # fmt: skip
        explainer = sise_ort.load(tmp_path / f"{name}.sise", provider="cpu")
        results.append(
            [explainer.explain(frame, 2, method=method) for method in ("sise", "gradient", "fullgrad")]
        )
    for plain, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours.heatmap, plain.heatmap, atol=1e-6)
