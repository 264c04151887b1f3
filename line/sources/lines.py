"""Standard input with the path of one picture a line."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sise_ort.line.sources.files import Look, file_item
from sise_ort.line.sources.item import Item, Ledger

AHEAD = 100
"""Lines that are read before they are needed."""


class PathLines:
    """Pictures whose paths are read from a stream, one a line.

    Parameters
    ----------
    stream : text stream
        Such as ``sys.stdin``.
    """

    words, live = "standard input", False

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(AHEAD)

    def items(self, stop: threading.Event, ledger: Ledger) -> Iterator[Item]:
        """Yield pictures without a record, in the order of the lines; a path without a file fails as a part."""
        threading.Thread(target=self._read, name="standard input", daemon=True).start()
        while not stop.is_set():
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:
                return
            path = Path(line)
            item = file_item(path, line, Look.at(path.resolve()) or Look(0, 0), waits=False)
            if not ledger.known(item.key):
                yield item

    def settle(self, item: Item, outcome: str) -> None:
        """Do nothing: the records tell which are done."""

    def _read(self) -> None:
        for line in self._stream:
            if path := line.rstrip("\r\n"):
                self._lines.put(path.replace("\0", "�"))
        self._lines.put(None)
