"""Where a run's results go: names that never replace a picture, a foreign file or another result."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from sise_ort.errors import OutputError
from sise_ort.files import file_name, locked, remove_leftovers, write_file, write_files

WRITER = "sise-ort"
RECORD = ".json"
LARGEST_RECORD = 64 << 20
"""Bytes; a larger .json file is taken for somebody else's without reading it."""
NUMBERS_READ = 100
"""How many numbered records are read in search of an earlier result of the same; behind them comes a free number."""


class OutputFolder:
    """A folder that results are written into, by one run or by several at once.

    A result is a record (``NAME.json``) and the files that the record names. A name is made safe first (`file_name`)
    and then numbered (``NAME-2``, ``NAME-3``…) until nothing would be replaced but an earlier result of the same: one
    whose record says that sise-ort wrote it, for the same identity, together with the files that would be replaced,
    which are as they were written. Names that differ only in upper and lower case or in their Unicode form count as one, so that the folder can be
    copied to any system. Within one run nothing is replaced twice, and never one of its input pictures.

    Parameters
    ----------
    folder : str or Path
        Where to write; made when the first result is written, or by `prepare`.
    inputs : iterable of str or Path
        The run's input pictures.
    """

    def __init__(self, folder: str | Path, inputs: Iterable[str | Path] = ()) -> None:
        self.folder = Path(folder)
        self._inputs = _places(inputs)
        self._there: dict[str, set[str]] = {}
        self._seen: int | None = None
        self._written: set[str] = set()
        self._lock = Lock()

    def prepare(self) -> None:
        """Make the folder, and remove what runs that were killed have left half-written in it.

        Raises
        ------
        OutputError
            The folder cannot be made, or nothing can be written into it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            words = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise OutputError(f"cannot write into '{self.folder}': {words}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write into '{self.folder}': Permission denied")
        remove_leftovers(self.folder)

    def write_result(
        self, words: str, identity: Any, record: Mapping[str, Any], files: Mapping[str, bytes | memoryview]
    ) -> list[Path]:
        """Write a record and its files under a name of their own.

        Parameters
        ----------
        words : str
            What the name is made of, such as ``"strip 7-scratch"``.
        identity : anything that JSON can hold
            What the result is of; an earlier result with an equal identity is replaced.
        record : mapping
            The record's content; an entry ``output`` with the writer, the identity's hash and the files' names is added.
            Files of other formats that an earlier result of the same has left stay; they are listed there as ``earlier``.
        files : mapping of str to bytes
            The other files' endings and contents, such as ``{".png": …, ".npz": …}``.

        Returns
        -------
        list of Path
            The files in the order given, and the record.

        Raises
        ------
        OutputError
            A file cannot be written; what was there before stays.
        """
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self.prepare_parent()
        with self._lock, locked(self.folder):
            self._look()
            stem = self._free_stem(words, digest, [*files, RECORD])
            names = [stem + ending for ending in files]
            before = _mark(self.folder / (stem + RECORD)) or {}
            mark = {
                "written_by": WRITER,
                "identity": digest,
                "files": names,
                "sha256": [hashlib.sha256(content).hexdigest() for content in files.values()],
                "replaced": _strings(before, "sha256"),  # a kill may leave them in place
                "earlier": {
                    name: has
                    for name, has in _files_of(before).items()
                    if name not in names and (self.folder / name).is_file()
                },
            }
            text = to_json({**record, "output": mark}, indent=2) + "\n"
            contents: dict[Path, bytes | memoryview] = {self.folder / (stem + RECORD): text.encode()}
            for ending, content in files.items():
                contents[self.folder / (stem + ending)] = content
            record_path, *others = write_files(contents)
            self._remember(path.name for path in contents)
        return [*others, record_path]

    def write_page(self, words: str, ending: str, content: bytes) -> Path:
        """Write one file that names its writer, such as a page, and replace only one that sise-ort wrote.

        Parameters
        ----------
        words, ending : str
            What the name is made of, such as ``"index"`` and ``".html"``.
        content : bytes
            All of the file; ``<meta name="generator" content="sise-ort">`` stands in its first 4,096 bytes.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        OutputError
            It cannot be written; what was there before stays.
        """
        self.prepare_parent()
        with self._lock, locked(self.folder):
            self._look()
            base = file_name(words)
            for number in itertools.count(1):
                path = self.folder / (_numbered(base, number) + ending)
                clashes = self._clashes(path.name)
                if not clashes or (
                    clashes == {path.name} and self._replaceable(path) and _begins_as_ours(path)
                ):
                    break
            write_file(path, content)
            self._remember([path.name])
        return path

    def prepare_parent(self) -> None:
        """Make the folder where it is missing."""
        if not self.folder.is_dir():
            self.prepare()

    def _free_stem(self, words: str, digest: str, endings: list[str]) -> str:
        base = file_name(words)

        def clashes(number: int) -> set[str]:
            return set[str]().union(*(self._clashes(_numbered(base, number) + ending) for ending in endings))

        for number in range(1, NUMBERS_READ + 1):
            stem, there = _numbered(base, number), clashes(number)
            if not there or self._is_the_same(stem, digest, there):
                return stem
        taken, free = NUMBERS_READ, 2 * NUMBERS_READ
        while clashes(free):
            taken, free = free, 2 * free
        while free - taken > 1:  # thousands of results under one name: find an end without trying each number
            middle = (taken + free) // 2
            taken, free = (middle, free) if clashes(middle) else (taken, middle)
        return _numbered(base, free)

    def _is_the_same(self, stem: str, digest: str, clashes: set[str]) -> bool:
        """Whether the files in the way are an earlier run's result of the same."""
        record = self.folder / (stem + RECORD)
        mark = _mark(record)
        return (
            mark is not None
            and mark.get("identity") == digest
            and isinstance(mark.get("files"), list)
            and clashes <= {record.name, *_files_of(mark)}
            and all(self._replaceable(self.folder / name) for name in clashes)
            and all(_holds(self.folder / name, mark) for name in clashes - {record.name})
        )

    def _replaceable(self, path: Path) -> bool:
        """Whether a file is a regular one, no input picture, and not written by this run."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return (
            stat.S_ISREG(status.st_mode)
            and (status.st_dev, status.st_ino) not in self._inputs
            and _folded(path.name) not in self._written
        )

    def _clashes(self, name: str) -> set[str]:
        """Names in the folder that mean the same file as this one on some system."""
        there = self._there.get(_folded(name), set())
        return there | {name} if os.path.lexists(self.folder / name) else set(there)

    def _look(self) -> None:
        """Read the folder's names, unless nothing has changed since."""
        try:
            changed = self.folder.stat().st_mtime_ns
            if changed == self._seen:
                return
            names = os.listdir(self.folder)  # noqa: PTH208 - names are enough, and there may be many
        except OSError:  # a folder that may be written to and not be read: `_clashes` looks for the very name
            return
        self._there = {}
        for name in names:
            self._there.setdefault(_folded(name), set()).add(name)
        self._seen = changed

    def _remember(self, names: Iterable[str]) -> None:
        for name in names:
            self._there.setdefault(_folded(name), set()).add(name)
            self._written.add(_folded(name))
        self._seen = self.folder.stat().st_mtime_ns


def to_json(content: Any, indent: int | None = None) -> str:
    """Write JSON that every reader takes.

    Parameters
    ----------
    content : anything made of mappings, sequences, strings, numbers, bools and None
        Numbers that are not finite become null, lone surrogates their escapes, whatever JSON cannot hold its words.
    indent : int, optional
        Spaces a level; None writes one line.

    Returns
    -------
    str
        JSON that can be encoded as UTF-8.
    """
    text = json.dumps(_finite(content), indent=indent, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode()


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content


def _numbered(base: str, number: int) -> str:
    return base if number == 1 else f"{base}-{number}"


def _folded(name: str) -> str:
    """A name without what some file systems do not tell apart: upper and lower case, and Unicode's forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _places(paths: Iterable[str | Path]) -> set[tuple[int, int]]:
    """Device and number of files and of the links that lead to them; what does not exist cannot be replaced."""
    found = set()
    for path in paths:
        for look in (os.stat, os.lstat):
            try:
                status = look(path)
            except (OSError, ValueError):
                continue
            found.add((status.st_dev, status.st_ino))
    return found


def _mark(record: Path) -> Mapping[str, Any] | None:
    """The entry `output` of a record that sise-ort wrote; None for any other file."""
    try:
        status = record.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_RECORD:
            return None
        content = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    mark = content.get("output") if isinstance(content, dict) else None
    return mark if isinstance(mark, dict) and mark.get("written_by") == WRITER else None


def _strings(mark: Mapping[str, Any], entry: str) -> list[str]:
    found = mark.get(entry)
    return [str(one) for one in found] if isinstance(found, list) else []


def _files_of(mark: Mapping[str, Any]) -> dict[str, str]:
    """Names and hashes of a result's files, and of files in other formats that earlier ones of the same have left."""
    earlier = mark.get("earlier")
    found = {str(k): str(v) for k, v in earlier.items()} if isinstance(earlier, dict) else {}
    names, hashes = _strings(mark, "files"), _strings(mark, "sha256")
    return {**found, **dict(itertools.zip_longest(names, hashes[: len(names)], fillvalue=""))}


def _holds(path: Path, mark: Mapping[str, Any]) -> bool:
    """Whether a file is as it was written; one that was edited since is no longer ours."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    except OSError:
        return False
    return digest.hexdigest() in [*_files_of(mark).values(), *_strings(mark, "replaced")]


def _begins_as_ours(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return f'name="generator" content="{WRITER}"'.encode() in stream.read(4096)
    except OSError:
        return False
