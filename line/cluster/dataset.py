"""Explains a whole data set, by workers that Ray keeps running."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sise_ort.bundle import bundle_digest
from sise_ort.bundle.reading import read_manifest
from sise_ort.errors import ParameterError, SiseError, first_line
from sise_ort.levels import check_levels
from sise_ort.line.cluster.results import Results, task_name
from sise_ort.line.cluster.sources import Rows, Run, listed
from sise_ort.line.cluster.starting import connected, ray_module
from sise_ort.line.cluster.work import Job, Outcome, Task, Worker, packed, unpacked
from sise_ort.line.cluster.workers import Workers
from sise_ort.runtime.methods.method import Method
from sise_ort.runtime.methods.registry import DEFAULT, method_of
from sise_ort.saving import check_formats

MOST_PICTURES = 64
"""Pictures of a task where nothing else is said."""
TASKS_EACH = 8
"""Tasks that each worker gets at least, as far as there are pictures, so that all end at about the same time."""
MOST_BLOCKS = 4096
"""Blocks that Ray's head keeps account of; each has one or several tasks."""
GPU = ("cuda", "tensorrt", "openvino:GPU")


@dataclass(frozen=True)
class Summary:
    """What explaining a data set gave.

    Attributes
    ----------
    out : str
        Where the results are.
    pictures : int
        Pictures of the data set.
    before : int
        Those that had results already.
    explained, failed : int
        Pictures of this run.
    seconds : float
        Time of the whole run.
    """

    out: str
    pictures: int
    before: int
    explained: int
    failed: int
    seconds: float


def explain_dataset(
    bundle: str | Path,
    pictures: Any,
    out: str | Path,
    target: Any = None,
    *,
    method: str | Method = DEFAULT,
    formats: Sequence[str] = (),
    workers: Workers | None = None,
    progress: Callable[[int, int], None] | None = None,
    **asked: Any,
) -> Summary:
    """Explain many pictures by several processes, on this machine or on a cluster of Ray; see `sise_ort.explain_dataset`."""
    began = time.perf_counter()
    ray_module()
    workers = workers or Workers()
    if not isinstance(workers, Workers):
        raise ParameterError(f"workers is a {type(workers).__name__}; it must be a sise_ort.Workers")
    formats = check_formats(formats) if formats else ()
    check_levels(asked.get("levels"))
    parameters = {name: value for name, value in asked.items() if name not in ("levels", "color")}
    chosen = method_of(method, parameters)
    digest = bundle_digest(read_manifest(bundle))
    runs = listed(pictures, without=str(out))
    total = sum(len(run.names) for run in runs)
    results = Results(str(out) if "://" in str(out) else str(Path(out).absolute()))
    token = results.begin(plan_of(digest, target, chosen, asked, workers, formats))
    done = results.done()
    left = [name for run in runs for name in run.names if name not in done]
    before = total - len(left)
    explained = failed = 0
    if progress is not None:
        progress(before, total)
    if left:
        with connected(workers) as ray:
            crew = _crew(ray, workers, len(left))
            job = Job(
                str(Path(bundle).absolute()), digest, results.place.address, token, workers, crew.threads,
                target, method, asked, formats,
            )  # fmt: skip
            for outcome in _outcomes(ray, job, crew, list(tasks_of(runs, done, crew.pictures))):
                if outcome.error is not None:
                    raise outcome.error
                explained, failed = explained + outcome.explained, failed + outcome.failed
                if progress is not None:
                    progress(before + explained + failed, total)
    return Summary(results.place.address, total, before, explained, failed, time.perf_counter() - began)


def plan_of(
    digest: str,
    target: Any,
    method: Method,
    asked: Mapping[str, Any],
    workers: Workers,
    formats: Sequence[str],
) -> dict[str, Any]:
    """What results depend on, as plain values: a run goes on only in a folder of the same."""
    return {
        "bundle_sha256": digest,
        "target": described(target),
        "method": method.name,
        "parameters": {name: str(value) for name, value in method.parameters.items()},
        "levels": described(asked.get("levels")),
        "color": described(asked.get("color", "rgb")),
        "precision": workers.precision,
        "formats": list(formats),
    }


def tasks_of(runs: Sequence[Run], done: set[str], most: int) -> Iterator[Task]:
    """Divide the pictures that are not done into tasks of at most `most` pictures."""
    for run in runs:
        left = [i for i, name in enumerate(run.names) if name not in done]
        for start in range(0, len(left), most):
            part = left[start : start + most]
            names = [run.names[i] for i in part]
            if run.rows is None:
                yield Task(task_name(names), names)
            else:
                rows = Rows(run.rows.file, run.rows.group, run.rows.first + part[0], run.rows.column)
                yield Task(task_name(names), names, rows, [i - part[0] for i in part])


def described(thing: Any) -> Any:
    """What a target or another setting is, as plain values: equal for equal settings, also in another process."""
    import numpy as np

    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, np.ndarray):
        return hashlib.sha256(repr((thing.dtype.str, thing.shape)).encode() + thing.tobytes()).hexdigest()
    if isinstance(thing, (list, tuple)):
        return [described(one) for one in thing]
    if isinstance(thing, bytes):
        return hashlib.sha256(thing).hexdigest()
    fields = getattr(thing, "__dataclass_fields__", None)
    if fields is not None:
        return {type(thing).__name__: {name: described(getattr(thing, name)) for name in fields}}
    return str(thing)


# Ray ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crew:
    """The workers as a cluster can have them.

    Attributes
    ----------
    count : int
    cores : int
        Of each worker.
    gpus : float
        Of each worker.
    threads : int or None
        As for `sise_ort.load`.
    pictures : int
        Pictures of a task.
    """

    count: int
    cores: int
    gpus: float
    threads: int | None
    pictures: int


def _crew(ray: Any, workers: Workers, pictures: int) -> Crew:
    everything = ray.cluster_resources()
    return crew_of(
        workers,
        pictures,
        cores=int(everything.get("CPU", 1)),
        gpus=float(everything.get("GPU", 0)),
        largest=int(max((n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"]), default=1)),
    )


def crew_of(workers: Workers, pictures: int, *, cores: int, gpus: float, largest: int) -> Crew:
    """Find how many workers there are, and what each of them gets.

    Parameters
    ----------
    workers : Workers
        What is wished.
    pictures : int
        Pictures to explain.
    cores, gpus : number
        What the cluster has.
    largest : int
        Cores of its largest machine.

    Raises
    ------
    ParameterError
        The cluster has no room for them.
    """
    each = workers.gpus
    if each is None:
        each = 1.0 if workers.provider in GPU or (workers.provider == "auto" and gpus) else 0.0
    own = workers.cores
    if own is None:
        own = (
            min(4, max(largest, 1))
            if workers.count is None
            else min(4, max(cores // workers.count, 1), max(largest, 1))
        )
    room = cores // own if not each else min(cores // own, int(gpus / each))
    if own > largest or room < (workers.count or 1):
        wish = f"{workers.count or 1} workers with {own} cores" + (f" and {each:g} GPUs" if each else "")
        raise ParameterError(f"there is no room for {wish} each: Ray has {cores} cores and {gpus:g} GPUs")
    count = min(workers.count or room, pictures)
    most = workers.pictures or max(1, min(MOST_PICTURES, pictures // (count * TASKS_EACH)))
    return Crew(count, own, each, None if each else own, most)


def _outcomes(ray: Any, job: Job, crew: Crew, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Yield the tasks' outcomes as they come."""
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.ERROR)
    data = ray.data.from_items(
        [{"task": packed(task)} for task in tasks], override_num_blocks=min(len(tasks), MOST_BLOCKS)
    )
    data = data.map_batches(
        Actor,
        fn_constructor_args=(packed(job),),
        batch_size=1,
        compute=ActorPoolStrategy(size=crew.count),
        num_cpus=crew.cores,
        num_gpus=crew.gpus,
    )
    try:
        for row in data.iter_rows():
            yield unpacked(row["outcome"])
    except ray.exceptions.RayError as error:
        raise SiseError(f"Ray gave up ({first_line(error)}): start again, what is done is kept") from error


class Actor:
    """A worker as Ray Data keeps it: each call is a task's bytes, each answer an outcome's.

    Parameters
    ----------
    job : bytes
        A `Job`.
    """

    def __init__(self, job: bytes) -> None:
        self._worker = Worker(unpacked(job))

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task in batch["task"]:
            yield {"outcome": [packed(self._worker.do(unpacked(task)))]}
