"""Files that are broken, absurd or hostile end in one SourceError (or another of ours), and allocate nothing."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from exporting import OPTIONS
from tiny import tiny_model

import sise_ort
from sise_ort.errors import ExportError, ParameterError, SiseError, SourceError
from sise_ort.exporter.export import list_layers
from sise_ort.exporter.sources.translation import translated


def save(model: onnx.ModelProto, folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize("chunk", range(8))
def test_mutations(tmp_path: Path, chunk: int) -> None:
    """50 mutated files each: whatever comes out is one of our errors, short and on one line."""
    bases = [tiny_model(), tiny_model(tail="y = Softmax<axis=1>(scores)", opset=13)]
    refused = 0
    for seed in range(50 * chunk, 50 * chunk + 50):
        rng = np.random.default_rng(seed)
        if seed % 5 == 0:
            content = mutations.changed_bytes(rng, bases[seed % 2].SerializeToString())
        else:
            content = mutations.changed_model(rng, bases[seed % 2]).SerializeToString()
        (tmp_path / "m.onnx").write_bytes(content)
        try:
            list_layers(tmp_path / "m.onnx")
        except SiseError as error:
            refused += 1
            assert len(str(error)) <= 500 and "\n" not in str(error), seed
    assert 5 < refused < 50  # the mutations neither miss nor hit everything


def test_the_cause_is_kept_and_interruptions_pass() -> None:
    with (
        pytest.raises(ExportError, match="it cannot be done: KeyError: 'name'") as caught,
        translated("it cannot be done"),
    ):
        raise KeyError("name")
    assert isinstance(caught.value.__cause__, KeyError)
    for passing in (
        MemoryError(),
        KeyboardInterrupt(),
        ParameterError("x"),
        OSError(28, "No space left on device"),
    ):
        with pytest.raises(type(passing)), translated("x"):
            raise passing


def test_the_innermost_cause_is_told() -> None:
    with pytest.raises(ExportError, match=r"^x: ValueError: first line$"), translated("x"):
        try:
            raise ValueError("first line\nsecond line")
        except ValueError as error:
            raise RuntimeError("a pass failed") from error


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("an axis is out of range"), "x: an axis is out of range"),
     (ValueError("-1"), "x: ValueError: -1"),
     (KeyError("a name with spaces"), "x: KeyError: 'a name with spaces'")],
)  # fmt: skip
def test_a_sentence_stands_alone(error: Exception, words: str) -> None:
    with pytest.raises(ExportError) as caught, translated("x"):
        raise error
    assert str(caught.value) == words


def test_git_lfs_pointer(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    for name in ("m.onnx", "weights.pth"):
        (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=r"m\.onnx' is a Git LFS pointer, .*git lfs pull"):
        sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", **OPTIONS)
    with pytest.raises(SourceError, match=r"weights\.pth' is a Git LFS pointer"):
        sise_ort.export("squeezenet1_1", tmp_path / "m.sise", weights=tmp_path / "weights.pth")
    onnx.save(
        tiny_model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )
    (tmp_path / "m.data").write_text(text)
    with pytest.raises(SourceError, match=r"m\.data' is a Git LFS pointer"):
        sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", **OPTIONS)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "nul", "surrogate", "long", "nothing"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.onnx"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    names = {"device": "/dev/zero", "nul": f"{tmp_path}/a\0.onnx", "surrogate": f"{tmp_path}/\ud800.onnx",
             "long": f"{tmp_path}/{'x' * 9000}.onnx"}  # fmt: skip
    words = {"fifo": "is a named pipe", "folder": "is a folder", "device": "is a device", "nul": "cannot be the name",
             "surrogate": "cannot be the name", "long": "cannot be read: File name too long",
             "nothing": "there is no model file"}  # fmt: skip
    with pytest.raises(SourceError, match=words[kind]):
        sise_ort.export(names.get(kind, path), tmp_path / "m.sise", **OPTIONS)
    assert not (tmp_path / "m.sise").exists()


def test_sparse_file(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(20 << 30)
    tracemalloc.start()
    with pytest.raises(SourceError, match=r"has 20\.0 GiB; an \.onnx file has less than 2 GiB"):
        sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", **OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 27


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../secret.bin", "lie outside the model's folder"),
        ("/etc/passwd", "lie outside the model's folder"),
        ("link.bin", "lie outside the model's folder"),
        ("none.bin", "its external weights are missing; put 'none.bin' beside it"),
        ("", "lie outside"),
        ("short.bin", r"should be 864 bytes from 0 on, but the file has 100 bytes"),
        ("fifo.bin", "is a named pipe"),
    ],
)
def test_external_weights(tmp_path: Path, location: str, words: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "short.bin").write_bytes(bytes(100))
    os.mkfifo(folder / "fifo.bin")
    model = tiny_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    with pytest.raises(SourceError, match=words):
        sise_ort.export(save(model, folder), tmp_path / "m.sise", **OPTIONS)


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ([8, 3, 2**40, 3], r"makes 294,912 GiB of weights; at most 16 GiB are read"),
        ([8, 3, -3, 3], "impossible shape"),
        ([8, 3, 30, 3], r"declares 8,640 bytes \[8, 3, 30, 3\], but holds 864"),
    ],
)
def test_sizes_that_weights_declare(tmp_path: Path, dims: list[int], words: str) -> None:
    model = tiny_model()
    model.graph.initializer[0].dims[:] = dims
    with pytest.raises(SourceError, match=words):
        sise_ort.export(save(model, tmp_path), tmp_path / "m.sise", **OPTIONS)


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile", "Resize"])
def test_sizes_that_operators_ask_for(tmp_path: Path, operator: str) -> None:
    """A tiny file that asks for terabytes, in its main path or beside it."""
    model = tiny_model()
    source = {
        "ConstantOfShape": ["big"],
        "Expand": ["r1", "big"],
        "Tile": ["r1", "big"],
        "Resize": ["r1", "", "", "big"],
    }
    big = np.array([1, 8, 2**21, 2**22] if operator != "Tile" else [1, 1, 2**16, 2**17])
    if operator == "Expand":
        big = np.array([2**40, 8, 32, 48])
    model.graph.initializer.append(onnx.numpy_helper.from_array(big, "big"))
    made = onnx.helper.make_node(operator, source[operator], ["made"])
    pooled = onnx.helper.make_node("ReduceMax", ["made"], ["least"], keepdims=0)
    added = onnx.helper.make_node("Add", ["r1", "least"], ["sum"])
    for offset, node in enumerate((made, pooled, added)):
        model.graph.node.insert(2 + offset, node)
    model.graph.node[5].input[0] = "sum"
    with pytest.raises(
        SourceError, match=rf"{operator} '.*asks for a tensor of shape .*no computer holds|shapes do not fit"
    ):
        sise_ort.export(save(model, tmp_path), tmp_path / "m.sise", **OPTIONS)


@pytest.mark.parametrize("size", [(2**30, 2**30), (100_000, 1_000)])
def test_sizes_of_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match="have more than 67,108,864 pixels"):
        sise_ort.export(save(tiny_model(size=size), tmp_path), tmp_path / "m.sise", **OPTIONS)


def test_a_graph_that_bites_its_tail(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node[0].input[0] = "r3"
    with pytest.raises(SourceError, match=r"m\.onnx' cannot be read as a network: .*[Cc]ycl"):
        sise_ort.export(save(model, tmp_path), tmp_path / "m.sise", **OPTIONS)


def changed(place: int, **fields: Any) -> onnx.ModelProto:
    model = tiny_model()
    for name, value in fields.items():
        setattr(model.graph.node[place], name, value)
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (changed(1, domain="my.ops", op_type="Swirl"), r"operator my\.ops\.Swirl .*neither ONNX nor onnxruntime knows the domain"),
        (changed(1, op_type="ImageScaler"), r"operator ImageScaler \(node .*is not in ONNX's opset 20"),
        (changed(1, name="a\0b"), "holds a NUL character"),
    ],
)  # fmt: skip
def test_operators_and_names(tmp_path: Path, model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        sise_ort.export(save(model, tmp_path), tmp_path / "m.sise", **OPTIONS)


def test_module_paths_that_are_no_list(tmp_path: Path) -> None:
    """What exporters note beside a node is a hint, and may be anything."""
    for words in ("['a'", "\0", "[1, 2]", "{}", "[" * 500, "7"):
        model = tiny_model()
        entry = model.graph.node[1].metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", words
        found, _, _ = list_layers(save(model, tmp_path))
        assert len(found) > 3


def test_factories_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_nets.py").write_text(
        "import sys\ndef leaves():\n    sys.exit(3)\ndef fails():\n    raise RuntimeError('one\\ntwo')\n"
    )
    with pytest.raises(SourceError, match=r"'odd_nets:leaves' cannot be called: SystemExit"):
        sise_ort.export("odd_nets:leaves", "m.sise", input_size=32, normalize="none")
    with pytest.raises(SourceError, match=r"'odd_nets:fails' cannot be called: RuntimeError: one$"):
        sise_ort.export("odd_nets:fails", "m.sise", input_size=32, normalize="none")
