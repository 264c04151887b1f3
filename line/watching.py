"""Feeds a line from a source until it is stopped, and settles each frame when its record is safe."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sise_ort.line.evidence import Evidence
from sise_ort.line.evidence.finding import Filter, find
from sise_ort.line.jobs import FAILED, Result
from sise_ort.line.line import Line
from sise_ort.line.sources import Item, Source
from sise_ort.line.sources.item import BAD, DONE, UNREADABLE, outcome_of

LOG = logging.getLogger("sise_ort.line")
AT_ONCE = 8
"""Frames of a source that can wait which are on their way at once, where nothing has to be ready in time."""
DAY = 86_400.0


class Records:
    """What a line has recorded already; see `sise_ort.line.sources.Ledger`.

    Parameters
    ----------
    evidence : Evidence
        Where.
    line : str
        Name of the line.
    """

    def __init__(self, evidence: Evidence, line: str) -> None:
        self._evidence, self._line = evidence, line

    def known(self, key: str) -> bool:
        """Whether there is a record of this key."""
        return self._evidence.known(self._line, key)

    def outcome(self, key: str) -> str:
        """What became of the picture of this key; "done" where its record was pruned."""
        for kept in find(self._evidence, Filter(line=self._line, key=key)):
            picture = kept.part.picture
            if kept.part.decision == FAILED:
                return BAD if picture is not None and picture.size[0] else UNREADABLE
        return DONE


class Watch:
    """Takes frames from a source and hands them to a line.

    Parameters
    ----------
    line : Line
        A line that keeps evidence.
    source : Source
        Where frames come from.
    said : callable, optional
        Called with a dict about each part whose record is safe: `Result.row` and ``record``, the digest of its link.

    Notes
    -----
    Frames of a camera go to the line as they come. Of files, as many are on their way as make sense: one after the other
    where a deadline would be over before a reject's turn, so that no picture loses its map because many lay there.
    """

    def __init__(
        self, line: Line, source: Source, said: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        assert line.evidence is not None
        self._line, self._source, self._said = line, source, said
        self._records = Records(line.evidence, line.name)
        self._change = threading.Condition()
        self._under_way = 0
        self._settled: int = 0
        self._head_told = time.monotonic()

    @property
    def settled(self) -> int:
        """Parts whose records are safe."""
        return self._settled

    def run(self, stop: threading.Event) -> None:
        """Hand frames over until the source has ended or `stop` is set; what was begun is the line's to finish.

        Parameters
        ----------
        stop : Event
        """
        for item in self._source.items(stop, self._records):
            if not self._source.live and not self._wait(item, stop):
                return
            with self._change:
                self._under_way += 1
            self._line.submit(
                item.frame,
                item.part_id,
                meta=item.meta,
                key=item.key,
                name=item.name,
                done=functools.partial(self._finished, item),
            )
            self._tell_head()

    def _wait(self, item: Item, stop: threading.Event) -> bool:
        """Wait until it is a frame's turn; False where the line is stopped first."""
        most = self._line.settings.queue
        if self._line.deadline is None:
            most = min(AT_ONCE, most, self._line.settings.rejects)
        elif item.waits:
            most = 1
        while not stop.is_set():
            with self._change:
                if self._under_way >= most:
                    self._change.wait(0.1)
                    continue
            if self._line.wait_for_room(0.1):
                return True
        return False

    def _finished(self, item: Item, result: Result) -> None:
        with self._change:
            self._under_way -= 1
            self._change.notify_all()
        result.kept.add_done_callback(lambda kept: self._kept(item, result, kept))

    def _kept(self, item: Item, result: Result, kept: Future[str]) -> None:
        if kept.exception() is not None:
            return  # the line has raised the alarm; a file stays where it is
        try:
            self._source.settle(item, outcome_of(result))
            if self._said is not None:
                self._said({**result.row(), "record": kept.result(), "source": item.name})
        except Exception:
            LOG.exception("the end of part %r could not be told", result.part_id)
        self._settled += 1

    def _tell_head(self) -> None:
        """Once a day, write the chain's head into the log, and send it to the sinks: a copy that is kept elsewhere."""
        if time.monotonic() - self._head_told >= DAY:
            self._head_told = time.monotonic()
            tell_head(self._line)


def tell_head(line: Line) -> None:
    """Write the head of a line's chain into the log, and send it to the line's sinks.

    Parameters
    ----------
    line : Line
    """
    if line.evidence is None:
        return
    try:
        heads = line.evidence.send_heads(sink.name for sink in line.settings.sinks)
    except Exception as error:  # noqa: BLE001 - the database is away: tomorrow there is another head
        LOG.error("the chain's head cannot be sent: %s", error)
        return
    if (head := heads.get(line.name)) is not None:
        LOG.warning("the chain of line '%s' has %d links; its head is %s", line.name, head.number, head.link)
