"""Plug-ins of onnxruntime, found by package: with packages and an onnxruntime that stand in for real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.errors import ParameterError, ProviderError
from sise_ort.runtime.providers import listed, opening
from sise_ort.runtime.providers.plugins import installed, plugin

LIBRARY = "def get_library_path(): return 'libnone.so'\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a module."""
    import sys

    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def install(name: str, text: str) -> None:
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    opening._plugin_devices.cache_clear()
    return install


def test_packages_that_are_installed(package: Any) -> None:
    """Their names are known without importing them."""
    package("onnxruntime_ep_two_words", "raise RuntimeError('imported')")
    package("onnxruntime_qnn", "raise RuntimeError('imported')")
    found = installed()
    assert found["two-words"] == "onnxruntime_ep_two_words" and found["qnn"] == "onnxruntime_qnn"
    assert {("plugin:two-words", "auto"), ("plugin:qnn", "auto")} <= set(listed())


def test_what_a_package_says(package: Any) -> None:
    package("onnxruntime_ep_one", LIBRARY + "def get_ep_names(): return ['OneExecutionProvider']")
    package("onnxruntime_ep_old", LIBRARY + "def get_ep_name(): return 'OldExecutionProvider'")
    package("onnxruntime_ep_mute", LIBRARY)
    assert [plugin(name).onnxruntime for name in ("one", "Old", "mute")] == [
        "OneExecutionProvider", "OldExecutionProvider", "onnxruntime_ep_mute",
    ]  # fmt: skip
    spec = plugin("one")
    assert (spec.name, spec.install, spec.beside) == ("plugin:one", "onnxruntime-ep-one", "cpu")


@pytest.mark.parametrize(
    ("name", "text", "error", "words"),
    [
        ("absent", None, ProviderError, "'absent' is not installed: pip install onnxruntime-ep-absent; installed"),
        ("broken", "import nowhere", ProviderError, r"cannot be imported \(No module named 'nowhere'\): install onnxruntime-ep-broken"),
        ("bad", "raise OSError('libx.so is missing')", ProviderError, r"cannot be imported \(libx\.so is missing\)"),
        ("plain", "", ProviderError, r"onnxruntime-ep-plain is no plug-in of onnxruntime: it has no get_library_path"),
        ("../x", None, ParameterError, "a package's name is needed, such as plugin:webgpu"),
    ],
)  # fmt: skip
def test_packages_that_are_no_plugins(
    package: Any, tiny_bundle: Path, name: str, text: str | None, error: type[Exception], words: str
) -> None:
    if text is not None:
        package(f"onnxruntime_ep_{name}", text)
    with pytest.raises(error, match=words):
        sise_ort.load(tiny_bundle, f"plugin:{name}")


@pytest.fixture
def own_devices(package: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An onnxruntime whose plug-in "one" finds a device; sessions run on the CPU and claim to run there."""
    package("onnxruntime_ep_one", LIBRARY + "def get_ep_names(): return ['OneExecutionProvider']")
    seen: dict[str, Any] = {"registered": [], "given": [], "elsewhere": [], "factor": 1.0}
    real = opening.ort.InferenceSession
    device = SimpleNamespace(
        ep_name="OneExecutionProvider", device=SimpleNamespace(type=SimpleNamespace(name="NPU"), vendor="One")
    )
    cpu = SimpleNamespace(
        ep_name="CPUExecutionProvider", device=SimpleNamespace(type=SimpleNamespace(name="CPU"), vendor="Two")
    )
    seen["devices"] = [device, cpu]

    class Options(opening.ort.SessionOptions):  # type: ignore[misc]
        def add_provider_for_devices(self, devices: Any, options: Any) -> None:
            seen["given"].append((devices, options))
            self.of_plugin = True

    class There:
        def __init__(self, content: Any, options: Any, **given: Any) -> None:
            self.of_plugin = getattr(options, "of_plugin", False)
            given = {"enable_fallback": 0, "providers": ["CPUExecutionProvider"]}
            self.inner = real(content, options, **given)

        def get_providers(self) -> list[str]:
            return (["OneExecutionProvider"] if self.of_plugin else []) + ["CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self) -> list[Any]:
            nodes = [SimpleNamespace(op_type=name) for name in seen["elsewhere"]]
            return [SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: nodes)]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    monkeypatch.setattr(
        opening.ort,
        "register_execution_provider_library",
        lambda *a: seen["registered"].append(a),
        raising=False,
    )
    monkeypatch.setattr(opening.ort, "get_ep_devices", lambda: seen["devices"], raising=False)
    monkeypatch.setattr(opening.ort, "SessionOptions", Options)
    monkeypatch.setattr(opening.ort, "InferenceSession", There)
    monkeypatch.setattr(opening, "_MEASURED", {})
    return seen


def test_predict_runs_on_the_plugins_devices(tiny_bundle: Path, frame: Any, own_devices: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, "plugin:one", provider_options={"level": True}, batch_size=4)
    assert explainer.provider == "plugin:one" and own_devices["registered"] == [
        ("OneExecutionProvider", "libnone.so")
    ]
    (devices, options), (again, _) = own_devices["given"]  # the test graph, and predict
    assert devices == again == own_devices["devices"][:1] and options == {"level": "1"}
    expected = sise_ort.load(tiny_bundle, "cpu", batch_size=4).explain(frame)
    np.testing.assert_array_equal(explainer.explain(frame).heatmap, expected.heatmap)
    sise_ort.load(tiny_bundle, "plugin:one")
    assert len(own_devices["registered"]) == 1


def test_qnn_has_a_backend(package: Any) -> None:
    package("onnxruntime_qnn", LIBRARY)
    from sise_ort.runtime.providers.spec import Wishes

    wished = plugin("qnn").wished
    assert wished(Wishes()) == {"backend_type": "htp"}
    assert wished(Wishes(options={"backend_type": "gpu"})) == {"backend_type": "gpu"}


def test_plugins_that_do_not_run(
    tiny_bundle: Path, own_devices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_devices["elsewhere"] = ["MatMul"]
    with pytest.raises(
        ProviderError, match=r"plugin:one was asked for, but does not take 1 node of a small.*MatMul"
    ):
        sise_ort.load(tiny_bundle, "plugin:one")
    own_devices["elsewhere"] = []
    with pytest.raises(
        ProviderError, match="computes in fp32 here, though fp16 is asked of it: leave precision= out"
    ):
        sise_ort.load(tiny_bundle, "plugin:one", precision="fp16")
    opening._plugin_devices.cache_clear()
    del own_devices["devices"][0]
    with pytest.raises(
        ProviderError, match="is installed, but finds no device that it supports; onnxruntime sees CPU of Two"
    ):
        sise_ort.load(tiny_bundle, "plugin:one")
    monkeypatch.delattr(opening.ort, "register_execution_provider_library")
    with pytest.raises(ProviderError, match=r"cannot load: pip install 'onnxruntime>=1\.23'"):
        sise_ort.load(tiny_bundle, "plugin:one")


def test_a_library_that_cannot_be_loaded(package: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    """By the real onnxruntime, where it loads plug-ins at all."""
    if not hasattr(opening.ort, "register_execution_provider_library"):
        pytest.skip("this onnxruntime loads no plug-ins")
    (tmp_path / "libnone.so").write_bytes(b"no library")
    package("onnxruntime_ep_one", f"def get_library_path(): return {str(tmp_path / 'libnone.so')!r}")
    with pytest.raises(ProviderError, match="the library of the package onnxruntime-ep-one cannot be loaded"):
        sise_ort.load(tiny_bundle, "plugin:one")
