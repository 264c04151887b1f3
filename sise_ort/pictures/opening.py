"""The bytes of picture files: regular files of a sane size only, so that reading never waits and never fills memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from sise_ort.errors import FrameError
from sise_ort.pictures.size import MAX_BYTES

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path : Path
        A regular file, or a link to one.

    Returns
    -------
    bytes
        All of it, at least one byte.

    Raises
    ------
    FrameError
        The file is missing, unreadable, empty, larger than 1 GiB, or no regular file.
    """
    try:
        # O_NONBLOCK: opening a named pipe would wait for a writer
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(number)
            kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), None)
            if kind is not None:
                raise FrameError(f"picture '{path}' cannot be read: it is {kind}")
            _check_bytes(status.st_size, f"picture '{path}'")
            with os.fdopen(number, "rb", closefd=False) as stream:
                data = stream.read(MAX_BYTES + 1)
        finally:
            os.close(number)
    except (OSError, ValueError) as error:  # ValueError: NUL or a lone surrogate in the name
        if isinstance(error, FrameError):
            raise
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FrameError(f"picture '{path}' cannot be read: {words}") from error
    _check_bytes(len(data), f"picture '{path}'")
    return data


def read_stream(stream: Any, name: str) -> bytes:
    """Read the rest of an open binary file.

    Parameters
    ----------
    stream : object with a method ``read``
        An open file, a ``BytesIO``, an HTTP response…
    name : str
        What it is called in errors.

    Returns
    -------
    bytes
        All of it, at least one byte.

    Raises
    ------
    FrameError
        It gives text, fails, is empty or larger than 1 GiB.
    """
    try:
        parts, count = [], 0
        while count <= MAX_BYTES:  # unbuffered pipes and sockets give what has come so far
            part = _checked(stream.read(MAX_BYTES + 1 - count), name)
            if not part:
                break
            parts.append(part)
            count += len(part)
    except (OSError, ValueError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"{name} cannot be read: {error}") from error
    _check_bytes(count, name)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _checked(part: Any, name: str) -> bytes:
    if isinstance(part, str):
        raise FrameError(f'{name} was opened as text: open it with mode "rb"')
    if not isinstance(part, (bytes, bytearray, memoryview)):
        raise FrameError(f"{name} gives {type(part).__name__} where bytes are needed")
    return bytes(part)


def _check_bytes(count: int, name: str) -> None:
    if count == 0:
        raise FrameError(f"{name} is empty (0 bytes)")
    if count > MAX_BYTES:
        raise FrameError(f"{name} has {count} bytes, more than {MAX_BYTES}: it is no picture")
