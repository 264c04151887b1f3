"""Heat maps as people see them: overlays, captions, PNG."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import OutputError, first_line, printable

Picture = NDArray[np.uint8]
P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 360
"""Pixels that a caption needs."""
ENLARGED = 1 << 22
"""Pixels that an enlarged picture may have; larger ones are not enlarged."""
STRIP = 1 << 20
"""Pixels that are coloured at once."""
DARK = 24
"""Gray value of the bar below a picture."""
LETTERS = 300
"""Letters that a caption has at most."""


def _translated(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function raise OutputError where OpenCV refuses, or memory does not suffice."""

    @functools.wraps(draw)
    def translated(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return draw(*arguments, **options)
        except cv2.error as error:
            words = getattr(error, "err", "") or first_line(error)
            raise OutputError(f"the picture cannot be drawn: {words}") from error
        except MemoryError as error:
            raise OutputError(
                "the picture cannot be drawn: there is not enough memory for its size"
            ) from error

    return translated


def as_rgb(frame: NDArray[Any]) -> Picture:
    """Turn a frame into an 8-bit RGB picture.

    Parameters
    ----------
    frame : array [H, W, 1 or 3]
        Gray or RGB; values are rounded and cut to 0 to 255.

    Returns
    -------
    uint8 [H, W, 3]
    """
    whole = np.clip(np.rint(frame), 0, 255).astype(np.uint8) if frame.dtype != np.uint8 else frame
    return np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else np.ascontiguousarray(whole)


@_translated
def overlay(frame: NDArray[Any], heatmap: NDArray[np.float32]) -> Picture:
    """Colour a frame by its heat map: untouched where the map is 0, turbo colours up to 65 % where it is 1.

    Parameters
    ----------
    frame : array [H, W, 1 or 3]
        RGB or gray, 0 to 255.
    heatmap : float32 [H, W]
        Values in [0, 1].

    Returns
    -------
    uint8 [H, W, 3]
        RGB.

    Raises
    ------
    OutputError
        There is not enough memory.
    """
    height, width = heatmap.shape
    drawn = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP // max(width, 1))
    for top in range(0, height, rows):  # strips: floating-point copies of a large frame would fill the memory
        drawn[top : top + rows] = _overlay(frame[top : top + rows], heatmap[top : top + rows])
    return drawn


def _overlay(frame: NDArray[Any], heatmap: NDArray[np.float32]) -> Picture:
    picture = as_rgb(frame).astype(np.float32)
    levels = np.rint(60 + 195 * heatmap).astype(np.uint8)  # leave out turbo's near-black blues
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB).astype(np.float32)
    weight = (0.65 * np.clip(heatmap * 1.6, 0, 1))[:, :, None]
    mixed = np.rint(picture * (1 - weight) + colors * weight)
    return np.asarray(mixed, dtype=np.uint8)


@_translated
def captioned(picture: Picture, caption: str) -> Picture:
    """Put a dark bar with text below a picture.

    Parameters
    ----------
    picture : uint8 [H, W, 3]
        RGB. Small pictures are enlarged, as far as `ENLARGED` allows; what is still narrower than 360 pixels gets a
        margin on its right.
    caption : str
        Its last part, behind `` · ``, is kept where the text is too long. Characters that cannot be drawn are shown as
        escapes.

    Returns
    -------
    uint8 [H', W', 3]
        RGB, at least 360 pixels wide.

    Raises
    ------
    OutputError
        There is not enough memory.
    """
    height, width = picture.shape[:2]
    scale = max(1, min(-(-WIDTH // width), ENLARGED // (WIDTH * height)))
    if scale > 1:
        picture = cv2.resize(picture, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC).astype(
            np.uint8
        )
        picture = picture.reshape(height * scale, width * scale, 3)
    if picture.shape[1] < WIDTH:
        picture = np.pad(picture, ((0, 0), (0, WIDTH - picture.shape[1]), (0, 0)), constant_values=DARK)
    width = picture.shape[1]
    size = int(np.clip(width / 28, 15, 48))
    bar = np.full((round(size * 2.0), width, 3), DARK, np.uint8)
    margin = size // 2
    _text(bar, _fitting(printable(caption), width - 2 * margin, size), (margin, round(size * 1.36)), size)
    return np.vstack([picture, bar])


def _fitting(caption: str, room: int, size: int) -> str:
    """A caption that is no wider than `room`: its first part loses letters at the end, down to eight in all."""
    front, dot, back = caption.rpartition(" · ")
    front, ending = (front, dot + back) if dot else (back, "")
    ending = ending if len(ending) <= 40 else f"{ending[:40]}…"
    if len(front) <= LETTERS and _text_width(front + ending, size) <= room:
        return front + ending
    least, most = min(len(front), max(0, 8 - len(ending))), min(len(front), LETTERS)
    while least < most:  # the most letters that fit
        middle = (least + most + 1) // 2
        if _text_width(f"{front[:middle]}…{ending}", size) <= room:
            least = middle
        else:
            most = middle - 1
    return f"{front[:least]}…{ending}"


@_translated
def outlined(frame: NDArray[Any], truth: NDArray[np.bool_]) -> Picture:
    """Draw the outlines of a truth on a frame.

    Parameters
    ----------
    frame : array [H, W, 1 or 3]
        RGB or gray, 0 to 255.
    truth : bool [H, W]
        Where the object is.

    Returns
    -------
    uint8 [H, W, 3]
        RGB.
    """
    picture = as_rgb(frame).copy()
    around = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8))
    contours, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (64, 200, 255), 1, cv2.LINE_AA)
    return picture


@_translated
def framed(picture: Picture, region: NDArray[np.bool_]) -> Picture:
    """Draw the border of the explained region on an overlay: white with dark sides, so that it shows on any colour.

    Parameters
    ----------
    picture : uint8 [H, W, 3]
        RGB.
    region : bool [H, W]
        Where the explained output lies.

    Returns
    -------
    uint8 [H, W, 3]
        RGB, a copy.

    Raises
    ------
    OutputError
        There is not enough memory.
    """
    drawn = picture.copy()
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(picture.shape[:2]) / 500))
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(drawn, contours, -1, (255, 255, 255), thickness)
    return drawn


def encode_jpeg(picture: Picture) -> bytes:
    """Encode a picture as JPEG of quality 88.

    Parameters
    ----------
    picture : uint8 [H, W, 3]
        RGB, at most 65,500 pixels a side.

    Returns
    -------
    bytes

    Raises
    ------
    OutputError
        It cannot be encoded.
    """
    return _encoded(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 88])


def encode_png(picture: Picture) -> bytes:
    """Encode a picture as PNG.

    Parameters
    ----------
    picture : uint8 [H, W, 3]
        RGB, at most 1,000,000 pixels a side.

    Returns
    -------
    bytes

    Raises
    ------
    OutputError
        It cannot be encoded.
    """
    return _encoded(picture, ".png", [])


@_translated
def _encoded(picture: Picture, ending: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        height, width = picture.shape[:2]
        raise OutputError(f"a picture of {height} × {width} pixels cannot be encoded as {ending[1:].upper()}")
    return data.tobytes()


if hasattr(cv2, "FontFace"):  # OpenCV 5 draws any script with a font of its own

    def _text(picture: Picture, words: str, place: tuple[int, int], size: int) -> None:
        cv2.putText(picture, words, place, (240, 240, 240), cv2.FontFace("sans"), size, 500)

    def _text_width(words: str, size: int) -> int:
        box = cv2.getTextSize((1 << 14, 1 << 10), words, (0, 512), cv2.FontFace("sans"), size, 500)
        return int(box[2])

else:  # OpenCV 4: line fonts, ASCII only

    def _plain(words: str) -> str:
        return words.replace("·", "-").replace("…", "...").encode("ascii", "replace").decode()

    def _text(picture: Picture, words: str, place: tuple[int, int], size: int) -> None:
        thickness = max(1, size // 16)
        cv2.putText(
            picture,
            _plain(words),
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            size / 30,
            (240, 240, 240),
            thickness,
            cv2.LINE_AA,
        )

    def _text_width(words: str, size: int) -> int:
        box, _ = cv2.getTextSize(_plain(words), cv2.FONT_HERSHEY_SIMPLEX, size / 30, max(1, size // 16))
        return int(box[0])
