"""A queue with a bound, between the threads of a line."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """Takes items without waiting, and says which one has found no place.

    Parameters
    ----------
    places : int
        Items that may wait.
    newest_first : bool
        Whether the newest item is the next one, and the oldest has to go where the queue is full; else the oldest is the
        next one, and a new one finds no place.
    """

    def __init__(self, places: int, *, newest_first: bool = False) -> None:
        self.places, self._newest_first = places, newest_first
        self._items: deque[T] = deque()
        self._change = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> T | None:
        """Add an item, without waiting.

        Returns
        -------
        item or None
            The item that has found no place: the new one, or the oldest; None where there was room.
        """
        with self._change:
            refused = None
            if len(self._items) >= self.places or self._closed:
                if not self._newest_first or self._closed:
                    return item
                refused = self._items.popleft()
            self._items.append(item)
            self._change.notify_all()
            return refused

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more: the queue is closed and empty."""
        with self._change:
            return self._closed and not self._items

    def get(self, seconds: float | None = None) -> T | None:
        """The next item, when there is one; None where the queue has ended, or nothing came for some seconds."""
        with self._change:
            self._change.wait_for(lambda: self._items or self._closed, seconds)
            if not self._items:
                return None
            item = self._items.pop() if self._newest_first else self._items.popleft()
            self._change.notify_all()
            return item

    def wait_for_room(self, seconds: float | None = None) -> bool:
        """Wait until an item would find a place.

        Returns
        -------
        bool
            Whether it would; False where the time is over or the queue is closed.
        """
        with self._change:
            self._change.wait_for(lambda: self._closed or len(self._items) < self.places, seconds)
            return not self._closed and len(self._items) < self.places

    def close(self) -> None:
        """Take nothing more; what waits is still given out."""
        with self._change:
            self._closed = True
            self._change.notify_all()
