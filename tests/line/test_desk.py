"""The queue: shared batches give the same answers, nothing is lost, and what is too much is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

import sise_ort
from sise_ort.line.server.desk import Desk
from sise_ort.line.server.jobs import Job
from sise_ort.line.server.metrics import Metrics
from sise_ort.line.server.pictures import prepared
from sise_ort.line.server.refusal import Refusal
from sise_ort.line.server.settings import Settings
from sise_ort.line.server.wishes import Wish, wish_of


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, "cpu", batch_size=8, threads=1)


class Held:
    """A desk whose thread waits until it is let go, so that what is put on it meanwhile stands there together."""

    def __init__(self, explainer: sise_ort.Explainer, **settings: Any) -> None:
        self.settings, self.metrics, self.explainer = Settings(**settings), Metrics(), explainer
        self.desk = Desk("tiny", explainer, self.settings, self.metrics)
        self._go, held = threading.Event(), threading.Event()

        def wait() -> None:
            held.set()
            self._go.wait(60)

        self._holder = threading.Thread(target=explainer.model.turns.take, args=(wait,))
        self._holder.start()
        held.wait(60)
        self.first = self.job(np.zeros((32, 48, 3), np.uint8), passes=1)
        self.desk.put([self.first])
        while len(self.desk):  # until the thread has taken it
            time.sleep(0.001)

    def job(self, frame: Any, seconds: float = 60.0, **fields: Any) -> Job:
        wish = wish_of(fields, self.explainer.manifest, self.settings)
        return self._job(frame, wish, seconds)

    def prediction(self, frame: Any) -> Job:
        return self._job(frame, None, 60.0)

    def _job(self, frame: Any, wish: Wish | None, seconds: float) -> Job:
        ready = prepared(self.explainer.manifest, np.asarray(frame), None)
        return Job(ready, wish, time.perf_counter() + seconds)

    def go(self) -> None:
        self._go.set()
        self._holder.join()

    def sum(self, kind: str) -> tuple[float, float]:
        """Number of batches, and of pictures in them."""
        text = self.metrics.page().decode()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        key = f'{{kind="{kind}",model="tiny"}}'
        return (
            float(lines[f"sise_ort_batch_pictures_count{key}"]),
            float(lines[f"sise_ort_batch_pictures_sum{key}"]),
        )


@pytest.fixture
def held(explainer: sise_ort.Explainer) -> Iterator[Held]:
    found = Held(explainer)
    yield found
    found.go()
    found.desk.close()


def frames(rng: np.random.Generator, count: int) -> list[Any]:
    return [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(count)]


def test_neighbours_share_batches_and_get_their_own_answers(
    held: Held, explainer: sise_ort.Explainer, rng: np.random.Generator
) -> None:
    pictures, targets = frames(rng, 9), ["ant", "bee", None, 2, ["bee", "cat"], "1", 0, None, "cat"]
    jobs = [held.job(f, target=t, mu=0.3) for f, t in zip(pictures, targets, strict=True)]
    held.desk.put(jobs)
    held.go()
    answers = [job.future.result(60) for job in jobs]
    expected = [explainer.explain(f, t, mu=0.3) for f, t in zip(pictures, targets, strict=True)]
    for answer, alone in zip(answers, expected, strict=True):
        pairs = zip(answer, alone, strict=True) if isinstance(alone, list) else [(answer, alone)]
        for a, b in pairs:
            assert (a.target, a.label, a.mask_counts) == (b.target, b.label, b.mask_counts)
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-5)
            assert a.confidence == pytest.approx(b.confidence, abs=1e-6)
    assert held.sum("explain") == (2, 10)  # the one that was held, and nine together


def test_predictions_share_passes(
    held: Held, explainer: sise_ort.Explainer, rng: np.random.Generator
) -> None:
    pictures = frames(rng, 20)
    jobs = [held.prediction(f) for f in pictures]
    held.desk.put(jobs)
    held.go()
    for job, picture in zip(jobs, pictures, strict=True):
        alone = explainer.explain(picture, method="gradcam").scores
        np.testing.assert_allclose(job.future.result(60)["scores"], alone, rtol=1e-5, atol=1e-6)
    assert held.sum("predict") == (3, 20)  # of at most eight


def test_exact_answers_are_those_of_a_call_alone(
    explainer: sise_ort.Explainer, rng: np.random.Generator
) -> None:
    pictures, held = frames(rng, 5), Held(explainer, exact=True)
    jobs = [held.job(f, mu=0.1) for f in pictures]
    held.desk.put(jobs)
    held.go()
    for job, picture in zip(jobs, pictures, strict=True):
        answer = job.future.result(60)
        np.testing.assert_array_equal(answer.heatmap, explainer.explain(picture, mu=0.1).heatmap)
    assert held.sum("explain") == (6, 6)
    held.desk.close()


@pytest.mark.parametrize(
    "fields", [{"passes": 12}, {"method": "gradcam"}, {"method": "rise", "masks": 20, "seed": 3}]
)
def test_methods_that_share_nothing_are_exact(
    held: Held, explainer: sise_ort.Explainer, rng: np.random.Generator, fields: dict[str, Any]
) -> None:
    pictures = frames(rng, 3)
    jobs = [held.job(f, **fields) for f in pictures]
    held.desk.put(jobs)
    held.go()
    for job, picture in zip(jobs, pictures, strict=True):
        np.testing.assert_array_equal(
            job.future.result(60).heatmap, explainer.explain(picture, **fields).heatmap
        )


def test_one_bad_question_does_not_harm_its_neighbours(held: Held, rng: np.random.Generator) -> None:
    pictures = frames(rng, 4)
    jobs = [held.job(f, target=t) for f, t in zip(pictures, ["ant", "wasp", "bee", "hornet"], strict=True)]
    held.desk.put(jobs)
    held.go()
    assert [jobs[0].future.result(60).label, jobs[2].future.result(60).label] == ["ant", "bee"]
    for job in (jobs[1], jobs[3]):
        with pytest.raises(Refusal, match="target: there is no label") as refused:
            job.future.result(60)
        assert refused.value.status == 400


def test_a_failing_batch_is_tried_one_by_one(
    held: Held, explainer: sise_ort.Explainer, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sise_ort.runtime.methods.sise import Sise

    def broken(*_: Any) -> Iterator[Any]:
        next(iter(_[2]))
        raise RuntimeError("no memory")
        yield

    monkeypatch.setattr(Sise, "explain_many", broken)
    jobs = [held.job(f) for f in frames(rng, 3)]
    held.desk.put(jobs)
    held.go()
    assert all(job.future.result(60).label for job in jobs)


def test_a_full_queue_refuses_and_says_when_to_come_back(held: Held, rng: np.random.Generator) -> None:
    held.desk.put([held.prediction(f) for f in frames(rng, 60)])
    with pytest.raises(Refusal) as refused:
        held.desk.put([held.prediction(f) for f in frames(rng, 5)])
    assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
    assert len(held.desk) == 60  # all pictures of a request, or none
    last = [held.prediction(f) for f in frames(rng, 4)]
    held.desk.put(last)
    held.go()
    assert all("scores" in job.future.result(60) for job in last)
    assert b'sise_ort_rejected_total{model="tiny"} 1.0' in held.metrics.page()


def test_what_nobody_waits_for_is_not_done(held: Held, rng: np.random.Generator) -> None:
    late, gone, last = (held.job(f, seconds=s) for f, s in zip(frames(rng, 3), (0.0, 60, 60), strict=True))
    gone.gone = True
    held.desk.put([late, gone, last])
    held.go()
    assert last.future.result(60)
    for job in (late, gone):
        with pytest.raises(Refusal, match="time is over"):
            job.future.result(60)
    assert held.sum("explain") == (2, 2)


def test_a_long_explanation_ends_with_its_time(explainer: sise_ort.Explainer, frame: Any) -> None:
    held = Held(explainer)
    held.go()
    endless = held.job(frame, seconds=0.2, method="rise", masks=100_000)
    held.desk.put([endless])
    with pytest.raises(Refusal) as refused:
        endless.future.result(60)
    assert refused.value.status == 504
    held.desk.close()


def test_closing_ends_what_waits(explainer: sise_ort.Explainer, rng: np.random.Generator) -> None:
    held = Held(explainer)
    jobs = [held.job(f) for f in frames(rng, 6)]
    held.desk.put(jobs)
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(held.desk.close)
        held.go()
        closing.result(60)
    assert all(job.future.done() and job.future.result().label for job in jobs)
    with pytest.raises(Refusal, match="stopping") as refused:
        held.desk.put([held.job(jobs[0].prepared.fitted)])
    assert refused.value.status == 503
