"""Heat maps as people see them: overlays, captions, PNG and JPEG."""

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
STRIP = 1 << 17
"""Pixels that are coloured at once."""
DARK = 24
"""Gray value of the bar below a picture."""
LETTERS = 300
"""Letters that a caption has at most."""
BELOW = 3
"""Lines below a caption at most."""


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
    kept, added = _table()
    rows = max(1, STRIP // max(width, 1))
    for top in range(0, height, rows):  # strips stay in the processor's cache
        strip = slice(top, top + rows)
        level = cv2.convertScaleAbs(heatmap[strip], alpha=255)
        dimmed = cv2.multiply(as_rgb(frame[strip]), cv2.applyColorMap(level, kept), scale=1 / 255)
        cv2.add(dimmed, cv2.applyColorMap(level, added), dst=drawn[strip])
    return drawn


@functools.cache
def _table() -> tuple[Picture, Picture]:
    """For the 256 levels of a heat map, how much of the frame is kept (255 for all), and what is added: uint8 [256, 1, 3]."""
    heat = np.arange(256) / 255
    turbo = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)
    colors = turbo[np.rint(60 + 195 * heat).astype(int), :, ::-1]  # leave out turbo's near-black blues; RGB
    weight = (0.65 * np.clip(heat * 1.6, 0, 1))[:, None, None]
    kept = np.rint(255 * (1 - weight)).astype(np.uint8).repeat(3, axis=2)
    return np.ascontiguousarray(kept), np.ascontiguousarray(np.rint(colors * weight).astype(np.uint8))


@_translated
def captioned(picture: Picture, caption: str, below: str = "") -> Picture:
    """Put a dark bar with text below a picture.

    Parameters
    ----------
    picture : uint8 [H, W, 3]
        RGB. Small pictures are enlarged, as far as `ENLARGED` allows; what is still narrower than 360 pixels gets a
        margin on its right.
    caption : str
        Its last part, behind `` · ``, is kept where the text is too long. Characters that cannot be drawn are shown as
        escapes.
    below : str
        A sentence under the caption in smaller letters, on up to three lines; "" for none.

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
    return np.vstack([picture, bar, *_lines(printable(below), width, margin, max(12, round(size * 0.75)))])


def _lines(text: str, width: int, margin: int, size: int) -> list[Picture]:
    """Bars with the words of a text, three at most; what does not fit ends in an ellipsis."""
    lines, left = [""], text[: 3 * LETTERS].split()
    while left:
        longer = f"{lines[-1]} {left[0]}".strip()
        if lines[-1] and _text_width(longer, size) > width - 2 * margin:
            if len(lines) == BELOW:
                lines[-1] = f"{lines[-1]} …"
                break
            lines.append("")
            continue
        lines[-1] = longer
        left.pop(0)
    bars = []
    for line in lines if text else []:
        bar = np.full((round(size * 1.6), width, 3), DARK, np.uint8)
        _text(bar, _fitting(line, width - 2 * margin, size), (margin, round(size * 1.1)), size)
        bars.append(bar)
    return bars


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


@_translated
def encode_jpeg(picture: Picture, quality: int = 88) -> bytes:
    """Encode a picture as JPEG.

    Parameters
    ----------
    picture : uint8 [H, W, 3]
        RGB, at most 65,500 pixels a side.
    quality : int
        1 to 100.

    Returns
    -------
    bytes

    Raises
    ------
    OutputError
        It cannot be encoded.
    """
    import simplejpeg

    try:
        data = simplejpeg.encode_jpeg(
            np.ascontiguousarray(picture), quality, "RGB", colorsubsampling="420", fastdct=False
        )
    except ValueError as error:
        raise _not_encoded(picture, "JPEG") from error
    return bytes(data)


@_translated
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
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise _not_encoded(picture, "PNG")
    return data.tobytes()


def _not_encoded(picture: Picture, form: str) -> OutputError:
    height, width = picture.shape[:2]
    return OutputError(f"a picture of {height} × {width} pixels cannot be encoded as {form}")


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
