"""Frames of any size brought to network size, and heat maps brought back.

OpenCV is imported only for resizing; a frame of network size needs NumPy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Fit, InputSpec
from sise_ort.errors import FrameError

MOST_SCALED = 1 << 26
"""Pixels that a frame may be scaled to as a whole before its middle is cut out; larger than any network's picture."""


@dataclass(frozen=True)
class Placement:
    """Where the network's picture lies in the frame, and where the frame lies in the network's picture.

    Attributes
    ----------
    frame_size : (int, int)
        Height and width of the frame.
    frame : (float, float, float, float)
        Top, bottom, left and right of what the network saw, in frame pixels.
    network : (int, int, int, int)
        Top, bottom, left and right of what shows the frame, in network pixels.
    """

    frame_size: tuple[int, int]
    frame: tuple[float, float, float, float]
    network: tuple[int, int, int, int]


def to_channels(frame: NDArray[Any], channels: int) -> NDArray[Any]:
    """Turn gray into colour and colour into gray.

    Parameters
    ----------
    frame : array [H, W, 1 or 3]
        Gray or RGB.
    channels : int
        What the network takes, 1 or 3.

    Returns
    -------
    array [H, W, channels], of the frame's dtype
        Gray repeated, or the luma of colour (ITU-R BT.601).
    """
    if frame.shape[2] == channels:
        return frame
    if channels == 3:
        return np.repeat(frame, 3, axis=2)
    luma = frame.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    return np.rint(luma).astype(np.uint8) if frame.dtype == np.uint8 else luma


def fit_frame(frame: NDArray[Any], spec: InputSpec, fit: Fit) -> tuple[NDArray[Any], Placement]:
    """Bring a frame to network size; a frame of network size is taken as it is.

    Parameters
    ----------
    frame : array [H0, W0, C]
        With as many channels as the network takes.
    spec : InputSpec
        The network's input.
    fit : Fit
        Stretch, crop or letterbox.

    Returns
    -------
    fitted : array [H, W, C], of the frame's dtype
    placement : Placement
        How the two lie on each other.
    """
    size = (frame.shape[0], frame.shape[1])
    target = (spec.height, spec.width)
    whole = (0.0, float(size[0]), 0.0, float(size[1]))
    full = (0, target[0], 0, target[1])
    if size == target:
        return frame, Placement(size, whole, full)
    if fit.mode == "stretch":
        return resize(frame, target), Placement(size, whole, full)
    if fit.mode == "crop":
        scale = max(fit.resize[0] / size[0], fit.resize[1] / size[1])
        scaled = (max(round(size[0] * scale), target[0]), max(round(size[1] * scale), target[1]))
        top, left = (scaled[0] - target[0]) // 2, (scaled[1] - target[1]) // 2
        fitted = _scaled_window(frame, scaled, (top, left), target)
        rows, columns = size[0] / scaled[0], size[1] / scaled[1]
        seen = (top * rows, (top + target[0]) * rows, left * columns, (left + target[1]) * columns)
        return np.ascontiguousarray(fitted), Placement(size, seen, full)
    scale = min(target[0] / size[0], target[1] / size[1])
    scaled = (min(max(round(size[0] * scale), 1), target[0]), min(max(round(size[1] * scale), 1), target[1]))
    top, left = (target[0] - scaled[0]) // 2, (target[1] - scaled[1]) // 2
    fitted = np.empty((*target, frame.shape[2]), frame.dtype)
    fitted[:] = fit.border
    fitted[top : top + scaled[0], left : left + scaled[1]] = resize(frame, scaled)
    return fitted, Placement(size, whole, (top, top + scaled[0], left, left + scaled[1]))


def _scaled_window(
    frame: NDArray[Any], scaled: tuple[int, int], corner: tuple[int, int], target: tuple[int, int]
) -> NDArray[Any]:
    """A window of a frame that is scaled as a whole, or, where that takes too much memory, in the window's surroundings.

    A strip of 10,000 × 1 pixels would become one of 2,560,000 × 256. Where surroundings are scaled alone, the window
    lies within half a pixel of the network's picture.
    """
    top, left = corner
    if scaled[0] * scaled[1] > MOST_SCALED:
        parts = []
        for side in (0, 1):
            scale = scaled[side] / frame.shape[side]
            start = max(math.floor(corner[side] / scale) - 2, 0)
            end = min(math.ceil((corner[side] + target[side]) / scale) + 2, frame.shape[side])
            length = max(round((end - start) * scale), target[side])
            place = min(max(round(corner[side] - start * scale), 0), length - target[side])
            parts.append((start, end, length, place))
        (y0, y1, height, top), (x0, x1, width, left) = parts
        frame, scaled = frame[y0:y1, x0:x1], (height, width)
    return resize(frame, scaled)[top : top + target[0], left : left + target[1]]


def place_back(heatmap: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Bring a heat map of network size to the frame's own size.

    Parameters
    ----------
    heatmap : float32 [H, W]
        Values in [0, 1].
    placement : Placement
        As `fit_frame` returned it.

    Returns
    -------
    float32 [H0, W0] in [0, 1]
        Zero where the network did not look.
    """
    top, bottom, left, right = placement.network
    shown = heatmap[top:bottom, left:right]
    y0, y1, x0, x1 = placement.frame
    rows, columns = (round(y0), max(round(y1), round(y0) + 1)), (round(x0), max(round(x1), round(x0) + 1))
    if (rows, columns) == ((0, placement.frame_size[0]), (0, placement.frame_size[1])):
        whole = resize(shown, placement.frame_size)
        return np.clip(whole, 0.0, 1.0, out=None if whole is shown else whole)
    result = np.zeros(placement.frame_size, np.float32)
    region = result[rows[0] : rows[1], columns[0] : columns[1]]
    region[:] = np.clip(resize(shown, (region.shape[0], region.shape[1])), 0.0, 1.0)
    return result


def resize(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize a picture, by area where it shrinks and linearly where it grows.

    Parameters
    ----------
    picture : array [H, W] or [H, W, C]
        A frame, a mask or a heat map.
    size : (int, int)
        Height and width wanted.

    Returns
    -------
    array of that size, of the picture's dtype; the picture itself where it has that size

    Raises
    ------
    FrameError
        There is not enough memory.
    """
    if picture.shape[:2] == size:
        return picture
    import cv2

    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    try:
        resized = cv2.resize(np.ascontiguousarray(picture), (size[1], size[0]), interpolation=method)
    except (cv2.error, MemoryError) as error:
        raise FrameError(
            f"a picture of {picture.shape[0]} × {picture.shape[1]} pixels cannot be resized to {size[0]} × {size[1]}: "
            f"{getattr(error, 'err', '') or 'there is not enough memory'}"
        ) from error
    return resized if resized.ndim == picture.ndim else resized[:, :, None]
