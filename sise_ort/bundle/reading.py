"""Reading a bundle: once, into private memory, where its files are hashed and stay unchanged.

A bundle is refused by name when it is missing, damaged, foreign, half-copied, or of another version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle.format import MANIFEST, OPTIONAL_PHASES, Manifest
from sise_ort.bundle.graphs import NUMPY_TYPES, GraphError, GraphFacts, read_graph
from sise_ort.bundle.hashing import PART, Hashing
from sise_ort.bundle.parsing import parse_manifest
from sise_ort.bundle.phases import require_signature, signature
from sise_ort.errors import BundleError

LARGEST_MANIFEST = 64 << 20
"""Bytes of a manifest; 20,000 classes with long names take 2 MB."""
LARGEST_BUNDLE = 64 << 30
"""Bytes of a bundle, unless the caller says less."""
ATTEMPTS = 100
"""How often a bundle that is replaced meanwhile is read anew, about 10 ms apart."""


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; nothing of it is read from its folder again.

    Attributes
    ----------
    folder : Path
        Where it was read.
    manifest : Manifest
        Its facts.
    contents : mapping of str to memoryview
        Bytes of the files that the manifest lists, as they were hashed.
    graphs : mapping of str to GraphFacts
        Inputs, outputs and external weights of the graphs, by phase; compared with the manifest.
    """

    folder: Path
    manifest: Manifest
    contents: Mapping[str, memoryview] = field(repr=False)
    graphs: Mapping[str, GraphFacts] = field(repr=False)

    def weights(self, phase: str) -> dict[str, NDArray[Any]]:
        """Values of a graph's weights that stand outside of its file, by name; views of `contents`."""
        return {
            tensor.name: np.frombuffer(
                self.contents[tensor.file][tensor.offset : tensor.offset + tensor.length],
                NUMPY_TYPES[tensor.dtype],
            ).reshape(tensor.shape)
            for tensor in self.graphs[phase].external
        }

    def without(self, phases: Iterable[str]) -> Bundle:
        """The same without the contents that none of the other graphs needs."""
        left = [phase for phase in self.graphs if phase not in set(phases)]
        needed = {f"{phase}.onnx" for phase in left}
        needed |= {tensor.file for phase in left for tensor in self.graphs[phase].external}
        kept = {name: content for name, content in self.contents.items() if name in needed}
        return dataclasses.replace(self, contents=kept)


class _Changed(Exception):
    """A bundle's files are not those of its manifest: it is damaged, or is being replaced."""


def read_bundle(folder: str | Path) -> Manifest:
    """Read a bundle, check all of it, and return its manifest; see `open_bundle`."""
    return open_bundle(folder).manifest


def open_bundle(folder: str | Path, largest: int = LARGEST_BUNDLE) -> Bundle:
    """Read a bundle into memory and check it.

    A bundle that is replaced while it is read gives the old or the new one.

    Parameters
    ----------
    folder : str or Path
        The bundle.
    largest : int
        Bytes that its files may take together, and a tensor of its graphs alone.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        The folder is no bundle of this version, a file is missing or changed, or a graph is not what the manifest says;
        names it.
    """
    if not isinstance(folder, (str, Path)):
        raise BundleError(
            f"a bundle is given by its folder's path; this is a {type(folder).__name__}: {folder!r}"
        )
    folder = Path(folder)
    before: object = None
    for attempt in range(ATTEMPTS):
        seen = _identity(folder)
        try:
            manifest, contents, graphs = _read_once(folder, largest)
            break
        except (_Changed, BundleError) as error:
            # the same folder with the same manifest, twice: nobody is replacing it
            if (attempt and seen == before == _identity(folder)) or attempt == ATTEMPTS - 1:
                raise error if isinstance(error, BundleError) else BundleError(str(error)) from error
            before = seen
            time.sleep(0.01)
    if isinstance(graphs, BundleError):  # of files that are whole: reading them anew would not help
        raise graphs
    return Bundle(folder, manifest, contents, graphs)


def check_graphs(
    folder: Path, manifest: Manifest, contents: Mapping[str, memoryview], largest: int = LARGEST_BUNDLE
) -> dict[str, GraphFacts]:
    """Compare each graph's inputs and outputs with the manifest, and look at everything else in it.

    Parameters
    ----------
    folder : Path
        Only named in errors.
    manifest : Manifest
        The bundle's facts.
    contents : mapping of str to memoryview
        Its files.
    largest : int
        Bytes that a tensor may have.

    Returns
    -------
    dict of str to GraphFacts
        By phase.

    Raises
    ------
    BundleError
        A graph is not what the manifest says, or not plain; names it.
    """
    sizes = {name: len(content) for name, content in contents.items() if not name.endswith(".onnx")}
    found = {}
    for phase in (p for p in (*manifest.phases, *OPTIONAL_PHASES) if manifest.has(p)):
        try:
            found[phase] = read_graph(contents[f"{phase}.onnx"], sizes, largest)
            require_signature(found[phase], signature(manifest, phase))
        except GraphError as error:
            raise BundleError(f"bundle '{folder}': {phase}.onnx {error}; export it again") from error
    return found


def read_files(folder: Path, names: Iterable[str]) -> dict[str, memoryview]:
    """Read files of a folder into memory.

    Parameters
    ----------
    folder : Path
        The folder.
    names : iterable of str
        Regular files in it.

    Returns
    -------
    dict of str to memoryview
        Their bytes, by name.
    """
    with _opened(folder) as place:
        return {name: _read_file(folder, name, place, LARGEST_BUNDLE) for name in names}


def _identity(folder: Path) -> object:
    """What tells one bundle at a path from another."""
    with contextlib.suppress(OSError, ValueError, BundleError, _Changed), _opened(folder) as place:
        there = folder.stat()
        return there.st_dev, there.st_ino, bytes(_read_file(folder, MANIFEST, place, LARGEST_MANIFEST))
    return None


def _read_once(
    folder: Path, largest: int
) -> tuple[Manifest, dict[str, memoryview], dict[str, GraphFacts] | BundleError]:
    """Read the manifest, then the files against it, all from the folder that the path means now.

    Files are hashed while the next ones are read and the graphs are looked at. Nothing is returned before all hashes are
    known to be right; the graphs' facts, or what is wrong with one.
    """
    contents: dict[str, memoryview] = {}
    graphs: dict[str, GraphFacts] | BundleError = {}
    failed: Exception | None = None
    with _opened(folder) as place, Hashing() as hashing:
        manifest = parse_manifest(bytes(_read_file(folder, MANIFEST, place, LARGEST_MANIFEST)), folder)
        room = largest
        try:
            for name in manifest.files:
                contents[name] = _read_file(folder, name, place, room, partial(hashing.add, name))
                room -= len(contents[name])
        except (_Changed, BundleError) as error:
            failed = error
        else:
            try:
                graphs = check_graphs(folder, manifest, contents, largest)
            except BundleError as error:
                graphs = error
        digests = hashing.digests()
        for (
            name
        ) in contents:  # what is wrong with the first file is said, as if they were read one after another
            if digests[name] != manifest.files[name]:
                raise _Changed(
                    f"bundle '{folder}': '{name}' is not the file that was exported (SHA-256 differs); export it again"
                )
        if failed is not None:
            raise failed
    return manifest, contents, graphs


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """A folder to open files in, so that a bundle that is moved aside is still read whole; None where systems have none."""
    require_folder(folder)
    if os.open not in os.supports_dir_fd:  # pragma: no cover - Windows
        yield None
        return
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # it went while we looked
        raise BundleError(f"there is no bundle at '{folder}'; make one with `sise-ort export`") from None
    except OSError as error:
        raise BundleError(f"bundle '{folder}' cannot be read: {error.strerror or error}") from error
    try:
        yield place
    finally:
        os.close(place)


def _read_file(
    folder: Path,
    name: str,
    place: int | None,
    largest: int,
    then: Callable[[memoryview], None] = lambda part: None,
) -> memoryview:
    """A regular file's bytes; each part of them is given to `then` once it is read."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        number = os.open(name if place is not None else folder / name, flags, dir_fd=place)
    except FileNotFoundError:
        if name == MANIFEST:
            raise BundleError(
                f"'{folder}' has no {MANIFEST}: it is not a bundle, or was copied incompletely"
            ) from None
        raise _Changed(
            f"bundle '{folder}': '{name}' is missing; it was copied incompletely, copy or export it again"
        ) from None
    except OSError as error:
        link = (folder / name).is_symlink()
        reason = "it is a link; a bundle's files must be files" if link else error.strerror or str(error)
        raise BundleError(f"bundle '{folder}': '{name}' cannot be read: {reason}") from error
    try:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            raise BundleError(f"bundle '{folder}': '{name}' is not a regular file")
        if facts.st_size > largest:
            raise BundleError(
                f"bundle '{folder}': '{name}' has {facts.st_size} bytes, more than the limit of memory allows"
            )
        content = memoryview(bytearray(facts.st_size))
        at = 0
        then(content[:0])
        with open(number, "rb", buffering=0, closefd=False) as file:
            while at < len(content) and (count := file.readinto(content[at : at + PART])):
                then(content[at : at + count])
                at += count
        return content[:at].toreadonly()
    except (OSError, MemoryError) as error:
        raise BundleError(f"bundle '{folder}': '{name}' cannot be read: {error}") from error
    finally:
        os.close(number)


def require_folder(folder: Path) -> None:
    """Raise BundleError unless a path means a folder."""
    try:
        there, is_folder = folder.exists(), folder.is_dir()
    except (OSError, ValueError) as error:  # names with NUL, too long, no permission
        raise BundleError(f"there is no bundle at '{folder}': {error}") from error
    if not there:
        raise BundleError(f"there is no bundle at '{folder}'; make one with `sise-ort export`")
    if not is_folder:
        hint = f"; run `sise-ort export {folder}` first" if folder.suffix == ".onnx" else ""
        raise BundleError(f"'{folder}' is a file, not a bundle folder{hint}")


def read_manifest(folder: str | Path) -> Manifest:
    """Read a bundle's manifest; its files are not looked at.

    Parameters
    ----------
    folder : str or Path
        The bundle.

    Returns
    -------
    Manifest

    Raises
    ------
    BundleError
        The folder is no bundle of this version.
    """
    folder = Path(folder)
    with _opened(folder) as place:
        return parse_manifest(bytes(_read_file(folder, MANIFEST, place, LARGEST_MANIFEST)), folder)
