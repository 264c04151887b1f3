"""Class names, from the user or a file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from sise_ort.errors import ExportError
from sise_ort.exporter.sources.onnx_proto import regular_file

LARGEST = 1 << 26
"""Bytes of a file of labels."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_labels(
    labels: str | Path | Sequence[str] | None, classes: int, known: tuple[str, ...]
) -> tuple[str, ...]:
    """Class names from a sequence, a text file with one name a line, or a JSON list.

    Parameters
    ----------
    labels : sequence of str, or path, or None
        None takes the source's own.
    classes : int
        How many there must be.
    known : tuple of str
        The source's own.

    Raises
    ------
    ExportError
        The file cannot be read, the number of names is not the number of classes, or a name cannot be printed.
    """
    if labels is None:
        return known if len(known) == classes else ()
    where = ""
    if isinstance(labels, (str, Path)):
        where = f" in '{labels}'"
        names = _from_file(Path(labels))
    else:
        if isinstance(labels, (Mapping, Set, bytes)):  # keys, or no order at all
            raise ExportError(
                f"the labels are a {type(labels).__name__}; a list of names in the order of the classes is needed, or a file"
            )
        try:
            names = [str(name) for name in labels]
        except TypeError as error:
            raise ExportError(
                f"the labels are {type(labels).__name__}; a list of names or a file is needed"
            ) from error
    if len(names) != classes:
        raise ExportError(f"there are {len(names)} labels{where}, but the network has {classes} classes")
    for number, name in enumerate(names):
        if _UNPRINTABLE.search(name):
            raise ExportError(
                f"label {number}{where}, {name[:60]!a}, holds control characters or halves of characters; names must be "
                "printable text"
            )
    return tuple(names)


def _from_file(path: Path) -> list[str]:
    facts = regular_file(path, "file of labels")
    if facts is None:
        raise ExportError(f"the labels in '{path}' cannot be read: there is no such file")
    if facts.st_size > LARGEST:
        raise ExportError(
            f"the labels in '{path}' have {facts.st_size:,} bytes; at most {LARGEST:,} are read"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        names: Any = json.loads(text) if path.suffix.lower() == ".json" else re.split(r"\r\n|\n|\r", text)
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"the labels in '{path}' cannot be read: {error}") from error
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ExportError(f"'{path}' must hold a JSON list of names")
    names = [n.strip() for n in names]
    while names and not names[-1]:
        names.pop()
    return names


def repeated(labels: Sequence[str]) -> str:
    """A sentence that names labels which several classes bear; "" where none do."""
    twice = [name for name, count in Counter(labels).items() if count > 1]
    if not twice:
        return ""
    named = ", ".join(f"'{name}'" for name in twice[:3]) + (" and more" if len(twice) > 3 else "")
    return f"note: several classes are called {named}; name such a class by its number"
