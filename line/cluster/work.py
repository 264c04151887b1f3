"""What a worker does: loads the bundle once, explains the pictures of a task, and writes their results."""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import sise_ort
from sise_ort.errors import FrameError, SiseError, first_line
from sise_ort.explanation import Explanation
from sise_ort.heatmap_files import heatmap_file
from sise_ort.line.cluster.places import is_url, read_bytes
from sise_ort.line.cluster.results import Results
from sise_ort.line.cluster.sources import Rows, contents
from sise_ort.line.cluster.workers import Workers
from sise_ort.outputs import to_json
from sise_ort.saving import files_of

READERS = 4
"""Pictures that are fetched from a store ahead of the one that is explained."""
ATTEMPTS = 3
"""How often a picture is fetched from a store before it counts as failed."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common.

    Attributes
    ----------
    bundle : str
        The bundle's folder, as each worker finds it.
    digest : str
        The bundle's own; a folder that holds another one is refused.
    out : str
        Where results go.
    token : str
        The run's; see `Results.begin`.
    workers : Workers
    threads : int or None
        As for `sise_ort.load`.
    target, method, asked
        As for `Explainer.explain_many`: target, method and all other keywords.
    formats : tuple of str
        Files beside the Parquet; none where it is empty.
    """

    bundle: str
    digest: str
    out: str
    token: str
    workers: Workers
    threads: int | None
    target: Any
    method: Any
    asked: Mapping[str, Any]
    formats: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """Pictures that one worker explains together.

    Attributes
    ----------
    name : str
        Made of the pictures' names.
    pictures : list of str
        Their names, which are their addresses where there are no rows.
    rows : Rows or None
        Where they stand in a Parquet file.
    wanted : list of int
        Which rows, from `rows.first` on.
    """

    name: str
    pictures: list[str]
    rows: Rows | None = None
    wanted: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What a task gave.

    Attributes
    ----------
    task : str
    explained, failed : int
        Pictures.
    seconds : float
    process : int
        Number of the worker's process.
    error : SiseError or None
        Why no picture of this run can be explained.
    """

    task: str
    explained: int = 0
    failed: int = 0
    seconds: float = 0.0
    process: int = 0
    error: SiseError | None = None


class Worker:
    """Explains tasks with a bundle that is loaded once.

    Parameters
    ----------
    job : Job
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._results = Results(job.out)
        self._error: SiseError | None = None
        given = job.workers
        try:
            self._explainer = sise_ort.load(
                job.bundle,
                given.provider,
                given.batch_size,
                job.threads,
                trusted=given.trusted,
                precision=given.precision,
            )
            if self._explainer.model.digest != job.digest:
                raise SiseError(f"the bundle '{job.bundle}' is another one where a worker reads it")
            if "deadline" in job.asked:
                self._explainer.warm_up()
        except SiseError as error:
            self._error = error

    def do(self, task: Task) -> Outcome:
        """Explain a task's pictures and write the results, unless they are there already."""
        began = time.perf_counter()
        if self._error is not None:
            return Outcome(task.name, error=self._error)
        if not self._results.is_current(self._job.token):
            return Outcome(task.name, error=SiseError(f"another run has taken the folder '{self._job.out}'"))
        found: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        try:
            for name, answer in self._answers(task):
                if isinstance(answer, Exception):
                    failed.append({"path": name, "error": str(answer)})
                else:
                    found += self._rows(name, answer)
            if not self._results.is_current(self._job.token):
                return Outcome(
                    task.name, error=SiseError(f"another run has taken the folder '{self._job.out}'")
                )
            self._results.write(task.name, found, failed)
        except SiseError as error:
            return Outcome(task.name, error=error)
        explained = len(task.pictures) - len(failed)
        return Outcome(task.name, explained, len(failed), time.perf_counter() - began, os.getpid())

    def _answers(self, task: Task) -> Iterator[tuple[str, list[Explanation] | Exception]]:
        """The pictures' names with their results, or with the error that kept them from being explained."""
        names: deque[str] = deque()
        lost: list[tuple[str, Exception]] = []

        def frames() -> Iterator[Any]:
            for name, frame in _frames(task):
                if isinstance(frame, Exception):
                    lost.append((name, frame))
                else:
                    names.append(name)
                    yield frame

        job = self._job
        for answer in self._explainer.explain_many(
            frames(), job.target, method=job.method, errors="return", **job.asked
        ):
            if isinstance(answer, Explanation):
                yield names.popleft(), [answer]
            else:
                yield names.popleft(), answer
        yield from lost

    def _rows(self, name: str, answers: Sequence[Explanation]) -> list[dict[str, Any]]:
        """The rows of a picture; one without a label where nothing was to be explained."""
        rows = []
        for number, answer in enumerate(answers):
            record = {**answer.record(), "source": name}
            files: list[str] = []
            if self._job.formats:
                stem = PurePosixPath(name).stem
                words = answer.name_with_method(f"{stem}-{answer.label}")
                made = files_of(answer, self._job.formats)
                files = self._results.write_files(
                    f"{name}\0{number}" if number else name, words, made, record
                )
            scores = record.pop("scores")
            rows.append(
                {
                    "path": name,
                    "number": number,
                    "target": answer.target,
                    "label": answer.label,
                    "confidence": answer.confidence,
                    "score": answer.score,
                    "scores": scores,
                    "map": heatmap_file(answer.heatmap, answer.placement),
                    "seconds": answer.timings["total"],
                    "files": files,
                    "record": to_json(record),
                }
            )
        return rows or [{"path": name}]


def _frames(task: Task) -> Iterator[tuple[str, Any]]:
    """The pictures of a task as `explain_many` takes them, by their names; an error in the place of what cannot be read."""
    if task.rows is not None:
        yield from zip(task.pictures, contents(task.rows, task.wanted), strict=True)
        return
    if not any(map(is_url, task.pictures)):
        yield from ((name, name) for name in task.pictures)
        return
    with ThreadPoolExecutor(READERS, "sise-ort reading") as threads:
        ahead: deque[tuple[str, Future[Any]]] = deque()
        for name in task.pictures:
            ahead.append((name, threads.submit(_fetched, name)))
            if len(ahead) > READERS:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()


def _fetched(address: str, wait: Callable[[float], None] = time.sleep) -> Any:
    """A picture's bytes, or its path on this machine; a FrameError where it cannot be had."""
    if not is_url(address):
        return address
    for attempt in range(ATTEMPTS):
        try:
            return read_bytes(address)
        except FileNotFoundError as error:
            return FrameError(f"'{address}' does not exist: {first_line(error)}")
        except Exception as error:  # noqa: BLE001 - each store has errors of its own
            if attempt == ATTEMPTS - 1:
                return FrameError(f"'{address}' cannot be read: {first_line(error)}")
            wait(2.0**attempt)
    raise AssertionError


def packed(thing: Any) -> bytes:
    """Pack a task, job or outcome for Ray, which then needs to know nothing of it."""
    return pickle.dumps(thing)


def unpacked(content: bytes) -> Any:
    """What `packed` was given."""
    return pickle.loads(content)
