"""Provider openvino: what it takes without OpenVINO, and, where onnxruntime-openvino is installed, what it computes.

`make test-services` runs this module in an environment with onnxruntime-openvino in onnxruntime's place.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import sise_ort
from sise_ort.bundle import read_bundle
from sise_ort.errors import OutOfMemoryError, OutputError, ParameterError, ProviderError
from sise_ort.metrics import correlation
from sise_ort.runtime.cache import cache_folder, openvino_options
from sise_ort.runtime.methods import METHODS
from sise_ort.runtime.providers import Provider, opening, openvino, spec_named
from sise_ort.runtime.providers.openvino import processor_flags
from sise_ort.runtime.providers.spec import Wishes

HERE = "OpenVINOExecutionProvider" in onnxruntime.get_available_providers()
needs_openvino = pytest.mark.skipif(not HERE, reason="onnxruntime-openvino is not installed")
BF16 = bool(processor_flags() & openvino.BF16_FLAGS)
ATOL = 1e-3
"""Of heat maps in [0, 1] in float32: the order of additions differs, as between versions of onnxruntime."""
UNIT = 2.0**-8
"""Half a unit in bfloat16's last place, relative: its fraction has 7 bits."""


def wished(name: str, *devices: str, **wishes: Any) -> dict[str, Any]:
    """onnxruntime's options for a wish, with load_config read."""
    found = dict(spec_named(name).wished(Wishes(devices=devices or ("CPU",), **wishes)))
    return {**found, "load_config": json.loads(found["load_config"])}


# Without OpenVINO -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "devices", "precision", "device_type", "config"),
    [
        ("openvino", ("CPU",), "auto", "CPU", {"CPU": "f32"}),
        ("openvino:cpu", ("CPU", "GPU"), "fp32", "CPU", {"CPU": "f32"}),
        ("openvino:GPU", ("CPU", "GPU"), "auto", "GPU", {"GPU": "f32"}),
        ("openvino:gpu.1", ("CPU", "GPU.0", "GPU.1"), "fp16", "GPU.1", {"GPU": "f16"}),
        ("openvino:NPU", ("CPU", "NPU"), "fp16", "NPU", {"NPU": "f16"}),
        ("openvino:AUTO", ("CPU", "GPU", "NPU"), "auto", "AUTO:CPU,GPU", {"CPU": "f32", "GPU": "f32"}),
    ],
)
def test_devices_and_precisions(
    name: str, devices: tuple[str, ...], precision: str, device_type: str, config: dict[str, str]
) -> None:
    """The precision is always said: OpenVINO alone takes a lower one where that is faster."""
    found = wished(name, *devices, precision=precision)
    hints = {device: {"INFERENCE_PRECISION_HINT": hint} for device, hint in config.items()}
    assert found == {"device_type": device_type, "load_config": hints}


def test_options_of_the_user() -> None:
    given = {"load_config": {"CPU": {"SCHEDULING_CORE_TYPE": "PCORE_ONLY"}}, "model_priority": "HIGH"}
    found = wished("openvino", options=given, threads=3)
    assert found["load_config"]["CPU"] == {
        "SCHEDULING_CORE_TYPE": "PCORE_ONLY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    assert found["model_priority"] == "HIGH" and found["num_of_threads"] == "3"
    text = json.dumps(given["load_config"])
    assert wished("openvino", options={"load_config": text})["load_config"] == found["load_config"]


@pytest.mark.parametrize(
    ("name", "wishes", "error", "words"),
    [
        ("openvino:FPGA", {}, ParameterError, r"devices are CPU, GPU .*NPU and AUTO"),
        ("openvino:GPU", {}, ProviderError, "OpenVINO finds no GPU here: it has CPU"),
        ("openvino", {"precision": "fp16"}, ParameterError, "fp16 on a GPU or an NPU only"),
        ("openvino:GPU", {"precision": "bf16", "devices": ("GPU",)}, ParameterError, "bf16 on a processor only"),
        ("openvino:NPU", {"devices": ("NPU",)}, ParameterError, r'fp16 only: precision="fp16" accepts that'),
        ("openvino", {"options": {"device_type": "GPU"}}, ParameterError, "leave it out: provider='openvino:GPU'"),
        ("openvino", {"options": {"precision": "FP16"}}, ParameterError, "leave it out: precision='bf16' says it"),
        ("openvino", {"options": {"num_of_threads": 2}}, ParameterError, "leave it out: threads= says it"),
        ("openvino", {"options": {"load_config": "{"}}, ParameterError, "properties by device are needed"),
        ("openvino", {"options": {"load_config": {"CPU": 1}}}, ParameterError, "properties by device are needed"),
        ("openvino", {"options": {"load_config": {"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}}}, ParameterError,
         "leave it out: precision= says it"),
    ],
)  # fmt: skip
def test_what_is_refused(name: str, wishes: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        spec_named(name).wished(Wishes(**{"devices": ("CPU",), **wishes}))


def test_a_processor_without_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO ignores the wish with AVX2, and emulates it with AVX-512 alone; where nothing is known, it is measured."""
    for flags, refused in (("fma avx2 avx512f", True), ("avx512_bf16", False), ("amx_bf16", False)):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
        found = processor_flags(tmp_path / "cpuinfo")
        assert set(flags.split()) < found
        monkeypatch.setattr(openvino, "processor_flags", lambda found=found: found)
        if refused:
            with pytest.raises(ProviderError, match="no instructions for it"):
                wished("openvino", precision="bf16")
        else:
            assert wished("openvino", precision="bf16")["load_config"]["CPU"] == {
                "INFERENCE_PRECISION_HINT": "bf16"
            }
    assert processor_flags(tmp_path / "none") == set()


def test_compiled_networks_are_kept_apart(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bundle, device, onnxruntime and precision; a processor keeps none."""
    manifest = read_bundle(tiny_bundle)
    assert openvino_options(manifest, "1.24\nfp32", "CPU") == {}
    folders = {
        openvino_options(manifest, build, device)["cache_dir"]
        for build in ("1.24\nfp32", "1.25\nfp32", "1.24\nfp16")
        for device in ("GPU", "NPU")
    }
    assert len(folders) == 6 and {Path(f).parent for f in folders} == {cache_folder() / "openvino"}
    (cache_folder() / "openvino2").write_text("")
    monkeypatch.setenv("SISE_ORT_CACHE", str(cache_folder() / "openvino2"))
    with pytest.raises(OutputError, match=r"cannot keep OpenVINO's compiled networks.*SISE_ORT_CACHE"):
        openvino_options(manifest, "1.24", "GPU")


@pytest.mark.skipif(HERE, reason="onnxruntime-openvino is installed")
@pytest.mark.parametrize("options", [{"provider": "openvino"}, {"precision": "bf16"}])
def test_without_the_package(tiny_bundle: Path, options: Any) -> None:
    with pytest.raises(
        ProviderError, match=r"provider openvino is not part of.*pip install 'sise-ort\[openvino\]'"
    ):
        sise_ort.load(tiny_bundle, **options)


# With OpenVINO --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[..., Any]) -> Path:
    """The tiny model's bundle with all graphs."""
    from exporting import exported

    folder = tmp_path_factory.mktemp("openvino")
    exported(make_tiny(), folder, graphs=("head", "image-gradient", "full-gradient")).close()
    return folder / "m.sise"


@needs_openvino
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_gives_what_the_cpu_gives(bundle: Path, frame: Any, method: str) -> None:
    fast: dict[str, Any] = {"rise": {"masks": 20}, "extremal-perturbation": {"iterations": 3}}
    parameters = fast.get(method, {})
    explainer = sise_ort.load(bundle, "openvino")
    expected = sise_ort.load(bundle, "cpu").explain(frame, [0, 1, 2], method=method, **parameters)
    found = explainer.explain(frame, [0, 1, 2], method=method, **parameters)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.heatmap, other.heatmap, atol=ATOL)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    record = explainer.model.record()
    assert record["provider"] == "openvino" and record["precision"] == "fp32"


@needs_openvino
@pytest.mark.parametrize(
    "budget", [{"passes": 12}, {"deadline": 600.0}, {"passes": 12, "tolerance": 0.05}, {"passes": 0}]
)
def test_budgets(bundle: Path, frame: Any, budget: Any) -> None:
    expected = sise_ort.load(bundle, "cpu").explain(frame, **budget)
    found = sise_ort.load(bundle, "openvino").explain(frame, **budget)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=ATOL)
    assert found.facts["scored"] == expected.facts["scored"]


@needs_openvino
def test_only_predict_runs_there(bundle: Path) -> None:
    sessions = sise_ort.load(bundle, "openvino").model.sessions
    used = {name: s._session.get_providers()[0] for name, s in sessions.opened.items()}
    there = {name for name, provider in used.items() if provider == "OpenVINOExecutionProvider"}
    assert there == {"predict"} and set(used.values()) == {
        "OpenVINOExecutionProvider",
        "CPUExecutionProvider",
    }


@needs_openvino
@pytest.mark.skipif(not BF16, reason="this processor has no bf16")
def test_bf16_is_as_far_away_as_its_rounding(bundle: Path, frame: Any) -> None:
    """Scores stay within the spread of float64 runs with noise of bf16's size after every node; and are not float32's.

    Heat maps: the CPU's, with noise of the measured size on the answers, correlate less than OpenVINO's own or nearly so.
    """
    from rounding import MULTIPLE, RUNS, Float64, relative

    cpu, low = sise_ort.load(bundle, "cpu"), sise_ort.load(bundle, "openvino", precision="bf16")
    assert low.model.record()["precision"] == "bf16" and "masks are scored in bf16" in low.notes
    x = cpu.model.network_input(cpu.model.upload(frame))
    graph = Float64(bundle / "predict.onnx")
    exact = graph.run({"input": x})["scores"]
    noisy = [graph.run({"input": x}, MULTIPLE * UNIT / 4, seed)["scores"] for seed in range(RUNS)]
    limit = 2 * max(relative(scores, exact) for scores in noisy)
    off = relative(low.model.predict(x)["scores"], exact)
    assert 2.0**-16 < off < limit  # float32 would be off by less than 2⁻¹⁶

    expected, found = cpu.explain(frame).heatmap, low.explain(frame).heatmap
    bound = []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        noised = sise_ort.load(bundle, "cpu")
        predict = noised.model.sessions.get("predict")
        answers = noised.model._batching.answers
        run = predict.run

        def rounded(inputs: Any, run: Any = run, rng: Any = rng, answers: Any = answers, **given: Any) -> Any:
            fetched, kept = run(inputs, **given)
            for tensor in answers.values():
                values = tensor.numpy()
                tensor.update_inplace(
                    (values * (1 + limit * rng.uniform(-1, 1, values.shape))).astype(np.float32)
                )
            return fetched, kept

        predict.run = rounded  # type: ignore[method-assign]
        bound.append(correlation(noised.explain(frame).heatmap, expected))
    assert correlation(found, expected) > 1 - 2 * (1 - min(bound)) and min(bound) < 1


@needs_openvino
def test_precisions_are_measured_and_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint that OpenVINO ignores or overrules is noticed by what it computes."""
    hints = openvino.HINTS.copy()
    monkeypatch.setitem(hints, "fp32", "bf16")
    monkeypatch.setattr(openvino, "HINTS", hints)
    if BF16:
        with pytest.raises(ProviderError, match="computes in bf16 here, though fp32 is asked of it"):
            Provider("openvino")
    monkeypatch.setattr(openvino, "HINTS", {**hints, "bf16": "f32"})
    monkeypatch.setattr(openvino, "processor_flags", set)
    with pytest.raises(
        ProviderError, match="computes in fp32 here, though bf16 is asked of it: leave precision= out"
    ):
        Provider("openvino", precision="bf16")


@needs_openvino
def test_auto_takes_openvino_where_bf16_is_asked_for(bundle: Path) -> None:
    if not BF16:
        with pytest.raises(ProviderError, match="no instructions for it"):
            sise_ort.load(bundle, precision="bf16")
        return
    explainer = sise_ort.load(bundle, precision="bf16")
    assert explainer.provider == "openvino"
    again = pickle.loads(pickle.dumps(explainer))
    assert again.provider == "openvino" and again.model.record()["precision"] == "bf16"
    assert sise_ort.load(bundle).provider == "cpu"


@needs_openvino
@pytest.mark.parametrize("device", ["GPU", "NPU"])
def test_a_device_that_fails_to_open_is_an_error(
    bundle: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a driver is damaged: OpenVINO lists the device, and onnxruntime falls back to the CPU without a word."""
    if device in opening.openvino_devices():
        pytest.skip("this machine has one")
    monkeypatch.setattr("sise_ort.runtime.providers.provider.openvino_devices", lambda: ("CPU", device))
    with pytest.raises(
        ProviderError, match=f"provider openvino:{device} was asked for, but onnxruntime runs on CPU"
    ):
        sise_ort.load(bundle, f"openvino:{device}", precision="fp16")


@needs_openvino
def test_nodes_that_do_not_run_there_are_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's list of providers says OpenVINO, whose device AUTO takes no node unless it is told from which to choose."""
    from dataclasses import replace

    from sise_ort.runtime.providers import provider as providing

    real = openvino._wished

    def without_candidates(wishes: Wishes) -> dict[str, str]:
        return {**real("CPU", wishes), "device_type": "AUTO"}

    monkeypatch.setattr(providing, "spec_named", lambda _: replace(openvino.SPEC, wished=without_candidates))
    with pytest.raises(ProviderError, match=r"does not take 1 node of a small test graph.*MatMul"):
        sise_ort.load(bundle, "openvino")


@needs_openvino
def test_a_damaged_file_of_the_cache_is_built_anew(tiny_bundle: Path, bundle: Path) -> None:
    """OpenVINO itself loads a network with damaged weights without a word."""
    explainer = sise_ort.load(bundle, "cpu")
    read = sise_ort.bundle.open_bundle(bundle)
    graph = opening.Graph("predict", bytes(read.contents["predict.onnx"]), read.weights("predict"))
    provider = Provider("openvino")
    x = explainer.model.network_input(explainer.model.upload(np.full((32, 48, 3), 90, np.uint8)))
    seen = []
    for step in range(3):
        options = openvino_options(explainer.manifest, "test", "GPU")
        folder = Path(options["cache_dir"])
        before = {path.name for path in folder.glob("*.blob")}
        assert before == (set() if step != 1 else seen[0])
        session = provider.session(graph, options)
        seen.append({path.name for path in folder.glob("*.blob")})
        fetched, _ = session.run({"input": x}, fetch=["scores"])
        np.testing.assert_allclose(fetched["scores"], explainer.model.predict(x)["scores"], atol=1e-5)
        if step == 1:
            (blob,) = folder.glob("*.blob")
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.write_bytes(data)
    assert seen[0] and seen[0] == seen[1] == seen[2]


@needs_openvino
def test_threads_get_what_they_get_alone(bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(bundle, "openvino", threads=1)
    frames = [np.roll(frame, shift, axis=1) for shift in range(6)]
    alone = [explainer.explain(f).heatmap.tobytes() for f in frames]
    with ThreadPoolExecutor(4) as pool:
        together = [result.heatmap.tobytes() for result in pool.map(explainer.explain, frames)]
    assert together == alone
    many = [result.heatmap for result in explainer.explain_many(frames)]
    for one, other in zip(many, alone, strict=True):
        np.testing.assert_allclose(one, np.frombuffer(other, np.float32).reshape(one.shape), atol=ATOL)


@needs_openvino
def test_out_of_memory_halves_the_batch(bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In OpenVINO's words."""
    explainer = sise_ort.load(bundle, "openvino", batch_size=8)
    session = explainer.model.sessions.get("predict")
    inner, words = session._session, "[CPU] Convolution … Failed to allocate 697072896 bytes of memory"

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            if explainer.model.batch_size > 4:
                raise RuntimeError(words)
            inner.run_with_iobinding(binding, options)

    monkeypatch.setattr(session, "_session", Full())
    expected = sise_ort.load(bundle, "cpu").explain(frame).heatmap
    x = np.zeros((1, 3, 32, 48), np.float32)
    with pytest.raises(OutOfMemoryError, match="no memory left on cpu"):
        explainer.model.predict(x)
    result = explainer.explain_many([frame])
    np.testing.assert_allclose(next(iter(result)).heatmap, expected, atol=ATOL)
    assert explainer.model.batch_size == 4
