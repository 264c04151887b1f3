"""The folder in the making: graphs with shared weights, and the bundle that takes another one's place."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx_ir as ir

from sise_ort.bundle import MANIFEST, WEIGHTS
from sise_ort.errors import ExportError, OutputError, SiseError

EXTERNAL_BYTES = 1024
"""Weights of at least this many bytes stand in weights.bin, shared by extract and predict."""


def write_graphs(models: Mapping[str, ir.Model], folder: Path) -> None:
    """Write the graphs, with each large weight once in weights.bin."""
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


def refuse_existing(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise ExportError(f"'{target}' exists already; pass --force to overwrite it, or another name with -o")
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise ExportError(f"'{target}' is not a bundle; it will not be overwritten, --force or not")


@contextlib.contextmanager
def folder_in_the_making(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, gone afterwards whatever happens."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise OutputError(f"cannot write to '{target.parent}': {error.strerror or error}") from error
    try:
        yield folder
    except SiseError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write '{target}': {error.strerror or error}; nothing was left behind"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(folder: Path, target: Path, force: bool) -> None:
    folder.chmod(0o755)
    refuse_existing(target, force)
    if not target.exists():
        folder.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.rename(old / "bundle")
        folder.rename(target)
    except BaseException:
        if not target.exists() and (old / "bundle").exists():
            (old / "bundle").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
