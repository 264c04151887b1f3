"""A picture file as a source sees it: its key, and whether it is complete."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sise_ort.line.sources.item import Item, readable, short

LONGEST_PATH = 200
"""Characters of a path that stand in a key; of longer ones their digest does."""


@dataclass(frozen=True)
class Look:
    """What a file looked like at a moment; a file that looks different is another picture.

    Attributes
    ----------
    size : int
        Its bytes.
    changed : int
        When it was last written, in nanoseconds.
    """

    size: int
    changed: int

    @classmethod
    def at(cls, path: Path) -> Look | None:
        """The file as it is now; None where it is gone or no regular file: links are not followed."""
        try:
            found = os.lstat(path)
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def key(self, name: str) -> str:
        """The key of the picture: the file's name below its folder, its size, and the time of its last change."""
        if len(name) > LONGEST_PATH:
            name = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        return f"{name}|{self.size}|{self.changed}"


def file_item(
    path: Path, name: str, look: Look, *, waits: bool, meta: Mapping[str, str] | None = None
) -> Item:
    """A file as an item: the part has the file's name without its ending."""
    words = readable(name)
    part_id = short(str(Path(words).with_suffix(""))) or "frame"
    return Item(path, part_id, look.key(words), readable(path), {"file": words, **(meta or {})}, waits)
