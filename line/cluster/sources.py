"""The pictures of a data set: files, folders, addresses of stores, and Parquet files with pictures or their addresses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sise_ort.datasets.reading import PICTURES
from sise_ort.errors import FrameError, ParameterError, first_line, shown
from sise_ort.line.cluster.places import is_url, store_of

PARQUET = ".parquet"
NAMES = ("path", "name", "file_name", "filename", "file", "url", "id", "key")
"""Columns of a Parquet file that name its pictures; the first one that is there does."""
CONTENTS = ("bytes", "image", "picture", "content", "data")
"""Columns that hold pictures; otherwise the only one of bytes does."""


@dataclass(frozen=True)
class Rows:
    """Rows of a Parquet file in which pictures stand.

    Attributes
    ----------
    file : str
        Its address.
    group : int
        The row group.
    first : int
        The first of the rows, from the group's own first.
    column : str
        Where the pictures stand: a column of bytes, or one of records with an entry ``bytes``.
    """

    file: str
    group: int
    first: int
    column: str


@dataclass(frozen=True)
class Run:
    """Pictures that one task may take, one behind the other.

    Attributes
    ----------
    names : list of str
        What each picture is called in the results, such as its path.
    rows : Rows or None
        Where they stand; None where the names are addresses.
    """

    names: list[str]
    rows: Rows | None = None


def listed(pictures: Any, without: str = "") -> list[Run]:
    """List pictures.

    Parameters
    ----------
    pictures : str, Path, or iterable of these
        Picture files, folders (with all that is in them), addresses of stores, Parquet files. A folder without pictures
        stands for its Parquet files.
    without : str
        A folder whose files are left out: that of the results.

    Returns
    -------
    list of Run
        Each name once.

    Raises
    ------
    ParameterError
        There is no picture, or what is given is no path.
    FrameError
        A folder, store or Parquet file cannot be read.
    """
    given = [pictures] if isinstance(pictures, (str, os.PathLike)) else pictures
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):
        raise ParameterError(f"pictures is {shown(pictures)}; paths or addresses of pictures are needed")
    files: dict[str, None] = {}
    parquet: dict[str, None] = {}
    for one in given:
        if not isinstance(one, (str, os.PathLike)):
            raise ParameterError(f"pictures holds {shown(one)}; paths or addresses of pictures are needed")
        try:
            found = _files(os.fsdecode(one), without)
        except OSError as error:
            raise FrameError(f"'{os.fsdecode(one)}' cannot be listed: {first_line(error)}") from error
        for name in found:
            (parquet if name.lower().endswith(PARQUET) else files)[name] = None
    runs = [Run(list(files))] if files else []
    runs += _of_parquet(list(parquet))
    if not any(run.names for run in runs):
        raise ParameterError("there is no picture to explain among what was given")
    return runs


def _files(address: str, without: str) -> list[str]:
    """A file, or all pictures below a folder; its Parquet files where it has no pictures."""
    if is_url(address):
        system, path = store_of(address)
        if not path.lower().endswith(PARQUET) and system.isdir(path):
            results = store_of(without)[1].rstrip("/") + "/" if is_url(without) else "\0"
            found = [p for p in sorted(map(str, system.find(path))) if not p.startswith(results)]
            return _wanted(str(system.unstrip_protocol(p)) for p in found)
        return [address]
    if not Path(address).is_dir():
        return [address]
    out = os.path.realpath(without) if without and not is_url(without) else None
    found = []
    for folder, below, names in os.walk(address):
        below[:] = sorted(b for b in below if out is None or os.path.realpath(Path(folder, b)) != out)
        found += [str(Path(folder, name)) for name in sorted(names)]
    return _wanted(found)


def _wanted(paths: Iterable[str]) -> list[str]:
    kept = [p for p in paths if os.path.splitext(p)[1].lower() in {*PICTURES, PARQUET}]  # noqa: PTH122 - also of URLs
    pictures = [p for p in kept if not p.lower().endswith(PARQUET)]
    return pictures or kept


# Parquet --------------------------------------------------------------------------------------------


def open_parquet(address: str) -> Any:
    """A Parquet file, open; a context manager.

    Raises
    ------
    FrameError
        It cannot be read.
    """
    import pyarrow.parquet

    try:
        if not is_url(address):
            return pyarrow.parquet.ParquetFile(address)
        system, path = store_of(address)
        return pyarrow.parquet.ParquetFile(path, filesystem=system)
    except (OSError, ValueError) as error:
        raise FrameError(f"'{address}' cannot be read as a Parquet file: {first_line(error)}") from error


def _of_parquet(addresses: Sequence[str]) -> list[Run]:
    """The pictures of Parquet files, by their names where each has one of its own, else as ``FILE#ROW``."""
    runs: list[Run] = []
    links: dict[str, None] = {}
    for address in addresses:
        with open_parquet(address) as file:
            schema = file.schema_arrow
            naming = next((n for n in NAMES if n in schema.names and _is_text(schema.field(n).type)), None)
            column = _contents(schema)
            if column is None and naming is None:
                raise FrameError(
                    f"'{address}' has no column of pictures: one of bytes, or one named path with their addresses, is "
                    f"needed; there are {', '.join(map(str, schema.names[:20]))}"
                )
            row = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                names: list[Any] = [None] * count
                if naming is not None:
                    names = file.read_row_group(group, columns=[naming]).column(naming).to_pylist()
                if column is None:
                    links.update((_beside(address, name), None) for name in names if name)
                else:
                    called = [name or f"{address}#{row + i}" for i, name in enumerate(names)]
                    runs.append(Run(called, Rows(address, group, 0, column)))
                row += count
    everything = [name for run in runs for name in run.names]
    if len(set(everything)) < len(everything):
        runs = list(_numbered(runs))
    return [*([Run(list(links))] if links else []), *runs]


def _numbered(runs: Iterable[Run]) -> Iterator[Run]:
    row: dict[str, int] = {}
    for run in runs:
        assert run.rows is not None
        first = row.get(run.rows.file, 0)
        row[run.rows.file] = first + len(run.names)
        yield Run([f"{run.rows.file}#{first + i}" for i in range(len(run.names))], run.rows)


def _contents(schema: Any) -> str | None:
    fitting = [field.name for field in schema if _is_bytes(field.type)]
    return next((name for name in CONTENTS if name in fitting), fitting[0] if len(fitting) == 1 else None)


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _is_bytes(kind: Any) -> bool:
    if str(kind).startswith("struct"):
        return any(
            kind.field(i).name == "bytes" and _is_bytes(kind.field(i).type) for i in range(kind.num_fields)
        )
    return str(kind) in ("binary", "large_binary", "binary_view")


def _beside(parquet: str, name: str) -> str:
    """A picture's address; a relative one starts at the Parquet file's folder."""
    if is_url(name) or Path(name).is_absolute():
        return name
    if is_url(parquet):
        return f"{parquet.rsplit('/', 1)[0]}/{name}"
    return str(Path(parquet).parent / name)


def contents(rows: Rows, wanted: Sequence[int]) -> Iterator[bytes]:
    """Yield pictures of a Parquet file.

    Parameters
    ----------
    rows : Rows
        Where they stand.
    wanted : sequence of int
        Which ones, from `rows.first` on, in rising order.

    Raises
    ------
    FrameError
        The file cannot be read.
    """
    left = list(wanted)[::-1]
    position = -rows.first
    with open_parquet(rows.file) as file:
        for batch in file.iter_batches(batch_size=32, row_groups=[rows.group], columns=[rows.column]):
            while left and left[-1] < position + batch.num_rows:
                value = batch.column(0)[left.pop() - position].as_py()
                yield (value.get("bytes") if isinstance(value, dict) else value) or b""
            position += batch.num_rows
            if not left:
                return
