"""One picture's way through the queue."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sise_ort.line.server.refusal import Refusal, refusal_of
from sise_ort.line.server.wishes import Wish
from sise_ort.runtime.preparing import Prepared


@dataclass(eq=False)
class Job:
    """A picture that waits, or is worked on.

    Attributes
    ----------
    prepared : Prepared
        The picture.
    wish : Wish or None
        What is to be explained; None where the network's own answer is asked for.
    ends : float
        Moment, by `time.perf_counter`, at which nobody waits any more.
    future : Future
        Its answer: explanations (one or a list), or the network's outputs by name.
    arrived : float
        Moment of its arrival.
    gone : bool
        Whether its client has gone away.
    """

    prepared: Prepared
    wish: Wish | None
    ends: float
    future: Future[Any] = field(default_factory=Future)
    arrived: float = field(default_factory=time.perf_counter)
    gone: bool = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.gone or time.perf_counter() > self.ends

    @property
    def waited(self) -> float:
        """Seconds since its arrival."""
        return time.perf_counter() - self.arrived

    def answer(self, result: Any) -> None:
        """Give its answer."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Give the reason why it has none."""
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self) -> None:
        """Say that its time is over."""
        self.fail(
            Refusal(504, "the request's time is over: take fewer passes, or send fewer requests at once")
        )

    def refuse(self, error: Exception) -> None:
        """Give an error as the answer to a request."""
        self.fail(refusal_of(error))


class Overdue(Exception):
    """Nobody waits any more for what is being worked on."""
