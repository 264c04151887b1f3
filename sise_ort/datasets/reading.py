"""Folders and files of data sets: which are there, and what they hold, with the line of every row."""

from __future__ import annotations

import csv
import io
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from sise_ort.errors import DatasetError

PICTURES = frozenset(".bmp .gif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
"""Endings of picture files, in lower case."""
MAX_BYTES = 1 << 32
"""Files of annotations with more bytes than this (4 GiB) are refused."""


def one_of(root: Path, names: Sequence[str], what: str) -> Path:
    """Return the first of some paths that exists.

    Parameters
    ----------
    root : Path
        The data set's folder.
    names : sequence of str
        Paths below it.
    what : str
        What is looked for, in words for the error.

    Returns
    -------
    Path

    Raises
    ------
    DatasetError
        None of them exists.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise DatasetError(f"'{root}' has no {what}: there is no {' and no '.join(names)} in it")


def read_bytes(file: Path) -> bytes:
    """Read a whole file of a data set.

    Parameters
    ----------
    file : Path
        Any file.

    Returns
    -------
    bytes

    Raises
    ------
    DatasetError
        It cannot be read, has more than 4 GiB, or is no regular file: reading a named pipe would wait.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"'{file}' is no regular file")
        if status.st_size > MAX_BYTES:
            raise DatasetError(f"'{file}' has {status.st_size} bytes, more than {MAX_BYTES}")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DatasetError(f"'{file}' cannot be read: {words}") from error


def read_text(file: Path) -> str:
    """Read a text file in UTF-8; bytes that are none become the replacement character.

    Parameters
    ----------
    file : Path
        Any file.

    Returns
    -------
    str
        Without a byte order mark.

    Raises
    ------
    DatasetError
        As `read_bytes`.
    """
    return read_bytes(file).decode("utf-8-sig", errors="replace")


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the rows of a CSV file.

    Parameters
    ----------
    file : Path
        A file with a header.

    Yields
    ------
    line : int
        From 1; where the row ends.
    row : dict of str
        By the header's names. A row that is too short or too long has the key ``""`` with words on that.

    Raises
    ------
    DatasetError
        As `read_bytes`.
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""))
    try:
        names = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not cells:
                continue
            row = dict(zip(names, cells, strict=False))
            if len(cells) != len(names):
                row[""] = f"{len(cells)} columns where the header has {len(names)}"
            yield reader.line_num, row
    except csv.Error as error:
        yield reader.line_num, {"": f"it is not CSV ({error}); what follows was not read"}


def pictures_in(folder: Path) -> list[Path]:
    """List the picture files of a folder.

    Parameters
    ----------
    folder : Path
        The folder; those in it are not looked at.

    Returns
    -------
    list of Path
        By name.
    """
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
