"""Engines that a compiler such as TensorRT keeps between runs: only files whose hash this program has recorded are used."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sise_ort.errors import OutputError
from sise_ort.files import write_file

HASHES = "sise-ort-hashes.json"
"""The list of a folder's files; no compiler writes one of this name."""


def remove_unknown(folder: Path) -> list[str]:
    """Remove every file of a folder of engines that is not as `record` left it.

    Such files are half-written ones of a process that was killed, damaged ones, or strangers'. They are built anew.

    Parameters
    ----------
    folder : Path
        Of engines alone; folders below it are not looked at.

    Returns
    -------
    list of str
        Names of what was removed.

    Raises
    ------
    OutputError
        One cannot be removed, and would be used.
    """
    known, removed = _recorded(folder), []
    for path in _files(folder):
        if not path.is_symlink() and path.name in known and known[path.name] == _hash(path) is not None:
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"'{path}' is damaged or unknown and cannot be removed: {error.strerror or error}; SISE_ORT_CACHE names "
                "another folder"
            ) from error
        removed.append(path.name)
    return removed


def record(folder: Path) -> None:
    """Record the hashes of all files of a folder, for `remove_unknown`.

    Where that cannot be written, the engines are built anew the next time.
    """
    found = {path.name: _hash(path) for path in _files(folder) if not path.is_symlink()}
    if found != _recorded(folder):
        with contextlib.suppress(OutputError):
            write_file(folder / HASHES, json.dumps(found, indent=1, sort_keys=True).encode())


def _files(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(
            Path(e.path) for e in entries if e.name != HASHES and not e.is_dir(follow_symlinks=False)
        )
    return []


def _recorded(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads((folder / HASHES).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _hash(path: Path) -> str | None:
    """SHA-256 of a regular file; None of anything else, and where it cannot be read."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
