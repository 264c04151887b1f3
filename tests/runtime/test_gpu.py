"""What can be seen of the GPU's path without a GPU: what is copied, which options providers get, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.bundle import PHASES, read_bundle
from sise_ort.errors import OutputError, ParameterError
from sise_ort.runtime import batch_sizes, cache
from sise_ort.runtime.batch_sizes import key
from sise_ort.runtime.cache import cache_folder, gpu, tensorrt_options, tensorrt_version
from sise_ort.runtime.providers import PROVIDERS, Graph, Provider, Session
from sise_ort.runtime.providers import opening as providing


class Copies:
    """Records every array that goes to a session or comes from it, by phase and name, with its number of elements."""

    def __init__(self, explainer: sise_ort.Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up: dict[str, list[int]] = {}
        self.down: dict[str, list[int]] = {}
        model = explainer.model
        for phase in PHASES:
            session = model.sessions.get(phase)
            monkeypatch.setattr(session, "run", self._recorded(phase, session.run))
        tensor = model.provider.tensor
        monkeypatch.setattr(
            model.provider, "tensor", lambda array: self._note(self.up, "frame", array) or tensor(array)
        )
        for name, held in model._batching.answers.items():
            model._batching.answers[name] = self._watched(name, held)

    @staticmethod
    def _note(kind: dict[str, list[int]], name: str, array: Any) -> None:
        kind.setdefault(name.rstrip("0123456789"), []).append(int(np.size(array)))

    def _recorded(self, phase: str, run: Any) -> Any:
        def recorded(inputs: dict[str, Any], **given: Any) -> Any:
            for name, value in inputs.items():
                if isinstance(value, np.ndarray):
                    self._note(self.up, f"{phase}.{name}", value)
            fetched, kept = run(inputs, **given)
            for name, value in fetched.items():
                self._note(self.down, f"{phase}.{name}", value)
            return fetched, kept

        return recorded

    def _watched(self, name: str, held: Any) -> Any:
        copies = self

        class Watched:
            def numpy(self) -> Any:
                value = held.numpy()
                copies._note(copies.down, f"predict.{name}", value)
                return value

            def __getattr__(self, attribute: str) -> Any:
                return getattr(held, attribute)

        return Watched()


def test_only_small_things_are_copied(tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up: the frame, class, indices, weights. Down: scores, pooled gradients, spans, mask sums; at the end the maps."""
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)
    copies = Copies(explainer, monkeypatch)
    result = explainer.explain(frame)
    spec, layers = explainer.manifest.input, explainer.manifest.layers
    count, channels = sum(result.mask_counts), [layer.channels for layer in layers]
    batches = -(-count // 4)

    assert set(copies.up) == {
        "frame", "extract.class", "extract.other", "extract.contrast", "mask.index", "fuse.weights_",
    }  # fmt: skip
    assert copies.up["frame"] == [spec.height * spec.width * spec.channels]  # once
    assert sum(copies.up["mask.index"]) == count
    assert copies.up["fuse.weights_"] == channels

    assert set(copies.down) == {
        "extract.scores", "extract.alpha_", "extract.span_", "mask.range", "mask.total", "predict.scores",
        "predict.confidence", "fuse.visualization_maps", "fuse.heatmap",
    }  # fmt: skip
    assert copies.down["extract.alpha_"] == copies.down["extract.span_"] == channels
    assert sum(copies.down["mask.range"]) == sum(copies.down["mask.total"]) == count
    assert copies.down["predict.scores"] == [4 * explainer.manifest.head.classes] * batches
    assert copies.down["fuse.heatmap"] == [spec.height * spec.width]


def test_a_budget_copies_its_sketch_once(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)
    copies = Copies(explainer, monkeypatch)
    explainer.explain(frame, passes=8)
    assert len(copies.down["sketch.cells_"]) == len(explainer.manifest.layers)
    assert not any("features" in name or "gradients_" in name or "masks" in name for name in copies.down)
    assert not any("features" in name or "masks" in name for name in copies.up)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """onnxruntime claims every provider, and sessions run where they are asked to; collects what was asked."""
    asked: list[Any] = []

    class Opened:
        def __init__(self, model: Any, options: Any, providers: list[Any], **_: Any) -> None:
            self.names = [p if isinstance(p, str) else p[0] for p in providers]
            if model in (b"extract", b"mask", b"predict"):
                asked.append((model.decode(), dict(p for p in providers if not isinstance(p, str))))

        def get_providers(self) -> list[str]:
            return self.names

        def get_inputs(self) -> list[Any]:
            return []

        get_outputs = get_inputs

    monkeypatch.setattr(providing.ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(providing.ort, "InferenceSession", Opened)
    yield asked


def graph(phase: str) -> Graph:
    return Graph(phase, phase.encode())


def test_options_of_cuda(opened: list[Any]) -> None:
    """Gradients are never computed in TF32; predict's own options stand over ours."""
    provider = Provider("cuda", options={"use_tf32": 0, "prefer_nhwc": 1})
    provider.session(graph("extract"))
    provider.session(graph("predict"))
    (_, extract), (_, predict) = opened
    ours = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    assert extract == {PROVIDERS["cuda"]: {**ours, "use_tf32": "0"}}
    assert predict == {PROVIDERS["cuda"]: {**ours, "use_tf32": "0", "prefer_nhwc": "1"}}
    opened.clear()
    Provider("cuda").session(graph("predict"))
    assert opened[0][1][PROVIDERS["cuda"]]["use_tf32"] == "1"


def test_options_of_tensorrt(opened: list[Any]) -> None:
    """Only predict runs on TensorRT."""
    provider = Provider("tensorrt", options={"trt_builder_optimization_level": 5})
    provider.session(graph("mask"))
    provider.session(graph("predict"), options={"trt_engine_cache_enable": "1"})
    (_, mask), (_, predict) = opened
    assert list(mask) == [PROVIDERS["cuda"]]
    assert predict[PROVIDERS["tensorrt"]] == {
        "trt_engine_cache_enable": "1",
        "trt_builder_optimization_level": "5",
    }


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({}, False),
        ({"enable_cuda_graph": 1}, True),
        ({"enable_cuda_graph": True}, True),
        ({"enable_cuda_graph": "true"}, True),
        ({"enable_cuda_graph": False}, False),
    ],
)
def test_cuda_graphs_are_noticed(opened: list[Any], options: dict[str, Any], recorded: bool) -> None:
    """Else onnxruntime would record every run as the same graph."""
    session = Provider("cuda", options=options).session(graph("predict"))
    assert session._run_options(3).get_run_config_entry("gpu_graph_id") == ("3" if recorded else "-1")
    if options:
        assert opened[0][1][PROVIDERS["cuda"]]["enable_cuda_graph"] in ("0", "1", "true")


def test_options_need_a_gpu(tiny_bundle: Path) -> None:
    with pytest.raises(
        ParameterError, match="options use_tf32 are for a GPU, but the provider in use is cpu"
    ):
        sise_ort.load(tiny_bundle, provider_options={"use_tf32": 0})


def test_runs_that_may_be_recorded(tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole batches of the same tensors have a number of their own, which a new batch size changes; all others -1."""
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)
    model, told = explainer.model, []
    session = model.sessions.get("predict")
    recording = Session(session._session, "cpu", providing.ort.RunOptions, cuda_graphs=True)
    run = recording._session.run_with_iobinding
    monkeypatch.setitem(model.sessions.opened, "predict", recording)
    monkeypatch.setattr(
        recording._session,
        "run_with_iobinding",
        lambda binding, options: (
            told.append(options.get_run_config_entry("gpu_graph_id")) or run(binding, options)
        ),
    )
    expected = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4).explain(frame)
    np.testing.assert_array_equal(explainer.explain(frame).heatmap, expected.heatmap)
    first = set(told)
    told.clear()
    model.resize(2)
    explainer.explain(frame)
    assert len(first) == len(set(told)) == 1 and first != set(told) and "-1" not in first
    told.clear()
    model.predict(np.zeros((1, 3, 32, 48), np.float32))
    assert told == ["-1"]


def test_engines_are_kept_apart(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bundle, GPU, driver and the versions of TensorRT and onnxruntime."""
    manifest = sise_ort.load(tiny_bundle, provider="cpu").manifest
    folders = set()
    for name, value in (
        ("", "1.31"),
        ("", "1.32"),
        ("tensorrt_version", "101300"),
        ("gpu", ("NVIDIA H200", "13000")),
        ("gpu", ("NVIDIA H200", "13010")),
        ("gpu", ("Orin", "13010")),
        ("bundle_digest", "another"),
    ):
        if name:
            monkeypatch.setattr(cache, name, lambda *_, value=value: value)
        options = tensorrt_options(manifest, "1.32" if name else str(value))
        folder = Path(options["trt_engine_cache_path"])
        assert folder.is_dir() and folder.parent == cache_folder() / "tensorrt"
        assert options["trt_engine_cache_enable"] == "1" and options["trt_fp16_enable"] == "0"
        folders.add(folder)
    assert len(folders) == 7


def test_engines_are_recorded_and_checked(
    tiny_bundle: Path, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT writes an engine at the first run of each shape. Whole ones are used again; others are removed."""
    manifest = read_bundle(tiny_bundle)
    options = tensorrt_options(manifest, "1.32")
    folder = Path(options["trt_engine_cache_path"])
    session = Provider("tensorrt").session(graph("predict"), options=options)
    shapes: list[int] = []

    def run(binding: Any, _: Any) -> None:
        (folder / f"predict_{len(shapes)}.engine").write_bytes(b"engine" * 1000)
        shapes.append(0)

    binding: Any = SimpleNamespace(bind_cpu_input=lambda *_: None, get_outputs=list)
    monkeypatch.setattr(session._session, "io_binding", lambda: binding, raising=False)
    monkeypatch.setattr(session._session, "run_with_iobinding", run, raising=False)
    for rows in (1, 4):
        session.run({"input": np.zeros((rows, 2), np.float32)})
    tensorrt_options(manifest, "1.32")  # the next load
    assert sorted(p.name for p in folder.glob("*.engine")) == ["predict_0.engine", "predict_1.engine"]
    session.run({"input": np.zeros((4, 2), np.float32)})  # a shape that was seen: nothing is looked at
    (folder / "predict_1.engine").write_bytes(b"engine" * 999 + b"enginE")  # a bit of it
    (folder / "stranger.engine").symlink_to(folder / "predict_0.engine")
    tensorrt_options(manifest, "1.32")
    assert sorted(p.name for p in folder.glob("*.engine")) == ["predict_0.engine"]
    (folder / "sise-ort-hashes.json").write_text("[")
    tensorrt_options(manifest, "1.32")
    assert not list(folder.glob("*.engine"))


def test_a_cache_that_cannot_be_made(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SISE_ORT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"cannot keep TensorRT's engines.*SISE_ORT_CACHE names another"):
        tensorrt_options(sise_ort.load(tiny_bundle, provider="cpu").manifest, "1.32")


def test_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA driver's words, or none."""

    class Driver:
        @staticmethod
        def cuInit(flags: int) -> int:
            return 0

        @staticmethod
        def cuDeviceGetName(name: Any, length: int, device: int) -> int:
            name.value = b"NVIDIA H200"
            return 0

        @staticmethod
        def cuDriverGetVersion(version: Any) -> int:
            version._obj.value = 13000
            return 0

        @staticmethod
        def getInferLibVersion() -> int:
            return 101300

    monkeypatch.setattr(cache.ctypes, "CDLL", lambda name: Driver)
    assert gpu() == ("NVIDIA H200", "13000") and tensorrt_version() == "101300"

    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(cache.ctypes, "CDLL", missing)
    assert gpu() == ("none", "none") and tensorrt_version() == "none"


def test_batch_sizes_depend_on_the_gpu(
    tiny_bundle: Path, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_bundle(tiny_bundle)
    found = set()
    for name in ("NVIDIA H200", "Orin"):
        monkeypatch.setattr(batch_sizes, "gpu", lambda name=name: (name, "13000"))
        found.add(key(manifest, Provider("cuda")))
        found.add(key(manifest, Provider("cuda", options={"prefer_nhwc": 1})))
    assert len(found) == 4


def test_the_command_line_knows_every_provider() -> None:
    """Its choices are written out, so that --help need not import onnxruntime."""
    import click

    from sise_ort.cli.options import provider_option
    from sise_ort.runtime.providers import CHOICES

    @click.command()
    @provider_option
    def command(provider: str) -> None: ...

    assert command.params[0].type.choices == CHOICES  # type: ignore[attr-defined]
