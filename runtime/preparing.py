"""Pictures and the questions about them, made ready for the graphs one ahead of the picture that is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.frame import Placement
from sise_ort.runtime.method import Question
from sise_ort.runtime.providers import Tensor


@dataclass(frozen=True)
class Prepared:
    """A frame as the graphs take it.

    Attributes
    ----------
    picture : array, [H0, W0, C]
        The frame as given.
    fitted : array, [H, W, C]
        The frame at network size.
    placement : Placement
        How the two lie on each other.
    name : str
        Path of the picture's file, "" for an array.
    started, seconds : float
        When preparing it began, on `time.perf_counter`, and how long it took.
    """

    picture: NDArray[Any]
    fitted: NDArray[Any]
    placement: Placement
    name: str
    started: float
    seconds: float


@dataclass(frozen=True)
class Asked:
    """An uploaded picture with its questions.

    Attributes
    ----------
    image : tensor
        The frame on the device.
    questions : list of Question
        What is asked; empty where no class is over 0.5.
    several : bool
        Whether the answer is a list.
    passes : int
        Network inputs that finding the questions took.
    seconds : float
        How long uploading and finding the questions took.
    """

    image: Tensor
    questions: list[Question]
    several: bool
    passes: int
    seconds: float


def ahead(prepare: Callable[[Any], Prepared], frames: Iterable[Any]) -> Iterator[Prepared | FrameError]:
    """Yield frames prepared by a thread that is one frame ahead, in their order, and FrameErrors in their places."""

    def attempt(frame: Any) -> Prepared | FrameError:
        try:
            return prepare(frame)
        except FrameError as error:
            return error

    with ThreadPoolExecutor(1) as thread:
        following: Future[Prepared | FrameError] | None = None
        for frame in frames:
            present, following = following, thread.submit(attempt, frame)
            if present is not None:
                yield present.result()
        if following is not None:
            yield following.result()
