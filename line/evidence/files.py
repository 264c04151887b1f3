"""The files beside a database: pictures and maps, named by the SHA-256 of what they hold."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from sise_ort.errors import MissingDependencyError, OutputError, first_line
from sise_ort.files import remove_leftovers, write_file

NAME = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,10})?")
"""What a file's name looks like; nothing else is ever opened, written or removed."""


class Files(Protocol):
    """Where files are kept."""

    def add(self, name: str, content: bytes | memoryview) -> None: ...
    def size(self, name: str) -> int | None: ...
    def read(self, name: str) -> bytes: ...
    def remove(self, name: str) -> None: ...
    def names(self, older_than: float) -> Iterator[str]: ...


def open_files(place: str) -> Files:
    """Open the store of files.

    Parameters
    ----------
    place : str
        A folder, or the address of a store that fsspec knows, such as ``s3://bucket/line``.

    Raises
    ------
    MissingDependencyError
        The store needs a package that is not installed.
    OutputError
        There is no such store.
    """
    return Store(place) if "://" in place else Folder(Path(place))


def checked(name: str) -> str:
    """A file's name, when it is one.

    Raises
    ------
    OutputError
        It is not 64 hexadecimal digits and an ending.
    """
    if not NAME.fullmatch(name):
        raise OutputError(f"{name!r} is no name of a file in a store of evidence")
    return name


class Folder:
    """Files in a folder of this machine, in 256 folders by their first two digits.

    Parameters
    ----------
    folder : Path
        Made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, name: str) -> Path:
        return self.folder / checked(name)[:2] / name

    def add(self, name: str, content: bytes | memoryview) -> None:
        """Write a file unless it is there already; it outlives a power cut."""
        if self.size(name) != len(content):
            write_file(self._path(name), content)

    def size(self, name: str) -> int | None:
        """A file's bytes; None where it is missing."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self._path(name).stat().st_size
        return None

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises
        ------
        OSError
            It cannot be read.
        """
        return self._path(name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        self._path(name).unlink(missing_ok=True)

    def names(self, older_than: float) -> Iterator[str]:
        """Names of files that were written that many seconds ago or earlier; remains of killed writers are removed."""
        latest = time.time() - older_than
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            remove_leftovers(folder)
            for path in sorted(folder.iterdir()):
                if NAME.fullmatch(path.name) and path.stat().st_mtime <= latest:
                    yield path.name


class Store:
    """Files in a store that fsspec opens: S3, Azure, Google, SFTP and others.

    Parameters
    ----------
    place : str
        Its address, such as ``s3://bucket/line``. Keys and endpoints come from the environment, as the store's package
        reads them.
    """

    def __init__(self, place: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingDependencyError(
                f"files in '{place}' need the package fsspec: pip install fsspec, and the store's own, such as s3fs"
            ) from error
        try:
            self._system, self._root = fsspec.core.url_to_fs(place.rstrip("/"))
        except ImportError as error:
            raise MissingDependencyError(f"files in '{place}': {first_line(error)}") from error
        except ValueError as error:
            raise OutputError(f"files in '{place}': {first_line(error)}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked(name)[:2]}/{name}"

    def add(self, name: str, content: bytes | memoryview) -> None:
        """Write a file unless it is there already."""
        if self.size(name) == len(content):
            return
        path = self._path(name)
        try:
            self._system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._system.pipe_file(path, bytes(content))
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {first_line(error)}") from error

    def size(self, name: str) -> int | None:
        """A file's bytes; None where it is missing."""
        try:
            return int(self._system.info(self._path(name))["size"])
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        """A file's content."""
        return bytes(self._system.cat_file(self._path(name)))

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def names(self, older_than: float) -> Iterator[str]:
        """Names of files that were written that many seconds ago or earlier, where the store knows; else none."""
        latest = time.time() - older_than
        found: dict[str, Any] = self._system.find(self._root, detail=True)
        for path, facts in sorted(found.items()):
            name = path.rsplit("/", 1)[-1]
            written = next((facts[k] for k in ("mtime", "LastModified", "created") if k in facts), None)
            seconds = written.timestamp() if isinstance(written, datetime) else written
            if NAME.fullmatch(name) and isinstance(seconds, (int, float)) and seconds <= latest:
                yield name
