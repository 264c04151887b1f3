"""SHA-256 of files: of one on the disk, and of several while they are read."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

PART = 8 << 20
"""Bytes read and hashed at once: each call gives up Python's lock, and may wait 5 ms until it has it again."""


class Hashing:
    """Hashes what is read in a thread of its own, so that reading and checking go on meanwhile.

    Use it in a `with` statement: whatever ends the block ends the thread, too.

    Examples
    --------
    >>> with Hashing() as hashing:
    ...     hashing.add("weights.bin", memoryview(b"first "))
    ...     hashing.add("weights.bin", memoryview(b"second"))
    ...     hashing.digests()["weights.bin"][:8]
    '92088ec1'
    """

    def __init__(self) -> None:
        self._parts: SimpleQueue[tuple[str, memoryview] | None] = SimpleQueue()
        self._found: dict[str, str] = {}
        self._failed: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="sise-ort hashing", daemon=True)

    def __enter__(self) -> Hashing:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True  # what is still to be hashed is not wanted any more
        self._parts.put(None)

    def add(self, name: str, part: memoryview) -> None:
        """Hash the next bytes of a file; they must stay as they are."""
        self._parts.put((name, part))

    def digests(self) -> dict[str, str]:
        """Wait, and return the SHA-256 of all files as hexadecimal digits, by name; nothing can be added any more."""
        self._parts.put(None)
        self._thread.join()
        if self._failed is not None:
            raise self._failed
        return self._found

    def _work(self) -> None:
        try:
            digests: dict[str, hashlib._Hash] = {}
            while (given := self._parts.get()) is not None and not self._ended:
                name, part = given
                if name not in digests:
                    digests[name] = hashlib.sha256()
                digests[name].update(part)
            self._found = {name: digest.hexdigest() for name, digest in digests.items()}
        except BaseException as error:  # noqa: BLE001 - whoever waits for the digests hears of it
            self._failed = error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
