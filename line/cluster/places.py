"""Files by address: in a folder, or in a store that fsspec opens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sise_ort.errors import MissingDependencyError, OutputError, first_line
from sise_ort.files import write_file

WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
"""Stores in which a file appears when all of it is there; elsewhere it is written under another name first."""


def is_url(address: str) -> bool:
    """Whether an address is that of a store, such as ``s3://bucket/pictures``."""
    return "://" in address


def store_of(address: str) -> tuple[Any, str]:
    """The file system of fsspec that an address leads to, and the path there.

    Raises
    ------
    MissingDependencyError
        fsspec, or the store's own package, is not installed.
    OutputError
        There is no such kind of store.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            f"'{address}' needs the package fsspec: pip install fsspec, and the store's own, such as s3fs"
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingDependencyError(f"'{address}': {first_line(error)}") from error
    except ValueError as error:
        raise OutputError(f"'{address}': {first_line(error)}") from error
    return system, str(path)


def read_bytes(address: str) -> bytes:
    """The content of a file.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if not is_url(address):
        return Path(address).read_bytes()
    system, path = store_of(address)
    return bytes(system.cat_file(path))


class Place:
    """A folder to write to, on this machine or in a store that fsspec opens.

    Parameters
    ----------
    address : str
        A path, or an address such as ``s3://bucket/maps``. Keys and endpoints come from the environment, as the store's
        package reads them.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/") or "/"
        self._system: Any = None
        self._root = ""
        if is_url(address):
            self._system, self._root = store_of(self.address)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file, whole or not at all; an earlier one of the name is replaced.

        Raises
        ------
        OutputError
        """
        if self._system is None:
            write_file(Path(self.address, name), content)
            return
        path = f"{self._root}/{name}"
        folder, last = path.rsplit("/", 1)
        try:
            self._system.makedirs(folder, exist_ok=True)
            names = self._system.protocol
            if WHOLE & set([names] if isinstance(names, str) else names):
                self._system.pipe_file(path, bytes(content))
            else:
                part = f"{folder}/.{last}.part"
                self._system.pipe_file(part, bytes(content))
                self._system.mv(part, path)
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {first_line(error)}") from error

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if self._system is None:
                return Path(self.address, name).read_bytes()
            return bytes(self._system.cat_file(f"{self._root}/{name}"))
        return None

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        with contextlib.suppress(FileNotFoundError):
            if self._system is None:
                Path(self.address, name).unlink()
            else:
                self._system.rm_file(f"{self._root}/{name}")

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of the files of a folder in here that have an ending, in their order."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if self._system is None:
                found: Iterator[str] = (path.name for path in Path(self.address, folder).iterdir())
            else:
                paths = self._system.ls(f"{self._root}/{folder}", detail=False)
                found = (str(path).rsplit("/", 1)[-1] for path in paths)
            return sorted(name for name in found if name.endswith(ending) and not name.startswith("."))
        return []
