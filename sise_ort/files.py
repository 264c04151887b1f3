"""Files that sise-ort writes: safe names, and contents that are there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from sise_ort.errors import OutputError, SiseError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks of this kind
    fcntl = None  # type: ignore[assignment]

LONGEST_NAME = 255
"""Bytes that a file name may have on all common file systems."""
ROOM_FOR_ENDING = 24
"""Bytes of `LONGEST_NAME` that `file_name` leaves for a number and an ending such as ``-12.json``."""
LEFTOVER = re.compile(r"\.sise-ort-[0-9a-f]{16}\.part")
"""Names of files in the making; one that no process holds was left by a run that was killed."""
RESERVED = frozenset("con prn aux nul".split()) | {f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10)}
"""File names, without endings, that Windows takes for devices."""


def file_name(words: str) -> str:
    """Turn words into a safe file name without an ending: letters, digits, dots, dashes and underscores.

    Parameters
    ----------
    words : str
        Anything: a picture's name, a label, a path. Signs become dashes, so different words may give one name.

    Returns
    -------
    str
        A name in Unicode's normal form C of at most 231 bytes in UTF-8, never empty and never ``..``. From longer
        names the middle is cut out and a hash of the whole is put there, so that they stay distinct.
    """
    plain = unicodedata.normalize("NFC", words)
    kept = "".join(c if c in "_.-" or unicodedata.category(c)[0] in "LMN" else "-" for c in plain)
    name = re.sub(r"-{2,}", "-", kept).strip("-.") or "frame"
    if name.split(".")[0].lower() in RESERVED:
        name = f"_{name}"
    room = LONGEST_NAME - ROOM_FOR_ENDING
    data = name.encode()
    if len(data) <= room:
        return name
    middle = f"-{hashlib.sha256(data).hexdigest()[:12]}-"
    front, back = (room - len(middle)) * 2 // 3, (room - len(middle)) // 3
    # "ignore" drops a character that was cut in two
    return f"{data[:front].decode(errors='ignore')}{middle}{data[-back:].decode(errors='ignore')}".strip("-.")


def write_file(path: Path, content: bytes | memoryview, *, lasting: bool = True) -> Path:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : Path
        Where to write; folders are made where missing. A file that is there is replaced; of a link the link itself
        is, never the file that it leads to.
    content : bytes
        All of the file.
    lasting : bool
        Wait until the disk has it, so that it outlives a power cut.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        The folder is read-only, the disk is full…; what was there before stays.
    """
    return write_files({path: content}, lasting=lasting)[0]


def write_files(contents: Mapping[Path, bytes | memoryview], *, lasting: bool = True) -> list[Path]:
    """Write several files: every one of them, or none where one cannot be written.

    Parameters
    ----------
    contents : mapping of Path to bytes
        Paths and what to write there, as for `write_file`. They take their places in this order, so that the first
        one is never missing where another one is new.
    lasting : bool
        As for `write_file`.

    Returns
    -------
    list of Path
        The paths.

    Raises
    ------
    OutputError
        As `write_file`.
    """
    with contextlib.ExitStack() as stack:
        parts = []
        for path, content in contents.items():
            part = stack.enter_context(_Part(path))
            part.stream.write(content)
            part.finish(lasting)
            parts.append(part)
        for part in parts:
            part.take_its_place()
    if lasting:
        for folder in {path.parent for path in contents}:
            _sync_folder(folder)
    return list(contents)


@contextlib.contextmanager
def new_file(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Open a binary stream whose content appears under `path` when the block ends, and only if it ends well.

    Parameters
    ----------
    path : Path
        As for `write_file`.
    lasting : bool
        As for `write_file`.

    Yields
    ------
    BinaryIO
        A stream to write to.

    Raises
    ------
    OutputError
        As `write_file`; an exception of the block that is no OSError is passed on.
    """
    with _Part(path) as part:
        yield part.stream
        part.finish(lasting)
        part.take_its_place()
    if lasting:
        _sync_folder(path.parent)


def remove_leftovers(folder: Path) -> int:
    """Remove files in the making that runs which were killed have left in a folder.

    Parameters
    ----------
    folder : Path
        A folder; it need not exist. Folders below it are not looked at.

    Returns
    -------
    int
        How many files were removed. Files that a living process is writing stay.
    """
    if fcntl is None:  # pragma: no cover
        return 0
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not LEFTOVER.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                number = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its writer lives
                    Path(entry.path).unlink()
                    removed += 1
                finally:
                    os.close(number)
    return removed


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time decide about a folder's files; without effect where the system cannot lock folders.

    Parameters
    ----------
    folder : Path
        An existing folder. Nothing is written into it.
    """
    if fcntl is None:  # pragma: no cover
        yield
        return
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that may be written to and not be read
        yield
        return
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


class _Part:
    """A file in the making beside its final place; removed at the end of the block unless it took its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream, self._part = _open_part(path.parent)
        except (OSError, ValueError) as error:  # ValueError: a name with NUL or a lone surrogate
            raise _not_written(path, error) from error

    def finish(self, lasting: bool) -> None:
        """Hand everything to the system, and wait for the disk where the file is to last."""
        self.stream.flush()
        if lasting:
            os.fsync(self.stream.fileno())

    def take_its_place(self) -> None:
        """Give the file its final name. It is still open, and so still locked against `remove_leftovers`."""
        if fcntl is None:  # pragma: no cover - Windows renames closed files only
            self.stream.close()
        self._part.replace(self._path)

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with contextlib.suppress(OSError):  # a full disk again
            self.stream.close()
        with contextlib.suppress(OSError):  # where not even this works, the next run removes it
            self._part.unlink(missing_ok=True)
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, SiseError):
            raise _not_written(self._path, error) from error


def _open_part(folder: Path) -> tuple[BinaryIO, Path]:
    """Make a file that was not there before, locked for as long as it is open."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        part = folder / f".sise-ort-{secrets.token_hex(8)}.part"
        try:
            number = os.open(part, flags, 0o666)
        except FileExistsError:
            continue
        stream = os.fdopen(number, "wb")
        try:
            if fcntl is None:  # pragma: no cover
                return stream, part
            with contextlib.suppress(OSError):  # some network file systems refuse
                fcntl.flock(number, fcntl.LOCK_EX)
            if part.exists():
                return stream, part
        except BaseException:
            stream.close()
            part.unlink(missing_ok=True)
            raise
        stream.close()  # another process took it for a leftover before it was locked


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            if stat.S_ISDIR(os.fstat(number).st_mode):
                os.fsync(number)
        finally:
            os.close(number)


def _not_written(path: Path, error: Exception) -> OutputError:
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputError(f"cannot write '{path}': {words}")
