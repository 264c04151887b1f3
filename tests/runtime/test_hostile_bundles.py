"""Bundles that somebody has tampered with, and made a matching manifest for: each ends in one BundleError."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.parser
import pytest

import sise_ort
from sise_ort.bundle import MANIFEST
from sise_ort.errors import BundleError, FrameError, ParameterError

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy.sise"))


def sign(bundle: Path) -> None:
    """Write the files' hashes into the manifest."""
    facts = json.loads((bundle / MANIFEST).read_text())
    for name in facts["files"]:
        facts["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    (bundle / MANIFEST).write_text(json.dumps(facts))


def tamper(bundle: Path, phase: str, edit: Callable[[onnx.GraphProto], object]) -> None:
    model = onnx.load(bundle / f"{phase}.onnx", load_external_data=False)
    edit(model.graph)
    (bundle / f"{phase}.onnx").write_bytes(model.SerializeToString())
    sign(bundle)


def behind(graph: onnx.GraphProto, output: str, *nodes: onnx.NodeProto, constants: dict[str, Any]) -> None:
    """Rename an output to `inner` and let nodes make it again from that."""
    for node in graph.node:
        node.output[:] = ["inner" if name == output else name for name in node.output]
        node.input[:] = ["inner" if name == output else name for name in node.input]
    graph.node.extend(nodes)
    graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in constants.items())


def endless_loop(graph: onnx.GraphProto) -> None:
    """total = the value of a loop that never ends."""
    body = oh.make_graph(
        [oh.make_node("Identity", ["go"], ["on"]), oh.make_node("Mul", ["v", "v"], ["w"])],
        "body",
        [
            oh.make_tensor_value_info("i", INT64, []),
            oh.make_tensor_value_info("go", BOOL, []),
            oh.make_tensor_value_info("v", FLOAT, None),
        ],
        [oh.make_tensor_value_info("on", BOOL, []), oh.make_tensor_value_info("w", FLOAT, None)],
    )
    loop = oh.make_node("Loop", ["", "true", "inner"], ["total"], body=body)
    behind(graph, "total", loop, constants={"true": True})


def memory_bomb(graph: onnx.GraphProto) -> None:
    """range + the sum of 16 GiB of zeros, from 8 bytes that say how many."""
    behind(
        graph,
        "range",
        oh.make_node("ConstantOfShape", ["many"], ["zeros"]),
        oh.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        oh.make_node("Add", ["inner", "zero"], ["range"]),
        constants={"many": np.array([1 << 32])},
    )


def gather_out_of_range(graph: onnx.GraphProto) -> None:
    """The index is an input, plus a million."""
    graph.node.insert(0, oh.make_node("Add", ["index", "million"], ["beyond"]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(10**6), "million"))
    for node in graph.node[1:]:
        node.input[:] = ["beyond" if name == "index" else name for name in node.input]


def one_answer_more(graph: onnx.GraphProto) -> None:
    behind(graph, "total", oh.make_node("Concat", ["inner", "inner"], ["total"], axis=0), constants={})


def one_answer_too_many_dimensions(graph: onnx.GraphProto) -> None:
    nodes = [oh.make_node("Shape", ["index"], ["n"]), oh.make_node("Concat", ["n", "one"], ["to"], axis=0)]
    graph.output[2].type.tensor_type.ClearField("shape")
    behind(
        graph, "total", *nodes, oh.make_node("Reshape", ["inner", "to"], ["total"]), constants={"one": [1]}
    )


def test_an_endless_loop_is_stopped(bundle: Path, frame: Any) -> None:
    tamper(bundle, "mask", endless_loop)
    explainer = sise_ort.load(bundle, "cpu", limits=sise_ort.Limits(run_seconds=1))
    with pytest.raises(BundleError, match=r"mask\.onnx ran for more than 1 s and was stopped"):
        explainer.explain(frame)


@pytest.mark.parametrize(
    ("phase", "edit", "words"),
    [
        ("mask", gather_out_of_range, r"mask\.onnx failed.*out of (data )?bounds"),
        ("mask", one_answer_more, r"mask\.onnx gave total of shape \[\d+\] instead of \[n\]"),
        ("mask", one_answer_too_many_dimensions, r"mask\.onnx has an output 'total' that is of open shape"),
        ("mask", lambda g: g.output.pop(), r"mask\.onnx has no output 'total'"),
        ("fuse", lambda g: g.node.pop(), r"onnxruntime cannot open fuse\.onnx"),
        ("predict", lambda g: setattr(g.node[0], "op_type", "Nonsense"), r"cannot open predict\.onnx"),
    ],
)
def test_graphs_that_fail(
    bundle: Path, frame: Any, capfd: pytest.CaptureFixture[str], phase: str, edit: Any, words: str
) -> None:
    tamper(bundle, phase, edit)
    with pytest.raises(BundleError, match=words):
        sise_ort.load(bundle, "cpu").explain(frame)
    assert capfd.readouterr().err == ""  # onnxruntime prints nothing beside the one error


def test_not_a_number_is_said_of_the_frame(bundle: Path, frame: Any) -> None:
    """As with a network that overflows, it is the answer to this frame that is wrong."""

    def edit(graph: onnx.GraphProto) -> None:
        divided = oh.make_node("Div", ["inner", "zero"], ["scores"])
        behind(graph, "scores", divided, constants={"zero": np.float32(0)})

    tamper(bundle, "extract", edit)
    with pytest.raises(FrameError, match="NaN or infinite"):
        sise_ort.load(bundle, "cpu").explain(frame)


@pytest.mark.parametrize(("phase", "output"), [("fuse", "heatmap"), ("sketch", "cells_2")])
@pytest.mark.parametrize(("factor", "error"), [(1e30, BundleError), (np.nan, FrameError)])
def test_maps_out_of_their_range(
    bundle: Path,
    frame: Any,
    phase: str,
    output: str,
    factor: float,
    error: Any,
) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        node = oh.make_node("Mul", ["inner", "factor"], [output])
        behind(graph, output, node, constants={"factor": np.float32(factor)})

    tamper(bundle, phase, edit)
    with pytest.raises(error, match=rf"{phase}\.onnx (gave maps from|answers this frame with values)"):
        sise_ort.load(bundle, "cpu").explain(frame, passes=4)


@pytest.mark.parametrize("place", ["../secret", "secret"])
def test_no_other_file_is_read(bundle: Path, place: str) -> None:
    """With onnxruntime before 1.24, such weights would come back as class scores."""
    (bundle / place).write_bytes(bytes(range(256)) * 64)

    def edit(graph: onnx.GraphProto) -> None:
        weight = next(t for t in graph.initializer if t.external_data)
        next(e for e in weight.external_data if e.key == "location").value = place

    tamper(bundle, "extract", edit)
    with pytest.raises(BundleError, match=rf"extract\.onnx takes weights from '{place}', which is no file"):
        sise_ort.load(bundle, "cpu")


@pytest.mark.parametrize("name", ["weights.bin", "extract.onnx", MANIFEST])
def test_links_are_not_followed(bundle: Path, tmp_path: Path, name: str) -> None:
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"'{name}' cannot be read: it is a link"):
        sise_ort.load(bundle, "cpu")


def test_pipes_and_folders_are_no_files(bundle: Path) -> None:
    (bundle / "fuse.onnx").unlink()
    os.mkfifo(bundle / "fuse.onnx")
    with pytest.raises(BundleError, match=r"'fuse\.onnx' is not a regular file"):
        sise_ort.load(bundle, "cpu")
    (bundle / "fuse.onnx").unlink()
    (bundle / "fuse.onnx").mkdir()
    with pytest.raises(BundleError, match=r"'fuse\.onnx' is not a regular file"):
        sise_ort.load(bundle, "cpu")


def test_large_files_are_refused_before_they_are_read(bundle: Path) -> None:
    with (bundle / "weights.bin").open("r+b") as file:
        file.truncate(1 << 34)  # sparse: it takes no room
    with pytest.raises(BundleError, match=r"'weights\.bin' has 17179869184 bytes, more than the limit"):
        sise_ort.load(bundle, "cpu", limits=sise_ort.Limits(load_memory=1 << 30))


@pytest.mark.parametrize("edit", [memory_bomb, endless_loop, gather_out_of_range])
def test_untrusted_bundles_are_tried_first(bundle: Path, edit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of this happens in our process: no session is opened here."""
    from sise_ort.runtime.providers import opening

    tamper(bundle, "mask", edit)
    monkeypatch.setattr(opening.ort, "InferenceSession", None)
    limits = sise_ort.Limits(load_memory=1 << 30, load_seconds=60, run_seconds=2)
    with pytest.raises(BundleError, match=r"failed when it was tried|more than 60 s"):
        sise_ort.load(bundle, "cpu", limits=limits, trusted=False)


def test_untrusted_bundles_that_are_harmless(tiny_bundle: Path, frame: Any) -> None:
    tried = sise_ort.load(tiny_bundle, "cpu", trusted=False).explain(frame, mu=0.5)
    np.testing.assert_array_equal(
        tried.heatmap, sise_ort.load(tiny_bundle, "cpu").explain(frame, mu=0.5).heatmap
    )


@pytest.mark.parametrize("limits", [{"run_seconds": 0}, {"load_memory": -1}, {"load_seconds": float("nan")}])
def test_limits_that_are_none(limits: Any) -> None:
    with pytest.raises(ParameterError, match="must be a positive number"):
        sise_ort.Limits(**limits)


def test_untrusted(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option reaches the trial."""
    from click.testing import CliRunner

    from sise_ort.cli.main import main
    from sise_ort.runtime import model

    def refuse(*_: Any) -> None:
        raise BundleError("tried")

    monkeypatch.setattr(model, "require_harmless", refuse)
    for words in (["explain", str(tiny_bundle), "x.png"], ["bench", str(tiny_bundle)]):
        result = CliRunner().invoke(main, [*words, "--untrusted"])
        assert result.exit_code == 1 and "tried" in result.output


def test_the_trial_runs_nothing_from_the_working_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who unpacks a stranger's archive and tries its bundle there does not import the stranger's modules."""
    bundle = tiny_bundle.absolute()
    for name in ("msgspec", "numpy", "json", "sise_ort"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    sise_ort.load(bundle, "cpu", trusted=False).close()
    assert not (tmp_path / "ran").exists()
