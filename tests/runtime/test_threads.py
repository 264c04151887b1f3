"""One explainer in several threads: every caller gets what it gets alone; closing and pickling."""

from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import tiny_model

import sise_ort
from sise_ort.errors import BundleError, ClosedError

THREADS = 8
WAYS: dict[str, dict[str, Any]] = {
    "sise": {},
    "sise, adaptive": {"mu": "adaptive"},
    "sise, passes": {"passes": 11},
    "sise, tolerance": {"tolerance": 0.02},
    "gradcam": {"method": "gradcam"},
    "gradcam++": {"method": "gradcam++", "block": 1},
    "layercam": {"method": "layercam", "block": 2},
    "refine": {"method": "refine"},
    "scorecam": {"method": "scorecam"},
    "ablationcam": {"method": "ablationcam"},
    "rise": {"method": "rise", "masks": 23},
    "gradient": {"method": "gradient"},
    "integrated-gradients": {"method": "integrated-gradients", "steps": 9},
    "fullgrad": {"method": "fullgrad"},
    "extremal-perturbation": {"method": "extremal-perturbation", "iterations": 3},
}


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sise_ort.Explainer]:
    folder = tmp_path_factory.mktemp("threads")
    onnx.save(tiny_model(seed=3, width=2), folder / "tiny.onnx")
    sise_ort.export(
        folder / "tiny.onnx", folder / "tiny.sise", normalize="tf",
        graphs=("head", "image-gradient", "full-gradient"),
    )  # fmt: skip
    with sise_ort.load(folder / "tiny.sise", provider="cpu", batch_size=4) as loaded:
        yield loaded


@pytest.fixture
def frames(frame: Any) -> list[Any]:
    return [np.roll(frame, (3 * i, 5 * i), (0, 1)) for i in range(4)]


def bits(result: Any) -> Any:
    """Everything of a result that must not depend on other threads."""
    if isinstance(result, list):
        return [bits(r) for r in result]
    return (
        result.heatmap.tobytes(), result.visualization_maps.tobytes(), result.scores.tobytes(), result.target,
        result.mask_counts, result.forward_passes, result.notes, sorted(result.facts.items()),
    )  # fmt: skip


def in_threads(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Results of jobs that begin together, a thread each."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(120) for future in [pool.submit(run, job) for job in jobs]]


def test_every_method_is_tried(explainer: sise_ort.Explainer) -> None:
    assert {options.get("method", "sise") for options in WAYS.values()} == set(explainer.methods)


def test_all_methods_at_once(explainer: sise_ort.Explainer, frames: list[Any]) -> None:
    """Eight threads, each with all methods and budgets in an order of its own, one and two classes."""
    asked = list(itertools.product(WAYS, range(2), (1, [0, 2])))
    alone = {
        (way, i, str(target)): bits(explainer.explain(frames[i], target, **WAYS[way]))
        for way, i, target in asked
    }

    def job(thread: int) -> Callable[[], list[bool]]:
        order = np.random.default_rng(thread).permutation(len(asked))

        def run() -> list[bool]:
            return [
                bits(explainer.explain(frames[i], target, **WAYS[way])) == alone[way, i, str(target)]
                for way, i, target in (asked[n] for n in order)
            ]

        return run

    assert all(itertools.chain(*in_threads([job(thread) for thread in range(THREADS)])))


def test_explain_many_in_threads(explainer: sise_ort.Explainer, frames: list[Any]) -> None:
    """Beside one another and beside single explanations; one generator in two is left half-way."""
    orders = [[(i + thread) % len(frames) for i in range(len(frames))] for thread in range(THREADS)]
    alone = [[bits(r) for r in explainer.explain_many([frames[i] for i in order], 1)] for order in orders]
    single = bits(explainer.explain(frames[0], 1))

    def many(thread: int) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            results = explainer.explain_many([frames[i] for i in orders[thread]], 1)
            return [bits(r) for r in itertools.islice(results, 2 if thread % 2 else None)]

        return run

    def one() -> list[Any]:
        return [bits(explainer.explain(frames[0], 1)) for _ in range(4)]

    found = in_threads([*(many(thread) for thread in range(THREADS)), one])
    for thread, results in enumerate(found[:-1]):
        assert results == alone[thread][: 2 if thread % 2 else None]
    assert found[-1] == [single] * 4


def test_a_shared_batch_shows(
    explainer: sise_ort.Explainer, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: without turns, a call whose batch lies ready while another one runs gets a wrong map."""

    class Free:
        contended = False

        def take(self, work: Callable[[], Any]) -> Any:
            return work()

    alone, session = bits(explainer.explain(frames[0], 1)), explainer.model.sessions.get("apply")
    run, ready, overtaken = session.run, threading.Event(), threading.Event()

    def held(inputs: Any, **given: Any) -> Any:
        found = run(inputs, **given)
        if threading.current_thread() is not threading.main_thread() and not ready.is_set():
            ready.set()
            overtaken.wait(60)
        return found

    monkeypatch.setattr(explainer.model, "turns", Free())
    monkeypatch.setattr(session, "run", held)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(explainer.explain, frames[0], 1)
        ready.wait(60)
        explainer.explain(frames[2], 1)
        overtaken.set()
        assert bits(slow.result(60)) != alone


def test_closed(tiny_bundle: Path, frame: Any) -> None:
    with sise_ort.load(tiny_bundle, provider="cpu") as explainer:
        many = explainer.explain_many([frame, frame])
        next(many)
        assert explainer.explain(frame).heatmap.any()
    explainer.close()
    words = "the explainer of the bundle 'tiny' is closed: load the bundle again"
    for call in (
        lambda: explainer.explain(frame),
        lambda: explainer.explain_many([frame]),
        lambda: next(many),
        lambda: explainer.warm_up(),
        lambda: explainer.model.extract(explainer.model.upload(frame), [0], 0.0),
        lambda: explainer.model.resize(3),
    ):
        with pytest.raises(ClosedError, match=words):
            call()


def test_closed_while_others_explain(tiny_bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=1)
    alone, started = bits(explainer.explain(frame)), threading.Event()

    def until_closed() -> str:
        for _ in range(10_000):
            try:
                result = explainer.explain(frame)
            except ClosedError as error:
                return str(error)
            assert bits(result) == alone
            started.set()
        return "never closed"

    def close() -> str:
        started.wait(60)
        explainer.close()
        return ""

    *words, _ = in_threads([*[until_closed] * 3, close])
    assert all("is closed" in w for w in words)


def test_pickled(tiny_bundle: Path, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy.sise"
    shutil.copytree(tiny_bundle, folder)
    monkeypatch.chdir(tmp_path)
    explainer = sise_ort.load("copy.sise", provider="cpu", batch_size=3, threads=1)
    (tmp_path / "explainer.pickle").write_bytes(pickle.dumps(explainer))
    np.save(tmp_path / "frame.npy", frame)
    code = (
        "import pickle, sys, numpy as np; from pathlib import Path; here = Path(sys.argv[1]);"
        "e = pickle.loads((here / 'explainer.pickle').read_bytes());"
        "np.save(here / 'map.npy', e.explain(np.load(here / 'frame.npy')).heatmap);"
        "print(e.model.batch_size, e.model.provider.threads, e.provider)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, cwd="/"
    )
    assert run.stdout.split() == ["3", "1", "cpu"]
    assert np.load(tmp_path / "map.npy").tobytes() == explainer.explain(frame).heatmap.tobytes()

    onnx.save(tiny_model(seed=9), tmp_path / "other.onnx")
    sise_ort.export(tmp_path / "other.onnx", folder, normalize="tf", force=True)
    with pytest.raises(BundleError, match="has changed since its explainer was pickled"):
        pickle.loads((tmp_path / "explainer.pickle").read_bytes())
    shutil.rmtree(folder)
    with pytest.raises(BundleError, match="there is no bundle"):
        pickle.loads((tmp_path / "explainer.pickle").read_bytes())


def test_a_short_call_does_not_wait_for_a_long_one(tmp_path: Path, frame: Any) -> None:
    """While one call scores hundreds of masks, others come and go: each waits for one batch of it at a time."""
    onnx.save(tiny_model(seed=3, width=4), tmp_path / "t.onnx")
    sise_ort.export(tmp_path / "t.onnx", tmp_path / "t.sise", normalize="tf")
    explainer = sise_ort.load(tmp_path / "t.sise", provider="cpu", batch_size=1)
    begun, done = threading.Event(), threading.Event()

    class LongEnough(Exception):
        pass

    def progress(*_: int) -> None:
        begun.set()
        if done.is_set():
            raise LongEnough

    def long() -> bool:
        with pytest.raises(LongEnough):
            explainer.explain(frame, 1, method="rise", masks=10**6, progress=progress)
        return True

    def short() -> bool:
        begun.wait(60)
        try:
            for _ in range(3):
                explainer.explain(frame, 1, passes=4)
        finally:
            done.set()
        return True

    assert in_threads([long, short]) == [True, True]


def test_a_deadline_counts_from_its_own_call(
    tiny_bundle: Path, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that had to wait longer than its deadline for the first run scores nothing and answers at once."""
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=1)
    explainer.warm_up()
    model, scored = explainer.model, []
    score_maps = model.score_maps
    monkeypatch.setattr(model, "score_maps", lambda picks: scored.append(1) or score_maps(picks))
    held = threading.Event()

    def hold() -> None:
        held.set()
        while not model.turns.waiting:
            threading.Event().wait(0.001)
        threading.Event().wait(0.4)

    holder = threading.Thread(target=model.turns.take, args=(hold,))
    holder.start()
    held.wait(60)
    result = explainer.explain(frame, 1, deadline=0.3)
    holder.join()
    assert result.timings["total"] > 0.3 and not scored and result.facts["stopped_by"] == "deadline"
