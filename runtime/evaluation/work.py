"""The work of an evaluation: one sample by all methods, in this process or in several."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.datasets.dataset import Problem, Sample, UnusableSample
from sise_ort.errors import FrameError, SiseError
from sise_ort.files import write_file
from sise_ort.frame import read_frame
from sise_ort.runtime.evaluation.judge import Judge
from sise_ort.runtime.evaluation.plan import Plan, Variant, file_key
from sise_ort.runtime.evaluation.rows import Row
from sise_ort.runtime.explainer import Explainer


@dataclass(frozen=True)
class Task:
    """One sample and the variants that are still to be done; gallery : folder for overlays, None for none; truths :
    where the top class is explained, the picture's samples by class."""

    sample: Sample
    variants: tuple[Variant, ...]
    gallery: Path | None
    truths: Mapping[int | None, Sample]


@dataclass
class Outcome:
    """What became of a task."""

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def outcomes(explainer: Explainer, plan: Plan, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """The tasks' outcomes as they come."""
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield judged(explainer, plan, task)
        return
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_begin, initargs=(plan, os.getpid())
    )
    with pool:
        waiting: set[Future[Outcome]] = set()
        left = iter(tasks)
        try:
            while True:
                for task in itertools.islice(left, 2 * workers - len(waiting)):
                    waiting.add(pool.submit(_work, task))
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise SiseError(
                "a worker process was killed, perhaps for memory; start again to go on"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


_STATE: dict[str, Any] = {}


def _begin(plan: Plan, parent: int) -> None:
    """In a worker: open the bundle, and end with the parent, even if that is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _STATE["plan"] = plan
    _STATE["explainer"] = Explainer(plan.bundle, plan.provider, plan.batch_size, plan.threads)


def _work(task: Task) -> Outcome:
    return judged(_STATE["explainer"], _STATE["plan"], task)


def judged(explainer: Explainer, plan: Plan, task: Task) -> Outcome:
    """Explain one sample by all variants and judge the heat maps."""
    outcome, sample = Outcome(), task.sample
    try:
        frame = read_frame(sample.picture)
        image = explainer.model.upload(explainer.prepare(frame)[0])
        target: Any = sample.label
        if target is None:
            target = int(np.argmax(explainer.model.whole(image)))
            sample = task.truths.get(target) or task.truths.get(None) or sample
        truth = sample.truth(frame.shape[0], frame.shape[1])
    except UnusableSample as error:
        return Outcome(problems=[error.problem])
    except FrameError as error:
        return Outcome(problems=[Problem(task.sample.name, 0, str(error))])
    sample = task.sample
    judge = Judge(explainer.model, image, target, truth, plan.metrics, plan.steps)
    if task.gallery is not None:
        _keep_picture(task.gallery / f"{file_key(sample.name)}.jpg", _outlined(frame, truth))
    for variant in task.variants:
        try:
            result = explainer.explain(frame, target, method=variant.method, **variant.parameters)
        except FrameError as error:
            outcome.problems.append(Problem(sample.name, 0, f"{variant.name}: {error}"))
            continue
        if task.gallery is not None:
            _keep_picture(task.gallery / f"{file_key(f'{sample.name} {variant.name}')}.jpg", result.overlay())
        outcome.rows.append(
            {
                "sample": sample.name,
                "variant": variant.name,
                "label": result.label,
                "target": result.target,
                "confidence": judge.confidence,
                **judge.judge(result),
                "forward_passes": result.forward_passes,
                "backward_passes": result.backward_passes,
                "seconds": result.timings["total"],
                "notes": "; ".join(result.notes[len(explainer.notes) :]),
            }
        )
    return outcome


def _keep_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    from sise_ort.drawing import encode_jpeg

    write_file(path, encode_jpeg(picture))


def _outlined(frame: NDArray[Any], truth: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    from sise_ort.drawing import as_rgb, outlined

    return as_rgb(frame) if truth is None else outlined(frame, truth)
