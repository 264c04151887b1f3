"""Records that wait on the disk of this machine while their database is away."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from sise_ort.errors import OutputError
from sise_ort.files import remove_leftovers, write_file
from sise_ort.line.evidence.record import Part, from_json, to_json
from sise_ort.line.evidence.store import File

NAME = re.compile(r"[0-9]{12}\.record")


class Kept(msgspec.Struct, frozen=True):
    """A record with its files, as it lies in the spool.

    Attributes
    ----------
    record : bytes
        JSON.
    files : tuple of (role, content, ending)
    """

    record: bytes
    files: tuple[tuple[str, bytes, str], ...] = ()


class Spool:
    """A folder of records, in the order in which they came.

    Parameters
    ----------
    folder : Path
        Made where missing; one line writes into it.

    Raises
    ------
    OutputError
        It cannot be made or read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            self._names = sorted(p.name for p in folder.iterdir() if NAME.fullmatch(p.name))
        except OSError as error:
            raise OutputError(f"cannot use the spool '{folder}': {error.strerror}") from error
        self._next = int(self._names[-1].partition(".")[0]) + 1 if self._names else 1

    def __len__(self) -> int:
        return len(self._names)

    def put(self, part: Part, files: list[File]) -> None:
        """Write a record behind all others; it outlives a power cut.

        Raises
        ------
        OutputError
            The disk takes nothing.
        ParameterError
            The record holds what JSON cannot.
        """
        content = Kept(to_json(part), tuple((one.role, bytes(one.content), one.ending) for one in files))
        name = f"{self._next:012}.record"
        write_file(self.folder / name, msgspec.msgpack.encode(content))
        self._next += 1
        self._names.append(name)

    def first(self) -> tuple[Part, list[File]]:
        """The record that has waited longest, with its files.

        Raises
        ------
        OutputError
            It cannot be read.
        """
        path = self.folder / self._names[0]
        try:
            found = msgspec.msgpack.decode(path.read_bytes(), type=Kept)
            part = from_json(found.record)
        except (OSError, msgspec.DecodeError) as error:
            raise OutputError(f"the spooled record '{path}' cannot be read: {error}") from error
        return part, [File(*one) for one in found.files]

    def drop(self, *, unreadable: bool = False) -> None:
        """Remove the first record, which the database has taken; an unreadable one is put aside, ending in .damaged."""
        path = self.folder / self._names.pop(0)
        if unreadable:
            path.replace(path.with_suffix(".damaged"))
        else:
            path.unlink(missing_ok=True)
