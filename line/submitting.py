"""From what a caller submits to a part on its way: checked, and copied where the caller may change it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sise_ort.errors import ParameterError, option, shown
from sise_ort.line.jobs import UNCLASSIFIED, Job, Result

LONGEST_PART_ID, LONGEST_NAME = 200, 100
"""Characters of a part's and of a line's name."""


def new_job(
    frame: Any,
    part_id: str,
    meta: Mapping[str, Any] | None,
    done: Callable[[Result], None] | None,
    key: str,
    name: str,
) -> Job:
    """A part that begins its way.

    Parameters
    ----------
    frame, part_id, meta, done, key, name
        As for `Line.submit`.

    Raises
    ------
    ParameterError
        The part has no usable name, or `meta` cannot stand in a record.
    """
    if not isinstance(part_id, str) or not 0 < len(part_id) <= LONGEST_PART_ID or "\0" in part_id:
        raise ParameterError(
            f"{option('part_id')} is {shown(part_id)}; text of 1 to {LONGEST_PART_ID} characters without NUL is needed"
        )
    if isinstance(frame, (str, os.PathLike)):
        frame = Path(frame)
    elif isinstance(frame, (bytes, bytearray, memoryview)):
        frame = bytes(frame)
    else:
        frame = np.array(frame)
    result = Result(part_id, UNCLASSIFIED, meta=_copied(meta))
    return Job(frame, result, name or (str(frame) if isinstance(frame, Path) else ""), key, done)


def check_name(name: Any) -> None:
    """Refuse what cannot be a line's name.

    Raises
    ------
    ParameterError
        It is no printable text of 1 to 100 characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ParameterError(
            f"the line's name is {shown(name)}; printable text of 1 to {LONGEST_NAME} characters is needed"
        )


def _copied(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the caller may change, as it is now."""
    if not meta:
        return {}
    try:
        found = msgspec.json.decode(msgspec.json.encode(dict(meta)))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ParameterError(
            f"{option('meta')} cannot stand in a record: {error}; text, numbers, lists and mappings of them can"
        ) from error
    assert isinstance(found, dict)
    return found
