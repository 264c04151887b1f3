"""How many bytes of pictures a server holds at once."""

from __future__ import annotations

import threading

from sise_ort.line.server.refusal import Refusal


class Memory:
    """Counts the bytes of uploads and decoded pictures, and refuses more than a limit.

    Parameters
    ----------
    limit : int
        Bytes in all.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that are held."""
        return self._used

    def hold(self, count: int) -> None:
        """Count more bytes.

        Raises
        ------
        Refusal
            With status 429: there is no room for them now.
        """
        with self._lock:
            if self._used + count > self._limit:
                raise Refusal(
                    429,
                    "the server holds as many pictures as it may: try again later",
                    headers={"Retry-After": "1"},
                )
            self._used += count

    def give_back(self, count: int) -> None:
        """Count fewer bytes."""
        with self._lock:
            self._used -= count


class Share:
    """One request's part of the memory; given back as a whole.

    Parameters
    ----------
    memory : Memory
        What all requests share.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory, self._held = memory, 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, 0
        self._memory.give_back(held)

    def hold(self, count: int) -> None:
        """Hold more bytes; see `Memory.hold`."""
        self._memory.hold(count)
        self._held += count
