"""Prepares frames and questions for the graphs, one picture ahead of the one that is explained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import FrameError, option
from sise_ort.fitting import Placement, fit_frame, to_channels
from sise_ort.frame import Frame, read
from sise_ort.levels import Range
from sise_ort.readouts import Question
from sise_ort.runtime.methods.method import Picture
from sise_ort.runtime.providers import Tensor


@dataclass(frozen=True)
class Prepared:
    """A frame as the graphs take it.

    Attributes
    ----------
    frame : Frame
        The frame as given, with notes on how it was read.
    fitted : array, [H, W, C]
        The frame at network size.
    placement : Placement
        How the two lie on each other.
    seconds : float
        How long preparing it took.
    """

    frame: Frame
    fitted: NDArray[Any]
    placement: Placement
    seconds: float


@dataclass(frozen=True)
class Asked:
    """An uploaded picture with its questions.

    Attributes
    ----------
    prepared : Prepared
        The frame.
    image : tensor, [1, H, W, C]
        The frame on the device.
    questions : list of Question
        What is asked; empty where no class is over 0.5.
    several : bool
        Whether the answer is a list.
    forward_passes : int
        Network inputs that finding the questions took.
    seconds : float
        How long uploading and finding the questions took.
    """

    prepared: Prepared
    image: Tensor
    questions: list[Question]
    several: bool
    forward_passes: int
    seconds: float

    @property
    def picture(self) -> Picture:
        """The picture as methods take it."""
        return Picture(self.image, self.questions, self.prepared.seconds + self.seconds)


def prepare(manifest: Manifest, source: Any, color: str = "rgb", levels: Range = None) -> Prepared:
    """Read a frame and bring it to network size.

    Parameters
    ----------
    manifest : Manifest
        What the bundle takes.
    source, color, levels
        As for `sise_ort.frame.read`.

    Returns
    -------
    Prepared

    Raises
    ------
    FrameError, ParameterError
        As `sise_ort.frame.read`; or the frame is float32 and the bundle takes uint8.
    """
    started = time.perf_counter()
    frame, spec = read(source, color, levels), manifest.input
    picture = frame.pixels
    if spec.frame_dtype == "uint8" and picture.dtype != np.uint8:
        if frame.levels is None:
            raise FrameError(
                f"the frame is float32, the bundle takes uint8: pass {option('levels', 255)} to round it, or export "
                f"with {option('frame_dtype', 'float32')}"
            )
        picture = np.rint(picture).astype(np.uint8)
    wanted = to_channels(picture, spec.channels).astype(spec.frame_dtype, copy=False)
    fitted, placement = fit_frame(wanted, spec, manifest.fit)
    return Prepared(frame, fitted, placement, time.perf_counter() - started)


def ahead(prepare: Callable[[Any], Prepared], frames: Iterable[Any]) -> Iterator[Prepared | FrameError]:
    """Yield frames prepared by a thread that is one frame ahead, in their order, and FrameErrors in their places.

    The next frame is asked for when the one before it was read.
    """

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
            wait((following,))  # the caller may write the next picture over this one
        if following is not None:
            yield following.result()
