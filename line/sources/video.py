"""Frames of a video file, a stream such as RTSP, or a camera of this machine, through OpenCV."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2

from sise_ort.errors import FrameError
from sise_ort.line.sources.files import Look
from sise_ort.line.sources.item import Item, Ledger, readable, short

LOG = logging.getLogger("sise_ort.line")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two attempts to reach a camera: the first pause, doubled up to the longest."""
SILENCE = 10_000
"""Milliseconds after which a stream that sends nothing is opened again."""


class VideoFile:
    """Every N-th frame of a video file.

    Parameters
    ----------
    path : Path
        The file.
    every : int
        N.

    Raises
    ------
    FrameError
        OpenCV cannot open it.
    """

    live = False

    def __init__(self, path: Path, every: int = 1) -> None:
        self.path, self._every, self.words = path, every, f"the video '{path}'"
        self._opened().release()

    def items(self, stop: threading.Event, ledger: Ledger) -> Iterator[Item]:
        """Yield frames without a record; frames with one are passed over without decoding their pixels."""
        look, video = Look.at(self.path.resolve()), self._opened()
        file, name = look.key(readable(self.path.name)) if look else "", readable(self.path)
        stem, number = short(Path(name).stem, 190), 0
        try:
            while not stop.is_set() and video.grab():
                key = f"{file}|frame {number}"
                if number % self._every == 0 and not ledger.known(key):
                    done, pixels = video.retrieve()
                    if done:
                        rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                        meta = {"video": name, "frame": number}
                        yield Item(rgb, f"{stem}-{number:06}", key, f"{name}#{number}", meta)
                number += 1
        finally:
            video.release()
        if not number and not stop.is_set():
            raise FrameError(f"the video '{self.path}' holds no frame that OpenCV can read")

    def settle(self, item: Item, outcome: str) -> None:
        """Do nothing: the records tell which are done."""

    def _opened(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened():
            raise FrameError(f"'{self.path}' is no video that OpenCV can open")
        return video


class Camera:
    """Every N-th frame of a camera or stream; it is opened again whenever it falls silent.

    Parameters
    ----------
    address : int or str
        Number of a camera of this machine, or a stream's address such as ``rtsp://host/line``.
    every : int
        N.
    """

    live = True

    def __init__(self, address: int | str, every: int = 1) -> None:
        self._address, self._every = address, every
        self.words = (
            f"camera {address}" if isinstance(address, int) else f"the stream {_without_password(address)}"
        )

    def items(self, stop: threading.Event, ledger: Ledger) -> Iterator[Item]:
        """Yield frames as they come; each is a new part, named by its moment in UTC and its number since the start."""
        pause, number, silent = FIRST_PAUSE, 0, False
        while not stop.is_set():
            camera = self._opened()
            while not stop.is_set() and camera.grab():
                if silent:
                    LOG.warning("%s sends frames again", self.words)
                silent, pause = False, FIRST_PAUSE
                number += 1
                if number % self._every:
                    continue
                done, pixels = camera.retrieve()
                if done:
                    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
                    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                    yield Item(
                        rgb, f"{moment}-{number}", name=self.words, meta={"frame": number}, waits=False
                    )
            camera.release()
            if not silent and not stop.is_set():
                LOG.error("%s sends no frames, which is tried again", self.words)
            silent = True
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def settle(self, item: Item, outcome: str) -> None:
        """Do nothing: a frame that has gone by does not come again."""

    def _opened(self) -> cv2.VideoCapture:
        if isinstance(self._address, int):
            return cv2.VideoCapture(self._address)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, SILENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, SILENCE]
        return cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, limits)


def _without_password(address: str) -> str:
    """An address without what stands before its @, which may be a password."""
    scheme, found, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{found}{place.rpartition('@')[2]}{slash}{path}"
