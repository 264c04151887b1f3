"""The measured batch size, the file that remembers it, and batches that do not fit in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import sise_ort
from sise_ort.cli.main import main
from sise_ort.errors import BundleError, OutOfMemoryError
from sise_ort.runtime import batch_sizes
from sise_ort.runtime.batch_sizes import Curve, cache_file, measure, measured_batch_size, remember
from sise_ort.runtime.model import BundleModel


def limited(model: BundleModel, monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device with memory for so many inputs; collects the sizes that were tried."""
    session, tried = model.sessions.opened["predict"]._session, []

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(session, name)

        def io_binding(self) -> Any:
            self.binding = session.io_binding()
            bind = self.binding.bind_input

            def bound(
                name: str, device: str, number: int, dtype: Any, shape: list[int], pointer: int
            ) -> None:
                tried.append(shape[0])
                bind(name, device, number, dtype, shape, pointer)

            self.binding.bind_input = bound
            return self.binding

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            if tried[-1] > most:
                raise RuntimeError(
                    "[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc Failed to allocate memory for requested buffer of size 1"
                )
            session.run_with_iobinding(binding, options)

    monkeypatch.setattr(model.sessions.opened["predict"], "_session", Full())
    return tried


def test_out_of_memory_halves_the_batch(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sise_ort.load(tiny_bundle, provider="cpu", batch_size=8).explain(frame)
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=8)
    tried = limited(explainer.model, monkeypatch, most=3)
    result = explainer.explain(frame)
    count = sum(result.mask_counts)
    assert tried[:4] == [8, 4, 2, 2]  # 8 did not fit, nor 4; what did not fit is scored again, in parts
    assert max(tried[2:]) == 2 == explainer.model.batch_size
    assert sum(n for n in tried if n <= 3) == count  # nothing that was scored is scored twice
    np.testing.assert_allclose(result.heatmap, expected.heatmap, atol=1e-5)
    assert result.mask_counts == expected.mask_counts
    assert any("no memory for batches of 4: halved" in note for note in result.notes)
    assert not any("no memory" in note for note in expected.notes)
    again = explainer.explain(frame)
    assert any("halved" in note for note in again.notes) and again.heatmap.any()


def test_out_of_memory_for_a_single_mask(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)
    tried = limited(explainer.model, monkeypatch, most=0)
    with pytest.raises(OutOfMemoryError, match=r"no memory left on cpu: .*Failed to allocate"):
        explainer.explain(frame)
    assert tried == [4, 2, 1]


def test_other_errors_are_not_taken_for_it(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)

    def broken(*_: Any) -> None:
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")

    session = explainer.model.sessions.opened["predict"]._session
    monkeypatch.setattr(session, "run_with_iobinding", broken)
    with pytest.raises(BundleError, match=r"predict\.onnx failed.*EXECUTION_FAILED"):
        explainer.explain(frame)
    assert explainer.model.batch_size == 4


def test_best_of_a_curve() -> None:
    assert Curve({1: 3.0, 4: 2.0, 8: 1.01, 16: 1.0, 32: 1.2}).best == 8  # as good as the fastest, and smaller
    assert Curve({1: 1.0}).best == 1


class Clock:
    """Advances by what a batch of each size is said to take."""

    def __init__(self, model: BundleModel, seconds: dict[int, float]) -> None:
        self.model, self.seconds, self.now, self.odd = model, seconds, 0.0, False

    def __call__(self) -> float:
        self.odd = not self.odd
        if not self.odd:
            self.now += self.seconds[self.model.batch_size]
        return self.now


def test_measure_and_remember(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    model, default = explainer.model, explainer.model.batch_size
    assert model.batch_size_is == "default" and not cache_file().exists()
    curve = measure(model, (1, 2, 4), clock=Clock(model, {1: 3.0, 2: 3.0, 4: 8.0}))
    assert curve.seconds == {1: 3.0, 2: 1.5, 4: 2.0} and curve.best == 2 == model.batch_size
    assert remember(explainer.manifest, model.provider, curve) == cache_file()
    entry = next(iter(json.loads(cache_file().read_text()).values()))
    assert entry["batch_size"] == 2 and entry["milliseconds"] == {"1": 3000.0, "2": 1500.0, "4": 2000.0}

    later = sise_ort.load(tiny_bundle, provider="cpu")
    assert (later.model.batch_size, later.model.batch_size_is) == (2, "measured")
    assert later.explain(frame).record()["model"]["batch_size_is"] == "measured"
    assert sise_ort.load(tiny_bundle, provider="cpu", batch_size=5).model.batch_size == 5
    # other conditions were not measured
    assert sise_ort.load(tiny_bundle, provider="cpu", threads=1).model.batch_size == default
    cache_file().unlink()
    assert sise_ort.load(tiny_bundle, provider="cpu").model.batch_size == default


def test_sizes_without_memory_are_left_out(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BundleModel(tiny_bundle, "cpu")
    limited(model, monkeypatch, most=4)
    curve = measure(model, (1, 4, 8, 16), rounds=2)
    assert list(curve.seconds) == [1, 4] and not model.notes and model.batch_size in (1, 4)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 3}', "null", "\x00"])
def test_a_damaged_file_is_no_obstacle(tiny_bundle: Path, content: str) -> None:
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(content)
    model = BundleModel(tiny_bundle, "cpu")
    assert measured_batch_size(model.manifest, model.provider) is None
    remember(model.manifest, model.provider, Curve({3: 1.0}))
    assert measured_batch_size(model.manifest, model.provider) == 3


def test_nonsense_in_an_entry(tiny_bundle: Path) -> None:
    model = BundleModel(tiny_bundle, "cpu")
    for size in (0, -1, True, "8", None, 2.5):
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        key = batch_sizes.key(model.manifest, model.provider)
        cache_file().write_text(json.dumps({key: {"batch_size": size}}))
        assert measured_batch_size(model.manifest, model.provider) is None


def test_command(tiny_bundle: Path) -> None:
    result = CliRunner().invoke(main, ["bench", str(tiny_bundle), "--provider", "cpu", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert "masks at once" in result.stdout and "best" in result.stdout and str(cache_file()) in result.stderr
    result = CliRunner().invoke(
        main, ["bench", str(tiny_bundle), "--provider", "cpu", "--rounds", "1", "--json"]
    )
    record = json.loads(result.stdout)
    assert record["batch_size"] == sise_ort.load(tiny_bundle, provider="cpu").model.batch_size
    assert set(record["milliseconds"]) == {"1", "2", "4", "8", "16", "32"}


def test_without_memory_for_another_size_the_old_one_stays(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=8)
    model, made = explainer.model, []
    expected, tensor = explainer.explain(frame).heatmap, model.provider.tensor

    def full(array: Any) -> Any:
        if made:
            raise OutOfMemoryError("no memory left")
        made.append(array)
        return tensor(array)

    with monkeypatch.context() as patch:
        patch.setattr(model.provider, "tensor", full)
        with pytest.raises(OutOfMemoryError):
            model.resize(4)
    np.testing.assert_array_equal(explainer.explain(frame).heatmap, expected)


def test_sizes_whose_tensors_do_not_fit_are_left_out(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = BundleModel(tiny_bundle, "cpu")
    tensor = model.provider.tensor

    def full(array: Any) -> Any:
        if len(array) > 4:
            raise OutOfMemoryError("no memory left")
        return tensor(array)

    monkeypatch.setattr(model.provider, "tensor", full)
    assert list(measure(model, (1, 4, 8), rounds=2).seconds) == [1, 4] and model.batch_size in (1, 4)
