"""A model's queue and the thread that works it off, first come, first served; neighbours share batches."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sise_ort.errors import FrameError, TargetError
from sise_ort.explanation import Explanation
from sise_ort.line.server.jobs import Job, Overdue
from sise_ort.line.server.metrics import Metrics
from sise_ort.line.server.refusal import Refusal
from sise_ort.line.server.settings import Settings
from sise_ort.runtime.asking import Asking, questions_of
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.extracted import require_finite
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Method, Picture
from sise_ort.runtime.methods.sise import Sise
from sise_ort.runtime.preparing import Asked
from sise_ort.runtime.results import explanations

LOG = logging.getLogger("sise_ort.serve")
SMOOTHING = 0.2
"""Weight of the newest picture in the pace, from which Retry-After is estimated."""
LONGEST_WAIT = 600


class Desk:
    """Works off the requests to one model.

    Parameters
    ----------
    name : str
        The model's name, for the metrics.
    explainer : Explainer
        The open bundle.
    settings : Settings
    metrics : Metrics

    Notes
    -----
    The thread takes the first picture of the queue, and then those behind it as long as they can share batches with it:
    predictions with predictions, and explanations by SISE without a budget that have the same parameters, whatever their
    targets. Nothing is overtaken. Other methods, and SISE with a budget, are computed one after the other.
    """

    def __init__(self, name: str, explainer: Explainer, settings: Settings, metrics: Metrics) -> None:
        self.name, self._explainer, self._settings, self._metrics = name, explainer, settings, metrics
        self._model = explainer.model
        self._jobs: deque[Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._pace = 0.0
        self._thread = threading.Thread(target=self._work, name=f"desk {name}", daemon=True)
        self._waiting = metrics.waiting.labels(name)
        self._waiting.set(0)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def require_room(self, count: int) -> None:
        """Refuse a request whose pictures would not find a place.

        Raises
        ------
        Refusal
            With status 429 and the seconds after which there should be room.
        """
        if count > self._settings.queue:
            raise Refusal(
                413, f"the request holds {count} pictures; the queue has {self._settings.queue} places"
            )
        if self._closed:
            raise Refusal(503, "the server is stopping")
        if len(self._jobs) + count > self._settings.queue:
            self._metrics.rejected.labels(self.name).inc()
            wait = math.ceil(len(self._jobs) * self._pace)
            raise Refusal(
                429,
                f"{len(self._jobs)} pictures wait already: try again later",
                headers={"Retry-After": str(min(max(wait, 1), LONGEST_WAIT))},
            )

    def put(self, jobs: Sequence[Job]) -> None:
        """Queue all pictures of a request, or none; see `require_room`."""
        with self._change:
            self.require_room(len(jobs))
            self._jobs.extend(jobs)
            self._waiting.set(len(self._jobs))
            self._change.notify()

    def close(self) -> None:
        """End after what waits is done."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    # The thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (first := self._next()) is not None:
            try:
                if first.wish is None:
                    self._predict(first)
                elif self._shares(first):
                    self._explain_together(first)
                else:
                    self._explain(first)
            except Exception as error:
                LOG.exception("request failed")
                first.refuse(error)

    def _next(self) -> Job | None:
        """Wait for the first picture that somebody still waits for; None at the end."""
        while True:
            with self._change:
                while not self._jobs:
                    if self._closed:
                        return None
                    self._change.wait()
                job = self._pop()
            if not job.over:
                return job
            job.expire()

    def _next_if(self, fits: Callable[[Job], bool]) -> Job | None:
        """The first picture if it is there and fits, without waiting."""
        while True:
            with self._change:
                if not self._jobs or not (self._jobs[0].over or fits(self._jobs[0])):
                    return None
                job = self._pop()
            if not job.over:
                return job
            job.expire()

    def _pop(self) -> Job:
        job = self._jobs.popleft()
        self._waiting.set(len(self._jobs))
        self._metrics.phases(self.name, {"wait": job.waited})
        return job

    def _done(self, seconds: float, pictures: int) -> None:
        each = seconds / max(pictures, 1)
        self._pace = each if not self._pace else (1 - SMOOTHING) * self._pace + SMOOTHING * each

    # Predictions ------------------------------------------------------------------------------------

    def _predict(self, first: Job) -> None:
        began, jobs = time.perf_counter(), [first]
        while not self._settings.exact and len(jobs) < self._model.batch_size:
            job = self._next_if(lambda other: other.wish is None)
            if job is None:
                break
            jobs.append(job)
        try:
            inputs = np.concatenate(
                [self._model.network_input(self._model.upload(job.prepared.fitted)) for job in jobs]
            )
            outputs = self._model.predict(inputs)
        except Exception as error:
            LOG.exception("prediction failed")
            for job in jobs:
                job.refuse(error)
            return
        for row, job in enumerate(jobs):
            own = {name: array[row] for name, array in outputs.items()}
            try:
                require_finite("predict", *own.values())
            except FrameError as error:
                job.refuse(error)
            else:
                job.answer(own)
        seconds = time.perf_counter() - began
        self._metrics.phases(self.name, {"predict": seconds})
        self._metrics.passes.labels(self.name).inc(len(jobs))
        self._metrics.batches.labels(self.name, "predict").observe(len(jobs))
        self._done(seconds, len(jobs))

    # Explanations -----------------------------------------------------------------------------------

    def _shares(self, job: Job) -> bool:
        method = None if job.wish is None else job.wish.method
        return isinstance(method, Sise) and not method.budget.limited and not self._settings.exact

    def _explain(self, job: Job) -> None:
        """Explain one picture by itself."""
        assert job.wish is not None
        began, method = time.perf_counter(), job.wish.method

        def look(done: int, steps: int) -> None:
            if job.over:
                raise Overdue

        try:
            asked = self._ask(job)
            if not asked.questions:
                job.answer([])
                return
            call = Call(look, started=job.arrived)
            found = method.timed(self._model, asked.image, asked.questions, call)
            seconds = time.perf_counter() - began
            self._answer(job, asked, explanations(self._model, asked, method, found, seconds, self._notes))
        except Overdue:
            job.expire()
        except Exception as error:  # noqa: BLE001 - the request hears of it
            self._log(error)
            job.refuse(error)
        seconds = time.perf_counter() - began
        self._metrics.batches.labels(self.name, "explain").observe(1)
        self._done(seconds, 1)

    def _explain_together(self, first: Job) -> None:
        """Explain a picture and those behind it that can share its batches; each is answered as soon as it is done."""
        assert first.wish is not None
        began, method, count = time.perf_counter(), first.wish.method, 0
        begun: deque[tuple[Job, Asked]] = deque()

        def look(done: int, steps: int) -> None:
            if begun and all(job.over for job, _ in begun):
                raise Overdue

        try:
            for found in method.explain_many(self._model, self._neighbours(first, method, begun), Call(look)):
                job, asked = begun.popleft()
                count += 1
                if isinstance(found, FrameError):
                    job.refuse(found)
                else:
                    self._answer(
                        job, asked, explanations(self._model, asked, method, found, None, self._notes)
                    )
        except Overdue:
            for job, _ in begun:
                job.expire()
        except Exception as error:  # noqa: BLE001 - what has begun is tried once more, each by itself
            self._log(error)
            for job, _ in begun:
                self._explain(job)
        self._metrics.batches.labels(self.name, "explain").observe(count)
        self._done(time.perf_counter() - began, count)

    def _neighbours(self, first: Job, method: Method, begun: deque[tuple[Job, Asked]]) -> Iterator[Picture]:
        """Yield a picture and those behind it that can share its batches, each with its own questions."""
        job: Job | None = first
        while job is not None:
            try:
                asked = self._ask(job)
            except Exception as error:  # noqa: BLE001 - the request hears of it
                self._log(error)
                job.refuse(error)
            else:
                if asked.questions:
                    begun.append((job, asked))
                    yield asked.picture
                else:
                    job.answer([])
            job = self._next_if(lambda other: other.wish is not None and other.wish.method == method)

    def _ask(self, job: Job) -> Asked:
        assert job.wish is not None
        began, asking = time.perf_counter(), Asking(self._model, job.prepared)
        questions, several = questions_of(asking, job.wish.target)
        if len(questions) > self._settings.max_targets:
            raise TargetError(
                f"target means {len(questions)} classes or detections in this picture; at most "
                f"{self._settings.max_targets} are explained at once: name them"
            )
        job.wish.method.require(self._explainer.manifest, questions)
        seconds = time.perf_counter() - began
        return Asked(job.prepared, asking.image, questions, several, asking.passes, seconds)

    def _answer(self, job: Job, asked: Asked, results: list[Explanation]) -> None:
        answer: Any = results if asked.several else results[0]
        self._metrics.passes.labels(self.name).inc(results[0].forward_passes)
        self._metrics.phases(self.name, results[0].timings)
        job.answer(answer)

    @property
    def _notes(self) -> tuple[str, ...]:
        return self._explainer.notes

    @staticmethod
    def _log(error: Exception) -> None:
        """Keep the traceback of errors that are not the request's own."""
        from sise_ort.line.server.refusal import refusal_of

        if refusal_of(error).status >= 500:
            LOG.error("request failed", exc_info=error)
