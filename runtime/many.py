"""Explains many pictures in their order, while their masks share batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sise_ort.errors import FrameError
from sise_ort.explanation import Explanation
from sise_ort.runtime.checking import Checks, with_verdicts
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Method, Picture
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.preparing import Asked, Prepared
from sise_ort.runtime.results import explanations


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every picture.

    Attributes
    ----------
    ask : callable
        Finds the questions about a prepared picture.
    method : Method
        Answers them.
    checks : Checks or None
        Checks the answers.
    keep_errors : bool
        Whether a picture that cannot be explained gives its error, in place of raising it.
    """

    ask: Callable[[Prepared], Asked]
    method: Method
    checks: Checks | None
    keep_errors: bool


def explained(
    model: BundleModel,
    frames: Iterable[Prepared | FrameError],
    wanted: Wanted,
    call: Call,
    notes: tuple[str, ...],
) -> Iterator[Explanation | list[Explanation] | FrameError]:
    """Explain prepared pictures.

    Parameters
    ----------
    model : BundleModel
        The bundle.
    frames : iterable of Prepared or FrameError
        The pictures, and the errors of those that cannot be read.
    wanted : Wanted
        What is asked, and how it is answered.
    call : Call
        Who hears how far each picture is.
    notes : tuple of str
        Those of the explainer.

    Yields
    ------
    Explanation, list of Explanation, or FrameError
        In the order of the pictures.
    """
    waiting: deque[Asked | FrameError] = deque()

    def pictures() -> Iterator[Picture]:
        for prepared in frames:
            if isinstance(prepared, FrameError):
                waiting.append(prepared)
                continue
            try:
                asked = wanted.ask(prepared)
            except FrameError as error:
                waiting.append(error)
                continue
            waiting.append(asked)
            if asked.questions:
                wanted.method.require(model.manifest, asked.questions)
                yield asked.picture

    def settled() -> Iterator[list[Explanation] | FrameError]:
        """Yield leading results that need no run, to keep the order."""
        while waiting:
            first = waiting[0]
            if isinstance(first, Asked) and first.questions:
                return
            waiting.popleft()
            if isinstance(first, FrameError) and not wanted.keep_errors:
                raise first
            yield first if isinstance(first, FrameError) else []

    for found in wanted.method.explain_many(model, pictures(), call):
        yield from settled()
        asked = waiting.popleft()
        assert isinstance(asked, Asked)
        try:
            if isinstance(found, FrameError):
                raise found
            if wanted.checks is not None:
                found = with_verdicts(model, asked, found, wanted.checks)
        except FrameError as error:
            if not wanted.keep_errors:
                raise
            yield error
            continue
        results = explanations(model, asked, wanted.method, found, None, notes)
        yield results if asked.several else results[0]
    yield from settled()
