"""The folder in the making: graphs with shared weights, and the bundle that takes another one's place.

A bundle is written into a hidden folder beside its target and moved there in one step. `--force` exchanges the two
folders, so that whoever looks finds the old bundle or the new one, whenever the export is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import onnx_ir as ir

from sise_ort.bundle import FORMAT, MANIFEST, WEIGHTS, Bundle, Manifest, check_graphs, read_files
from sise_ort.errors import ExportError, OutputError, SiseError, option
from sise_ort.files import locked

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no advisory locks of this kind
    fcntl = None  # type: ignore[assignment]

EXTERNAL_BYTES = 1024
"""Weights of at least this many bytes stand in weights.bin, shared by extract and predict."""
LEFTOVER = re.compile(r"\.sise-ort-[0-9a-f]{16}\.making")
"""Names of folders in the making; one that no process holds was left by an export that was killed."""
NO_REPLACE, EXCHANGE = 1, 2
"""Flags of Linux's renameat2."""
HERE = -100
"""AT_FDCWD: paths are relative to the working folder."""
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""How a kernel or file system says that it does not know a flag of renameat2."""


def write_graphs(models: Mapping[str, ir.Model], folder: Path) -> None:
    """Write the graphs, with each large weight once in weights.bin.

    Parameters
    ----------
    models : mapping of str to ir.Model
        The graphs by phase.
    folder : Path
        Where to write.
    """
    large: dict[int, tuple[ir.TensorProtocol, list[ir.Value]]] = {}
    for model in models.values():
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.nbytes >= EXTERNAL_BYTES:
                large.setdefault(id(tensor), (tensor, []))[1].append(value)
    if large:
        external = ir.external_data.convert_tensors_to_external(
            [tensor for tensor, _ in large.values()], folder, WEIGHTS, alignment=4096
        )
        for outside, (_, values) in zip(external, large.values(), strict=True):
            for value in values:
                value.const_value = outside
    else:
        (folder / WEIGHTS).touch()
    for phase, model in models.items():
        ir.save(model, folder / f"{phase}.onnx")


def write_manifest(folder: Path, manifest: Manifest, known: Bundle | None = None) -> Bundle:
    """Hash a folder's files, write its manifest, and return the bundle as it is in memory.

    Parameters
    ----------
    folder : Path
        With all files of the bundle.
    manifest : Manifest
        Everything but `files`.
    known : Bundle or None
        The bundle as it was before; only its predict.onnx has changed since, and the other files are not read again.

    Returns
    -------
    Bundle
        What was written, to be opened without reading it once more.
    """
    names = [path.name for path in sorted(folder.iterdir()) if path.name != MANIFEST]
    fresh = read_files(folder, names if known is None else ["predict.onnx"])
    contents = {**(known.contents if known else {}), **fresh}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in fresh.items()}
    files = {**(known.manifest.files if known else {}), **digests}
    manifest = msgspec.structs.replace(manifest, files=dict(sorted(files.items())))
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(folder, manifest, contents, check_graphs(folder, manifest, contents))


def refuse_existing(target: Path, force: bool) -> None:
    """Raise ExportError where a target is in the way, or is nothing that may be replaced."""
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise ExportError(
            f"'{target}' exists already; pass {option('force', True)} to overwrite it, or another name as {option('bundle')}"
        )
    if foreign := _foreign(target):
        raise ExportError(
            f"'{target}' {foreign}; it will not be overwritten, with {option('force')} or without"
        )


def _foreign(target: Path) -> str:
    """What makes a folder something else than a bundle, in words; "" for a bundle and for an empty folder."""
    if target.is_symlink() or not target.is_dir():
        return "is a link, not a bundle" if target.is_symlink() else "is not a bundle"
    try:
        there = sorted(entry.name for entry in target.iterdir())
        if not there:
            return ""
        listed = _listed(target)
        if listed is None:
            return "is not a bundle"
        for name in there:
            path = target / name
            if name not in listed or path.is_symlink() or not path.is_file():
                return f"holds '{name[:80]}', which is no file of the bundle"
    except OSError as error:
        return f"cannot be looked at ({error.strerror or error})"
    return ""


def _listed(folder: Path) -> set[str] | None:
    """Names of a bundle's files, of any version of the format; None where the folder holds no manifest of ours."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if (
        not isinstance(facts, dict)
        or facts.get("format") != FORMAT
        or not isinstance(facts.get("files"), dict)
    ):
        return None
    return {MANIFEST, *facts["files"]}


@contextlib.contextmanager
def folder_in_the_making(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside `target`, which is gone afterwards whatever happens.

    What exports that were killed have left beside `target` is put right first.

    Parameters
    ----------
    target : Path
        Where the bundle will stand.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    OutputError
        The place is read-only, the disk is full…
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        folder, holding = _held_folder(target.parent)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write to '{target.parent}': {_reason(error)}") from error
    try:
        yield folder
    except SiseError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write '{target}': {_reason(error)}; nothing was left behind") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(holding)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _held_folder(parent: Path) -> tuple[Path, int]:
    """A new folder, and the lock by which other exports see that its writer lives."""
    while True:
        folder = parent / f".sise-ort-{secrets.token_hex(8)}.making"
        folder.mkdir()
        if fcntl is None:  # pragma: no cover - Windows
            return folder, os.open(os.devnull, os.O_RDONLY)
        try:
            number = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another export took it for a leftover
            continue
        taken = False
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another export is removing it as a leftover
            taken = True
        except OSError:  # some network file systems know no locks
            pass
        if not taken and folder.exists():
            return folder, number
        os.close(number)


def recover(target: Path) -> None:
    """Put right what exports that were killed have left beside a target.

    Parameters
    ----------
    target : Path
        A bundle that was moved aside and never replaced comes back; folders in the making whose writer is dead are
        removed.
    """
    with locked(target.parent):
        aside = _aside(target)
        if aside.is_dir() and not aside.is_symlink():
            if not target.exists():
                aside.rename(target)
            else:
                remove_bundle(aside)
        if fcntl is None:  # pragma: no cover
            return
        for path in target.parent.glob(".sise-ort-*.making"):
            if LEFTOVER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                _remove_if_left(path)


def _remove_if_left(folder: Path) -> None:
    assert fcntl is not None
    with contextlib.suppress(OSError):  # it went meanwhile, or belongs to somebody else
        number = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its writer lives
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(number)


def _aside(target: Path) -> Path:
    """Where a bundle stands for the moment between two renames, on systems that cannot exchange two folders."""
    return target.with_name(f".sise-ort-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.old")


def move_into_place(folder: Path, target: Path, force: bool) -> None:
    """Let a finished folder take its place.

    Parameters
    ----------
    folder : Path
        The finished bundle.
    target : Path
        Its place.
    force : bool
        Whether a bundle that stands there may be replaced.

    Raises
    ------
    ExportError
        Something is there that may not be replaced; it is as it was.
    OSError
        The system refuses; what was there is as it was.
    """
    for path in (*folder.iterdir(), folder):
        _sync(path)
    with locked(target.parent):
        refuse_existing(target, force)
        if not target.exists():
            _rename_new(folder, target, force)
        elif _renameat2(folder, target, EXCHANGE):
            if _foreign(folder):  # put there while we looked away
                _renameat2(folder, target, EXCHANGE)
                refuse_existing(target, force)
            remove_bundle(folder)
            _keep_what_is_left(folder, target)
        else:
            _replace_in_two_steps(folder, target, force)
        _sync(target.parent)


def _rename_new(folder: Path, target: Path, force: bool) -> None:
    try:
        if not _renameat2(folder, target, NO_REPLACE):
            folder.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # it came meanwhile
            refuse_existing(target, force)
        raise


def _replace_in_two_steps(folder: Path, target: Path, force: bool) -> None:
    """Move the old bundle aside, then the new one into its place; after a kill in between, `recover` takes it back."""
    aside = _aside(target)
    target.rename(aside)
    try:
        if _foreign(aside):
            raise ExportError(f"'{target}' was changed during the export; it was left as it is")
        folder.rename(target)
    except BaseException:
        if not target.exists():
            aside.rename(target)
        raise
    remove_bundle(aside)
    _keep_what_is_left(aside, target)


def _keep_what_is_left(folder: Path, target: Path) -> None:
    """Give a replaced folder in which somebody has put files meanwhile a name that can be seen."""
    with contextlib.suppress(OSError):
        folder.rename(target.with_name(f"{target.name}.replaced-{secrets.token_hex(4)}"))


def remove_bundle(folder: Path) -> None:
    """Remove the files that a bundle's manifest lists, the manifest last, and then the folder, if nothing is left in it."""
    listed = _listed(folder) or set()
    with contextlib.suppress(OSError):
        for name in sorted(listed - {MANIFEST}):
            path = folder / name
            if "/" not in name and "\\" not in name and (path.is_file() or path.is_symlink()):
                path.unlink()
        if all(path.name == MANIFEST for path in folder.iterdir()) and listed:
            (folder / MANIFEST).unlink()
        folder.rmdir()


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Rename with a flag of Linux's renameat2; False where the system does not know it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    if rename(HERE, os.fsencode(source), HERE, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(target))


def _sync(path: Path) -> None:
    """Wait until the disk has a file or a folder's names, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
