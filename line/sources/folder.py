"""A hot folder: every picture that is put there is looked at once, as soon as its file is complete."""

from __future__ import annotations

import fnmatch
import itertools
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from sise_ort.errors import OutputError, ParameterError, option
from sise_ort.line.sources.files import Look, file_item
from sise_ort.line.sources.item import BAD, DONE, UNREADABLE, Item, Ledger, readable

LOG = logging.getLogger("sise_ort.line")
PICTURES = ("*.png", "*.jpg", "*.jpeg", "*.bmp", "*.tif", "*.tiff", "*.webp")
"""Names of files that are pictures; capitals do not matter."""
RESCAN = 10.0
"""Seconds between two looks at the whole folder, for what the system has not told: some network file systems tell nothing."""
TURN = 0.05
"""Seconds between two looks at files that may become complete."""


class HotFolder:
    """Pictures of a folder and those below it.

    Parameters
    ----------
    folder : Path
        The folder.
    patterns : sequence of str
        Names of files that are pictures.
    settle : float
        Seconds for which a file must not change until it counts as complete, where nobody has said so: a program that closes
        the file, or renames it from another name in the folder, says so at once.
    move : bool
        Move pictures whose records are safe into the folders ``done``, ``failed`` and ``quarantined``; else they stay, and
        the records tell which are done.
    into : Path or None
        Where those three folders are; None takes the folder itself.
    exclude : sequence of Path
        Folders that are not looked into.
    once : bool
        End when all pictures that were there are done.

    Notes
    -----
    A picture is known by its path below the folder, its size and the time of its last change. Links and hidden files are left
    alone.
    """

    live = False

    def __init__(
        self,
        folder: Path,
        *,
        patterns: Sequence[str] = PICTURES,
        settle: float = 1.0,
        move: bool = False,
        into: Path | None = None,
        exclude: Sequence[Path] = (),
        once: bool = False,
    ) -> None:
        self.folder, self.words = folder.absolute(), f"the folder '{folder}'"
        self._patterns = [one.lower() for one in patterns]
        self._settle, self._move, self._once = settle, move, once
        self._into = (into or folder).absolute()
        self._exclude = {path.absolute() for path in exclude}
        if move:
            self._exclude |= {self._into / name for name in (DONE, BAD, UNREADABLE)}
        self._told: queue.SimpleQueue[tuple[Path, bool]] = queue.SimpleQueue()
        self._growing: dict[Path, tuple[Look, float]] = {}
        self._begun: dict[Path, Look] = {}
        self._lock = threading.Lock()
        if not self.folder.is_dir():
            raise ParameterError(f"the folder to watch, '{folder}', is missing")
        if move and not os.access(self.folder, os.W_OK):
            raise OutputError(
                f"pictures cannot be moved out of '{folder}': it is read-only; {option('after', 'keep')} leaves them"
            )

    def items(self, stop: threading.Event, ledger: Ledger) -> Iterator[Item]:
        """Yield pictures without a record, the oldest first; see `Source`."""
        observer = Observer()
        observer.schedule(_Teller(self._told), str(self.folder), recursive=True)
        observer.start()
        try:
            backlog, scanned, again = set(self._scan()), True, time.monotonic() + RESCAN
            while not stop.is_set():
                for path, look in self._complete():
                    if stop.is_set():
                        return
                    waits = path in backlog
                    backlog.discard(path)
                    item = file_item(path, str(path.relative_to(self.folder)), look, waits=waits)
                    if not ledger.known(item.key):
                        yield item
                    elif self._move:  # a process ended between the record and the move
                        self.settle(item, ledger.outcome(item.key))
                if self._once and scanned and not self._growing and self._told.empty():
                    return
                if time.monotonic() >= again:
                    self._scan()
                    again = time.monotonic() + RESCAN
        finally:
            observer.stop()
            observer.join()

    def settle(self, item: Item, outcome: str) -> None:
        """Move a picture whose record is safe, where that is wished; one that has changed meanwhile stays, as a new one."""
        path = Path(item.frame)
        look, name = Look.at(path), path.relative_to(self.folder)
        if not self._move or look is None or look.key(readable(name)) != item.key:
            return
        target = self._into / outcome / name
        try:
            _move(path, target)
        except OSError as error:
            LOG.error("'%s' cannot be moved to '%s': %s", path, target, error.strerror)

    def _scan(self) -> list[Path]:
        """Note all pictures that are there, the oldest first, and forget those that are gone."""
        found: list[tuple[int, Path, Look]] = []
        for parent, folders, names in os.walk(self.folder):
            here = Path(parent)
            folders[:] = [f for f in folders if not f.startswith(".") and here / f not in self._exclude]
            for path in map(here.joinpath, names):
                if self._is_picture(path) and (look := Look.at(path)) is not None:
                    found.append((look.changed, path, look))
        there = {path for _, path, _ in found}
        with self._lock:
            self._begun = {path: look for path, look in self._begun.items() if path in there}
        found.sort()
        for _, path, look in found:
            self._note(path, look)
        return [path for _, path, _ in found]

    def _note(self, path: Path, look: Look) -> None:
        if self._begun.get(path) != look:
            before = self._growing.get(path)
            if before is None or before[0] != look:
                self._growing[path] = (look, time.monotonic())

    def _complete(self) -> Iterator[tuple[Path, Look]]:
        """Files that are complete by now; waits a moment where nothing is told."""
        try:
            path, closed = self._told.get(timeout=TURN)
            while True:
                look = Look.at(path) if self._is_picture(path) and not self._inside(path) else None
                if look is None:
                    self._growing.pop(path, None)
                else:
                    self._note(path, look)
                    if closed and path in self._growing and look.size:
                        yield self._begin(path)
                path, closed = self._told.get_nowait()
        except queue.Empty:
            pass
        now = time.monotonic()
        for path in [p for p, (_, since) in self._growing.items() if now - since >= self._settle]:
            look = Look.at(path)
            if look is None:
                del self._growing[path]
            elif look != self._growing[path][0]:
                self._growing[path] = (look, now)
            else:
                yield self._begin(path)

    def _begin(self, path: Path) -> tuple[Path, Look]:
        look, _ = self._growing.pop(path)
        with self._lock:
            self._begun[path] = look
        return path, look

    def _is_picture(self, path: Path) -> bool:
        name = path.name.lower()
        return not name.startswith(".") and any(fnmatch.fnmatchcase(name, one) for one in self._patterns)

    def _inside(self, path: Path) -> bool:
        """Whether a file lies in a folder that is not looked into."""
        between = path.relative_to(self.folder).parts[:-1]
        return any(part.startswith(".") for part in between) or not self._exclude.isdisjoint(path.parents)


class _Teller(FileSystemEventHandler):
    """Puts what the system tells into a queue: which file, and whether it is complete."""

    def __init__(self, told: queue.SimpleQueue[tuple[Path, bool]]) -> None:
        self._told = told

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory:
            return
        if event.event_type == "moved":
            source = (
                event.src_path
            )  # empty where it comes from outside, and may be a file that is still written
            self._told.put((_path(event.dest_path), bool(source)))
        elif event.event_type in ("created", "modified", "closed"):
            self._told.put((_path(event.src_path), event.event_type == "closed"))


def _path(name: Any) -> Path:
    return Path(os.fsdecode(name)).absolute()


def _move(path: Path, target: Path) -> None:
    """Move a file to a name that is free, whoever else takes names there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        free = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            _link(path, free)
        except FileExistsError:
            if not (
                free.exists() and path.samefile(free)
            ):  # else a process ended between the two steps of a move
                continue
        path.unlink()
        return


def _link(path: Path, free: Path) -> None:
    """Give a file a second name, or on another file system a copy; FileExistsError where the name is taken."""
    try:
        os.link(path, free)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        if os.path.lexists(free):
            raise FileExistsError(free) from None
        part = free.with_name(f".{free.name}.part")
        shutil.copy2(path, part)
        part.replace(free)
