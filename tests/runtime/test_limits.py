"""Limits of time and memory, and what is refused before anything is allocated."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import sise_ort
from sise_ort.bundle import read_bundle
from sise_ort.errors import BundleError, OutputError, ParameterError
from sise_ort.runtime import batch_sizes, cache, limits
from sise_ort.runtime.batch_sizes import Curve, measured_batch_size, remember
from sise_ort.runtime.evaluation.plan import bounded
from sise_ort.runtime.fitting import largest_batch
from sise_ort.runtime.limits import Watch, memory_of_machine
from sise_ort.runtime.providers import Provider


def test_a_watch_stops_what_is_late_and_nothing_else() -> None:
    """The clock is ours: the second block is 10 s over its limit, the first and third are not."""
    now = 0.0
    watch = Watch(lambda: now)
    stopped = threading.Event()
    with watch.limit(100, lambda: pytest.fail("stopped too early")) as early:
        with watch.limit(10, stopped.set) as late:
            assert not late()
            now = 20.0
            assert stopped.wait(60) and late()
        assert not early()
    with watch.limit(math.inf, lambda: pytest.fail("stopped what has no limit")) as never:
        now = 1e9
        other = threading.Event()
        with watch.limit(-1, other.set):
            assert other.wait(60)
        assert not never()


def test_a_stop_that_fails_ends_no_watch() -> None:
    """Its error is raised where the block ends; whatever else is watched is stopped in time."""
    watch, tried = Watch(lambda: 0.0), threading.Event()

    def stop() -> None:
        tried.set()
        raise RuntimeError("cannot be stopped")

    with pytest.raises(RuntimeError, match="cannot be stopped"), watch.limit(-1, stop) as late:
        assert tried.wait(60)
    assert late()
    tried.clear()
    with pytest.raises(ZeroDivisionError), watch.limit(-1, stop):  # the block's own error comes first
        assert tried.wait(60)
        raise ZeroDivisionError
    stopped = threading.Event()
    with watch.limit(-1, stopped.set):
        assert stopped.wait(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_has_a_watch_of_its_own() -> None:
    with limits.WATCH.limit(1000, lambda: None):
        process = os.fork()
        if not process:  # pragma: no cover - another process
            done = threading.Event()
            with limits.WATCH.limit(0, done.set):
                os._exit(0 if done.wait(60) else 1)
        assert os.waitpid(process, 0)[1] == 0


@pytest.mark.parametrize("threads", [0, -1, True, 2.0, "2", 10**6, 4 * (os.cpu_count() or 1) + 17])
def test_threads_that_no_machine_has(tiny_bundle: Path, threads: Any) -> None:
    with pytest.raises(ParameterError, match=r"threads= is .*(whole number|is the most that is taken)"):
        sise_ort.load(tiny_bundle, "cpu", threads=threads)


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["large", "negative"])
def test_numbers_that_python_refuses_to_write(tiny_bundle: Path, number: int) -> None:
    for given in ({"threads": number}, {"batch_size": number}):
        with pytest.raises(ParameterError, match="a whole number of 16610 bits"):
            sise_ort.load(tiny_bundle, "cpu", **given)
    with pytest.raises(ParameterError, match="a whole number of 16610 bits"):
        bounded("workers", number, 1, 8)


def test_batches_that_do_not_fit(tiny_bundle: Path) -> None:
    """One input of the tiny network: picture, mask, the largest block's maps, scores and confidence, as float32."""
    each = 4 * (3 * 32 * 48 + 32 * 48 + 8 * 32 * 48 + 2 * 4)
    most = memory_of_machine() // each
    assert largest_batch(read_bundle(tiny_bundle)) == most
    for size in (most + 1, 10**9, 10**30):
        with pytest.raises(ParameterError, match=rf"batch_size= is {size}.*holds {most} at most"):
            sise_ort.load(tiny_bundle, "cpu", batch_size=size)


@pytest.mark.parametrize("size", [10**12, -1, 0, "8", 2.5, True, None])
def test_a_measured_size_that_cannot_be_is_forgotten(tiny_bundle: Path, size: Any) -> None:
    manifest, provider = read_bundle(tiny_bundle), Provider("cpu")
    file = remember(manifest, provider, Curve({8: 1.0}))
    assert measured_batch_size(manifest, provider) == 8
    known = json.loads(file.read_text())
    (entry,) = known.values()
    entry["batch_size"] = size
    file.write_text(json.dumps(known))
    assert measured_batch_size(manifest, provider) is None
    assert sise_ort.load(tiny_bundle, "cpu").model.batch_size_is == "default"


def test_measured_sizes_belong_to_one_bundle(tiny_bundle: Path) -> None:
    manifest, provider = read_bundle(tiny_bundle), Provider("cpu")
    other = msgspec.structs.replace(manifest, labels=())
    remember(manifest, provider, Curve({8: 1.0}))
    remember(other, provider, Curve({2: 1.0}))
    assert measured_batch_size(manifest, provider) == 8 and measured_batch_size(other, provider) == 2


def test_a_cache_that_cannot_be_written(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(batch_sizes, "cache_folder", lambda: tmp_path / "file" / "cache")
    with pytest.raises(OutputError, match="SISE_ORT_CACHE names another folder"):
        remember(read_bundle(tiny_bundle), Provider("cpu"), Curve({8: 1.0}))


def test_the_cache_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SISE_ORT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/sise-ort"))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = cache.cache_folder()
    assert folder.parent == tmp_path and folder.is_dir() and folder.stat().st_mode & 0o077 == 0
    assert cache.cache_folder() == folder
    folder.chmod(0o777)  # anybody may put TensorRT's engines there
    with pytest.raises(OutputError, match="belongs to somebody else"):
        cache.cache_folder()


def test_the_cache_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SISE_ORT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "sise-ort"


def test_an_opening_that_cannot_be_stopped_ends_in_an_error(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with constants that onnxruntime folds: it succeeds, but too late."""
    from sise_ort.runtime.providers import opening

    cancelled = threading.Event()
    opened = opening.ort.InferenceSession

    def slow(*arguments: Any, **options: Any) -> Any:
        session = opened(*arguments, **options)
        assert cancelled.wait(60)
        return session

    monkeypatch.setattr(opening, "_cancel", lambda _: cancelled.set())
    monkeypatch.setattr(opening.ort, "InferenceSession", slow)
    with pytest.raises(BundleError, match=r"took more than 0\.01 s"):
        sise_ort.load(tiny_bundle, "cpu", limits=sise_ort.Limits(load_seconds=0.01))


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    "given",
    [{"load_memory": math.inf}, {"load_memory": 10**30}, {"load_memory": 4.5e9},
     {"load_seconds": math.inf, "run_seconds": 10**400}, {"load_seconds": 1e300}],
)  # fmt: skip
def test_limits_beyond_any_bound_are_none(tiny_bundle: Path, given: Any, trusted: bool) -> None:
    sise_ort.load(tiny_bundle, "cpu", limits=sise_ort.Limits(**given), trusted=trusted).close()


def test_less_than_a_byte_is_not_the_default(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="limit of memory"):
        sise_ort.load(tiny_bundle, "cpu", limits=sise_ort.Limits(load_memory=0.5))  # type: ignore[arg-type]


def test_a_run_that_cannot_be_stopped_ends_in_an_error(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on OpenVINO, to which a whole batch is one operator: it ends well, but too late."""
    explainer = sise_ort.load(tiny_bundle, "cpu", limits=sise_ort.Limits(run_seconds=0.01))
    session = explainer.model.sessions.get("predict")
    inner = session._session

    class Deaf:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            inner.run_with_iobinding(binding)
            while not options.terminate:
                time.sleep(0.01)

    monkeypatch.setattr(session, "_session", Deaf())
    with pytest.raises(BundleError, match=r"predict\.onnx ran for more than 0\.01 s"):
        explainer.model.predict(np.zeros((1, 3, 32, 48), np.float32))
