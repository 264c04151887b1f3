"""Heat maps as people see them: overlays, captions, PNG."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import OutputError

Picture = NDArray[np.uint8]


def as_rgb(frame: NDArray[Any]) -> Picture:
    """A frame [H, W, 1 or 3], 0 to 255, as uint8 RGB."""
    whole = np.clip(np.rint(frame), 0, 255).astype(np.uint8) if frame.dtype != np.uint8 else frame
    return np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else np.ascontiguousarray(whole)


def overlay(frame: NDArray[Any], heatmap: NDArray[np.float32]) -> Picture:
    """Colour a frame by its heat map: untouched where the map is 0, turbo colours up to 65 % where it is 1.

    Parameters
    ----------
    frame : [H, W, 1 or 3], RGB or gray, 0 to 255.
    heatmap : float32 [H, W] in [0, 1].

    Returns
    -------
    uint8 RGB [H, W, 3].
    """
    picture = as_rgb(frame).astype(np.float32)
    levels = np.rint(60 + 195 * heatmap).astype(np.uint8)  # leave out turbo's near-black blues
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB).astype(np.float32)
    weight = (0.65 * np.clip(heatmap * 1.6, 0, 1))[:, :, None]
    mixed = np.rint(picture * (1 - weight) + colors * weight)
    return np.asarray(mixed, dtype=np.uint8)


def captioned(picture: Picture, caption: str) -> Picture:
    """The picture with a dark bar of text below it; small pictures are enlarged so that the text fits."""
    height, width = picture.shape[:2]
    scale = max(1, -(-360 // width))
    if scale > 1:
        picture = cv2.resize(picture, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC).astype(
            np.uint8
        )
        width *= scale
    size = int(np.clip(width / 28, 15, 48))
    bar = np.full((round(size * 2.0), width, 3), 24, np.uint8)
    margin = size // 2
    room = width - 2 * margin
    while _text_width(caption, size) > room and len(caption) > 8:
        cut = caption.rsplit(" · ", 1)
        caption = f"{cut[0].rstrip('…')[:-1]}…" + (f" · {cut[1]}" if len(cut) == 2 else "")
    _text(bar, caption, (margin, round(size * 1.36)), size)
    return np.vstack([picture, bar])


def outlined(frame: NDArray[Any], truth: NDArray[np.bool_]) -> Picture:
    """A frame [H, W, 1 or 3] with the outlines of a truth, bool [H, W], as uint8 RGB."""
    picture = as_rgb(frame).copy()
    around = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8))
    contours, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (64, 200, 255), 1, cv2.LINE_AA)
    return picture


def encode_jpeg(picture: Picture) -> bytes:
    """An RGB picture as JPEG of quality 88."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise OutputError("the picture cannot be encoded as JPEG")
    return data.tobytes()


def encode_png(picture: Picture) -> bytes:
    """An RGB picture as PNG."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError("the picture cannot be encoded as PNG")
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
