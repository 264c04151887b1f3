"""The inspection line: frames come in, decisions and explanations go out, and every part leaves a record."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import sise_ort
from sise_ort.errors import ClosedError, FrameError, ParameterError, SiseError, option
from sise_ort.line.counts import Counts, share_in_time
from sise_ort.line.deciding import Decider
from sise_ort.line.evidence import Entry, Evidence
from sise_ort.line.jobs import (
    BROKEN,
    DROPPED,
    FAILED,
    IN_TIME,
    LATE,
    REJECTED,
    Job,
    Result,
)
from sise_ort.line.keeping import Keeper
from sise_ort.line.queues import BoundedQueue
from sise_ort.line.recording import Recorder
from sise_ort.line.settings import LineSettings
from sise_ort.line.sinks import Delivery
from sise_ort.line.submitting import check_name, new_job
from sise_ort.runtime.explainer import Explainer

LOG = logging.getLogger("sise_ort.line")


class Line:
    """Classifies frames as they come, and explains those that are rejected, each within its deadline.

    Parameters
    ----------
    bundle : str, Path or Explainer
        The bundle's folder; or an open explainer, which several lines may share, and which stays open.
    evidence : str, Path, Evidence or None
        Where each part leaves its record: a folder, a database's URL, or an open `Evidence`, which stays open; None keeps
        nothing.
    name : str
        The line's name: records form one chain for each.
    explain : sequence of str, or None
        The classes that make a part a reject, and that are explained; None takes all classes.
    threshold : float
        The confidence from which on a class makes a part a reject.
    deadline : float or None
        Seconds from `submit` to the explanation of a reject.
    settings : LineSettings
    **loading
        Of `sise_ort.load`: provider, batch_size, threads, precision, trusted.

    Notes
    -----
    Three threads work on a line: one classifies, one explains, one writes. Passes of the network take turns, one batch at a
    time, so that classifying never waits for a whole explanation. `submit` copies the frame and queues it; it runs no
    network, and waits for nothing. Deadlines count on a clock that no change of the computer's time moves.
    """

    def __init__(
        self,
        bundle: str | Path | Explainer,
        evidence: str | Path | Evidence | None = None,
        *,
        name: str = "line",
        explain: Sequence[str] | None = None,
        threshold: float = 0.5,
        deadline: float | None = None,
        settings: LineSettings | None = None,
        **loading: Any,
    ) -> None:
        self.name, self.settings = name, settings or LineSettings()
        self._own = not isinstance(bundle, Explainer)
        self.explainer = bundle if isinstance(bundle, Explainer) else sise_ort.load(bundle, **loading)
        self._own_evidence = False
        try:
            check_name(name)
            self._decider = Decider(self.explainer, explain, threshold, deadline, self.settings)
            self.explainer.warm_up()
        except BaseException:
            if self._own:
                self.explainer.close()
            raise
        self.deadline = deadline
        self.evidence: Evidence | None = None
        self._counts, self._closed, self._ended = Counts(), False, False
        self._observers: list[Callable[[Result], None]] = []
        self._closing = threading.Lock()
        self._frames: BoundedQueue[Job] = BoundedQueue(self.settings.queue)
        self._rejects: BoundedQueue[Job] = BoundedQueue(
            self.settings.rejects, newest_first=self.settings.policy == "newest"
        )
        self._keeper: Keeper | None = None
        self._deliveries: list[Delivery] = []
        try:
            self._keep_in(evidence)
        except BaseException:
            self._close_own()
            raise
        self._threads = [
            threading.Thread(target=work, name=f"{name} {words}", daemon=True)
            for work, words in ((self._classify_all, "classifies"), (self._explain_all, "explains"))
        ]
        for thread in self._threads:
            thread.start()

    def _keep_in(self, evidence: str | Path | Evidence | None) -> None:
        """Open the store of evidence, and begin to tell the sinks."""
        if evidence is None:
            if self.settings.sinks or self.settings.spool is not None:
                raise ParameterError(
                    f"{option('sinks')} and {option('spool')} need {option('evidence')}: what is still to be told waits there"
                )
            return
        store = evidence if isinstance(evidence, Evidence) else Evidence(evidence)
        self.evidence, self._own_evidence = store, store is not evidence
        decider = self._decider
        told = {
            "threshold": decider.threshold,
            "deadline": self.deadline,
            "explain": [decider.labels[i] for i in decider.wanted],
        }
        recorder = Recorder(self.name, self.settings, self.explainer.model.record(), told)
        self._keeper = Keeper(store, recorder, self._counts, self._alarm, self.settings)
        self._deliveries = [Delivery(store.outbox, sink) for sink in self.settings.sinks]

    def _close_own(self) -> None:
        """Close what this line has opened itself."""
        if self.evidence is not None and self._own_evidence:
            self.evidence.close()
        if self._own:
            self.explainer.close()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Outside ----------------------------------------------------------------------------------------

    def submit(
        self,
        frame: Any,
        part_id: str,
        *,
        meta: Mapping[str, Any] | None = None,
        done: Callable[[Result], None] | None = None,
        key: str = "",
        name: str = "",
    ) -> Future[Result]:
        """Hand a frame over; nothing is waited for, and no network is run.

        Parameters
        ----------
        frame : path, bytes or array, [H, W, 3] or [H, W]
            The picture; what lies in memory is copied, so that the camera may write the next one over it.
        part_id : str
            The part's name, of 1 to 200 characters; no name of a file is made of it.
        meta : mapping, optional
            What else the record shall say: text, numbers, lists and mappings of them.
        done : callable, optional
            Called with the result by one of the line's threads; it should be quick.
        key : str
            Names this look at the part: a second record of the same key is not written. Without one, each look is a new one.
        name : str
            Where the frame comes from, for the record; a path names itself.

        Returns
        -------
        Future of Result
            Resolves when the part is decided and, for a reject, explained or given up; `Result.kept` when its record is safe.

        Raises
        ------
        ClosedError
            The line is closed.
        ParameterError
            The part has no usable name.
        """
        if self._closed:
            raise ClosedError(f"the line '{self.name}' is closed")
        job = new_job(frame, part_id, meta, done, key, name)
        self._counts.add("submitted")
        if self._frames.put(job) is not None:
            job.learn(
                reason="the line was closed"
                if self._closed
                else f"{self._frames.places} frames waited already, as many as the queue holds"
            )
            self._alarm("unclassified", f"part {part_id!r} was not classified: {job.result.reason}")
            self._finish(job)
        return job.future

    def wait_for_room(self, seconds: float | None = None) -> bool:
        """Wait until a frame would find a place, and its record, too; for sources that are in no hurry.

        Parameters
        ----------
        seconds : float or None
            How long at most.

        Returns
        -------
        bool
            Whether there is room.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        while self._keeper is not None and self._keeper.crowded:
            if self._closed or (ends is not None and time.monotonic() >= ends):
                return False
            time.sleep(0.02)
        return self._frames.wait_for_room(None if ends is None else max(0.0, ends - time.monotonic()))

    def head(self) -> Entry | None:
        """The newest link of the line's chain; None where there is none, or no evidence is kept."""
        return None if self.evidence is None else self.evidence.heads().get(self.name)

    def observe(self, observer: Callable[[Result], None]) -> None:
        """Have a function called with every result, by the line's threads; for metrics."""
        self._observers.append(observer)

    def status(self) -> dict[str, Any]:
        """What the line has done, and what waits.

        Returns
        -------
        dict
            The numbers of `Counts`; ``waiting_frames``, ``waiting_rejects`` and ``waiting_records``; the ``policy`` of a full
            queue of rejects; ``share_in_time``; ``spool`` (records that wait there); ``store`` (why records cannot be written,
            empty where they can); ``sinks`` (why each one is not reached, empty where it is).
        """
        counts = self._counts.snapshot()
        return {
            "line": self.name,
            **counts,
            "waiting_frames": len(self._frames),
            "waiting_rejects": len(self._rejects),
            "waiting_records": 0 if self._keeper is None else len(self._keeper),
            "policy": self.settings.policy,
            "share_in_time": share_in_time(counts),
            "spool": 0 if self._keeper is None else self._keeper.spooled,
            "sinks": {one.sink.name: one.failing for one in self._deliveries},
            "store": "" if self._keeper is None else self._keeper.failing,
        }

    def close(self) -> None:
        """Take nothing more, end what was begun, and write all records; a second call does nothing."""
        with self._closing:
            if self._ended:
                return
            self._ended = True
            self._finish_all()
            for delivery in self._deliveries:
                delivery.close(self.settings.close_seconds)
            self._close_own()

    def finish(self) -> None:
        """Take nothing more, end what was begun, and write all records; the store of evidence stays open."""
        with self._closing:
            self._finish_all()

    def _finish_all(self) -> None:
        self._closed = True
        self._frames.close()
        self._threads[0].join()
        self._rejects.close()
        self._threads[1].join()
        if self._keeper is not None:
            self._keeper.close()

    # The threads ------------------------------------------------------------------------------------

    def _classify_all(self) -> None:
        while (job := self._frames.get()) is not None:
            job.end_phase("wait")
            try:
                self._decider.classify(job)
            except Exception as error:  # noqa: BLE001 - one picture must not stop the line
                self._fail(job, error)
                continue
            job.end_phase("classify")
            if job.result.decision != REJECTED:
                self._finish(job)
            elif (refused := self._rejects.put(job)) is not None:
                self._without_place(refused)

    def _without_place(self, job: Job) -> None:
        """Apply the policy to a reject for which the queue has no room."""
        if self.settings.policy == "no-passes":
            self._explain(job, passes=False)
            return
        reason = (
            f"{self._rejects.places} rejects waited for explanations already; policy {self.settings.policy}"
        )
        job.learn(explained=DROPPED, reason=reason)
        self._alarm("dropped", f"part {job.result.part_id!r} has no map: {reason}")
        self._finish(job)

    def _explain_all(self) -> None:
        while (job := self._rejects.get()) is not None:
            job.end_phase("wait_explain")
            over = self.deadline is not None and time.perf_counter() - job.began >= self.deadline
            self._explain(job, passes=not over)

    def _explain(self, job: Job, *, passes: bool) -> None:
        try:
            found = self._decider.explain(job, passes=passes)
        except Exception as error:  # noqa: BLE001 - the decision stands; one map is missing
            reason = _words(error)
            job.learn(explained=BROKEN, reason=reason)
            self._alarm("failed", f"part {job.result.part_id!r} could not be explained: {reason}")
        else:
            job.end_phase("explain")
            late = self.deadline is not None and job.result.seconds["total"] > self.deadline
            scored = any(sum(one.mask_counts) and one.facts.get("scored", 1) for one in found)
            job.learn(
                explanations=found,
                verdicts=tuple(one.verdict for one in found if one.verdict is not None),
                explained=LATE if late else IN_TIME,
                without_passes=not passes or not scored,
            )
        self._finish(job)

    def _fail(self, job: Job, error: Exception) -> None:
        reason = _words(error)
        job.learn(decision=FAILED, reason=reason, unreadable=isinstance(error, FrameError))
        self._alarm("failed", f"part {job.result.part_id!r} could not be classified: {reason}")
        self._finish(job)

    def _finish(self, job: Job) -> None:
        """Tell everybody who waits for a part."""
        job.end_phase("end")
        job.asking = None
        if self._keeper is None:
            job.result.kept.set_result("")
        result = job.result
        self._counts.finished(result)
        if self._keeper is not None:
            self._keeper.put(job)
        job.future.set_result(result)
        for hear in (*self._observers, job.done):
            if hear is not None:
                try:
                    hear(result)
                except Exception:
                    LOG.exception("a callback of the line '%s' failed", self.name)

    def _alarm(self, kind: str, message: str) -> None:
        LOG.warning("%s", message)
        if self.settings.alarm is not None:
            try:
                self.settings.alarm(kind, message)
            except Exception:
                LOG.exception("the alarm of the line '%s' failed", self.name)


def _words(error: Exception) -> str:
    """An error as a record shows it."""
    return str(error) if isinstance(error, SiseError) else f"{type(error).__name__}: {error}"
