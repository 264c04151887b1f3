"""The thread that writes what became of the parts into a store, and tries again where it takes nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sise_ort.errors import OutputError, ParameterError
from sise_ort.line.counts import Counts
from sise_ort.line.evidence.record import Part
from sise_ort.line.evidence.store import Evidence, File
from sise_ort.line.jobs import Job
from sise_ort.line.queues import BoundedQueue
from sise_ort.line.recording import Recorder
from sise_ort.line.settings import LineSettings
from sise_ort.line.spool import Spool

LOG = logging.getLogger("sise_ort.line")
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to write: the first pause, doubled up to the longest."""
SPOOLED = "spooled"
"""What `Result.kept` gives for a record that lies in the spool until the database is back."""


class Keeper:
    """Writes parts one after the other, in the order in which they were finished.

    Parameters
    ----------
    evidence : Evidence
        The store.
    recorder : Recorder
        Makes a part's record.
    counts : Counts
    alarm : callable
        Called with (kind, message).
    settings : LineSettings
        Names of the sinks, the spool, how many parts may wait, and for how long `close` does.

    Notes
    -----
    A part is acknowledged, by `Result.kept`, when its record is written and not before. While the store takes nothing, the
    line goes on: records go to the spool where there is one, and else wait in memory, up to `LineSettings.unkept`.
    """

    def __init__(
        self,
        evidence: Evidence,
        recorder: Recorder,
        counts: Counts,
        alarm: Callable[[str, str], None],
        settings: LineSettings,
    ) -> None:
        self._evidence, self._recorder, self._counts, self._alarm = evidence, recorder, counts, alarm
        self._close_seconds = settings.close_seconds
        self._sinks = [sink.name for sink in settings.sinks]
        self._spool = None if settings.spool is None else Spool(settings.spool)
        self._queue: BoundedQueue[Job] = BoundedQueue(settings.unkept)
        self._given_up = threading.Event()
        self._failing, self._pause, self._again = "", FIRST_PAUSE, 0.0
        self._thread = threading.Thread(target=self._work, name="line keeper", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def spooled(self) -> int:
        """Records that lie in the spool."""
        return 0 if self._spool is None else len(self._spool)

    @property
    def failing(self) -> str:
        """Why the last attempt to write failed; empty where it did not."""
        return self._failing

    @property
    def crowded(self) -> bool:
        """Whether half of the places are taken: who can wait with further parts should."""
        return 2 * len(self._queue) > self._queue.places

    def put(self, job: Job) -> None:
        """Hand a finished part over, without waiting."""
        if self._queue.put(job) is not None:
            self._refuse(
                job, f"{self._queue.places} parts wait to be written ({self._failing or 'too many'})"
            )

    def close(self) -> None:
        """End after what waits is written, or after `close_seconds` of a store that takes nothing."""
        self._queue.close()
        ends = time.monotonic() + self._close_seconds
        while self._thread.is_alive():
            self._thread.join(0.1)
            if not self._failing:
                ends = time.monotonic() + self._close_seconds
            elif time.monotonic() > ends:
                self._given_up.set()

    def _work(self) -> None:
        while not self._queue.ended:
            self._empty_spool()
            job = self._queue.get(LONGEST_PAUSE if self.spooled else None)
            if job is None:
                continue
            try:
                part, files = self._recorder.record(job)
            except Exception as error:  # noqa: BLE001 - the parts behind it must be written
                self._refuse(job, f"its record cannot be made: {type(error).__name__}: {error}")
            else:
                self._keep(job, part, files)
        self._again = 0.0
        self._empty_spool()

    def _empty_spool(self) -> None:
        """Bring spooled records into the store while it takes them."""
        while self._spool and time.monotonic() >= self._again:
            try:
                if not self._add(*self._spool.first()):
                    return
            except (OutputError, ParameterError) as error:
                self._alarm("unkept", f"{error}; it stays there, ending in .damaged")
                self._spool.drop(unreadable=True)
            else:
                self._spool.drop()

    def _keep(self, job: Job, part: Part, files: list[File]) -> None:
        while True:
            behind = self.spooled > 0  # a chain's records stay in the order of the parts
            link = ""
            try:
                if not behind and time.monotonic() >= self._again:
                    link = self._add(part, files)
                if not link and self._spool is not None and self._spooled(part, files):
                    link = SPOOLED
            except ParameterError as error:
                self._refuse(job, str(error))
                return
            if link:
                self._counts.add("spooled" if link == SPOOLED else "kept")
                job.result.kept.set_result(link)
                return
            if self._given_up.wait(max(0.01, self._again - time.monotonic())):
                self._refuse(job, self._failing)
                return
            self._empty_spool()

    def _add(self, part: Part, files: list[File]) -> str:
        """Write a record; its link, or "" where the store takes nothing."""
        try:
            link = self._evidence.add(part, files, self._sinks).link
        except ParameterError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store or a disk says, the part is not lost
            if not self._failing:
                LOG.error("a record cannot be written, which is tried again: %s", error)
            self._failing = str(error) or type(error).__name__
            self._again = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return ""
        if self._failing:
            LOG.warning("records are written again")
        self._failing, self._pause = "", FIRST_PAUSE
        return link

    def _spooled(self, part: Part, files: list[File]) -> bool:
        assert self._spool is not None
        try:
            self._spool.put(part, files)
        except OutputError as error:
            self._failing = str(error)
            return False
        return True

    def _refuse(self, job: Job, why: str) -> None:
        message = f"part {job.result.part_id!r} is not recorded: {why}"
        self._counts.add("unkept")
        job.result.kept.set_exception(OutputError(message))
        self._alarm("unkept", message)
