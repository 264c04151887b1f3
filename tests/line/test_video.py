"""Cameras and streams: every N-th frame, opened again when silent; passwords are not told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from sise_ort.errors import FrameError, ParameterError
from sise_ort.line.sources import Item, open_source, video
from sise_ort.line.sources.video import Camera


class Known:
    def known(self, key: str) -> bool:
        return False

    def outcome(self, key: str) -> str:
        return "done"


class Capture:
    """A camera that gives some frames each time that it is opened.

    Attributes
    ----------
    opened : list
        What it was opened with.
    gives : list of int
        Frames that it gives after each opening.
    """

    opened: list[Any]
    gives: list[int]

    def __init__(self, address: Any, *_: Any) -> None:
        self.opened.append(address)
        self._left = self.gives.pop(0) if self.gives else 0

    def grab(self) -> bool:
        self._left -= 1
        return self._left >= 0

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.full((2, 3, 3), (1, 2, 3), np.uint8)  # blue, green, red

    def release(self) -> None:
        pass


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[Capture]:
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(video, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(video, "LONGEST_PAUSE", 0.002)
    Capture.opened, Capture.gives = [], []
    return Capture


def take(camera: Camera, count: int) -> Iterator[Item]:
    stop = threading.Event()
    for number, item in enumerate(camera.items(stop, Known()), 1):
        yield item
        if number == count:
            stop.set()


def test_a_silent_camera_is_opened_again(capture: type[Capture], caplog: pytest.LogCaptureFixture) -> None:
    capture.gives = [3, 0, 0, 2]
    with caplog.at_level(logging.WARNING, "sise_ort.line"):
        items = list(take(Camera(0), 5))
    assert capture.opened == [0] * 4
    assert [item.meta["frame"] for item in items] == [1, 2, 3, 4, 5]
    assert len({item.part_id for item in items}) == 5
    assert not any(item.waits or item.key for item in items)
    assert [r.message for r in caplog.records] == [
        "camera 0 sends no frames, which is tried again",
        "camera 0 sends frames again",
    ]


def test_every_other_frame_in_rgb(capture: type[Capture]) -> None:
    capture.gives = [7]
    items = list(take(Camera("rtsp://user:secret@host/line", 2), 3))
    assert [item.meta["frame"] for item in items] == [2, 4, 6]
    np.testing.assert_array_equal(items[0].frame[0, 0], [3, 2, 1])
    assert items[0].name == "the stream rtsp://host/line"


def test_what_is_no_source() -> None:
    with pytest.raises(ParameterError, match="neither a folder"):
        open_source("no such folder")
    with pytest.raises(FrameError, match="no video"):
        open_source(__file__)
    assert open_source("rtsp://a:b@c/d@e").words == "the stream rtsp://c/d@e"
