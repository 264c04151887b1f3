"""Samples evaluated by several processes; one that dies costs the sample that it was working on, no other."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from sise_ort.errors import SiseError, option
from sise_ort.runtime.evaluation.plan import Plan
from sise_ort.runtime.evaluation.work import Outcome, Task, work
from sise_ort.runtime.explainer import Explainer

DEATHS = 3
"""Deaths of processes per worker in a row, without any outcome, after which the evaluation stops."""


def outcomes(
    explainer: Explainer, plan: Plan, tasks: Sequence[Task], workers: int, conditions: str
) -> Iterator[Outcome]:
    """Yield the tasks' outcomes as they come.

    Parameters
    ----------
    explainer : Explainer
        The bundle; further processes open it again, and refuse one that was replaced meanwhile.
    plan : Plan
        What to do.
    tasks : sequence of Task
        Samples.
    workers : int
        Processes; 1 works in this one.
    conditions : str
        What the seconds depend on, for the rows.

    Yields
    ------
    Outcome
        One per task, in any order.

    Raises
    ------
    SiseError
        Workers cannot open the bundle, or die one after the other.
    """
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield work(explainer, plan, task, conditions)
        return
    crew = _Crew((explainer, plan, conditions))
    try:
        yield from crew.outcomes(tasks, workers)
    finally:
        crew.stop()


class _Crew:
    """Processes that each have one sample at a time."""

    def __init__(self, arguments: tuple[Explainer, Plan, str]) -> None:
        self._arguments = pickle.dumps(arguments)
        self._context = get_context("spawn")
        self._busy: dict[Connection, tuple[Any, Task]] = {}
        self._idle: list[tuple[Connection, Any]] = []
        self._dead = 0

    def outcomes(self, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
        left = deque(tasks)
        while left or self._busy:
            while left and len(self._busy) < workers:
                self._give(left.popleft())
            for connection in wait(list(self._busy)):
                assert isinstance(connection, Connection)
                process, task = self._busy.pop(connection)
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    yield self._lost(connection, process, task, workers)
                    continue
                if isinstance(answer, SiseError):
                    raise answer
                self._dead = 0
                self._idle.append((connection, process))
                yield answer

    def stop(self) -> None:
        """End all processes, those at work as well."""
        processes = [(c, p) for c, (p, _) in self._busy.items()] + self._idle
        for _, process in processes:
            process.kill()
        for connection, process in processes:
            process.join()
            connection.close()
        self._busy, self._idle = {}, []

    def _give(self, task: Task) -> None:
        """Hand a task to an idle process, or to a new one."""
        connection, process = self._idle.pop() if self._idle else self._start()
        self._busy[connection] = (process, task)
        with suppress(OSError):  # it died meanwhile: waiting for it will tell
            connection.send(task)

    def _start(self) -> tuple[Connection, Any]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, os.getpid(), self._arguments), daemon=True
        )
        process.start()
        theirs.close()  # so that the process's death closes the pipe
        return ours, process

    def _lost(self, connection: Connection, process: Any, task: Task, workers: int) -> Outcome:
        """The outcome of a task whose process died."""
        process.join()
        connection.close()
        self._dead += 1
        end = process.exitcode or 0
        words = f"was killed by {signal.Signals(-end).name}" if end < 0 else f"ended with exit code {end}"
        if self._dead > DEATHS * workers:
            raise SiseError(
                f"the worker processes die one after the other (the last one {words}), perhaps for lack of memory: "
                f"start again with fewer {option('workers')}; what was found before is kept"
            )
        outcome = Outcome(task.sample.name)
        outcome.report(
            f"the process that evaluated it {words}, perhaps for lack of memory; start again to retry"
        )
        return outcome


def _serve(connection: Connection, parent: int, arguments: bytes) -> None:
    """In a worker: answer tasks until the parent ends, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has ended
        try:
            explainer, plan, conditions = pickle.loads(arguments)  # opens the bundle
        except SiseError as error:
            connection.send(error)
            return
        while True:
            task = connection.recv()
            try:
                answer: Outcome | SiseError = work(explainer, plan, task, conditions)
            except SiseError as error:
                answer = error
            connection.send(answer)
