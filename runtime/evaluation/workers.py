"""Samples evaluated by several processes; one that dies costs the sample that it was working on, no other."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from sise_ort.errors import SiseError, first_line, option
from sise_ort.runtime.evaluation.plan import Plan
from sise_ort.runtime.evaluation.work import Outcome, Task, work
from sise_ort.runtime.explainer import Explainer

DEATHS = 3
"""Deaths of processes per worker in a row, without any outcome, after which the evaluation stops."""


def outcomes(
    explainer: Explainer, plan: Plan, tasks: Sequence[Task], workers: int, conditions: str
) -> Generator[Outcome, None, None]:
    """Yield the tasks' outcomes as they come; closing the generator ends its processes.

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
        Workers cannot be started or cannot open the bundle, or die one after the other.
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
    """Processes that each have one sample at a time.

    Notes
    -----
    Python raises KeyboardInterrupt in the main thread only. Another one starts the processes, so that none is started half
    and none is forgotten. It runs before the first process is asked for: a pool whose thread was interrupted as it started
    does not know the thread, and would not wait for it at the end.
    """

    def __init__(self, arguments: tuple[Explainer, Plan, str]) -> None:
        self._arguments = pickle.dumps(arguments)
        self._context = get_context("spawn")
        self._busy: dict[Connection, tuple[Any, Task]] = {}
        self._idle: list[tuple[Connection, Any]] = []
        self._starter = ThreadPoolExecutor(1, "sise-ort workers")
        self._started: dict[Connection, Any] = {}
        self._dead = 0
        try:
            self._starter.submit(bool).result()
        except RuntimeError as error:
            raise _not_started(error) from error
        except BaseException:
            self._starter.shutdown(wait=False)
            raise

    def outcomes(self, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
        left = deque(tasks)
        while left or self._busy:
            while left and len(self._busy) < workers:
                try:
                    self._give(left[0])
                except (OSError, RuntimeError) as error:
                    if not self._busy:
                        raise _not_started(error) from error
                    workers = len(self._busy)  # as many as the machine takes
                    break
                left.popleft()
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
        self._starter.shutdown()  # after a start in progress
        for process in self._started.values():
            process.kill()
        for connection, process in self._started.items():
            process.join()
            connection.close()
        self._busy, self._idle, self._started = {}, [], {}

    def _give(self, task: Task) -> None:
        """Hand a task to an idle process, or to a new one."""
        connection, process = self._idle.pop() if self._idle else self._starter.submit(self._start).result()
        self._busy[connection] = (process, task)
        with suppress(OSError):  # it died meanwhile: waiting for it will tell
            connection.send(task)

    def _start(self) -> tuple[Connection, Any]:
        """Start a process that Ctrl-C does not reach from its first moment on; for the starting thread."""
        if hasattr(signal, "pthread_sigmask"):
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()  # it unblocks what is blocked where it starts its own process
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread; processes inherit it
        ours, theirs = self._context.Pipe()
        try:
            process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # so that the process's death closes the pipe
        self._started[ours] = process
        with suppress(OSError):
            ours.send_bytes(self._arguments)
        return ours, process

    def _lost(self, connection: Connection, process: Any, task: Task, workers: int) -> Outcome:
        """The outcome of a task whose process died."""
        process.join()
        del self._started[connection]
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


def _not_started(error: Exception) -> SiseError:
    words = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
    return SiseError(
        f"no worker process can be started ({words}): end other programs, or start again with {option('workers', 1)}; what "
        "was found before is kept"
    )


def _serve(connection: Connection) -> None:
    """In a worker: answer tasks until the parent ends, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has ended
        try:
            explainer, plan, conditions = pickle.loads(connection.recv_bytes())  # opens the bundle
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
