"""Pictures on their way in and heat maps on their way back: reading, checking, fitting to network size.

OpenCV is imported only for picture files and for resizing; an array of network size needs NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Fit, InputSpec
from sise_ort.errors import FrameError

MAX_PIXELS = 1 << 28
"""Pictures with more pixels than this (268 million) are refused."""


@dataclass(frozen=True)
class Placement:
    """Where the network's picture lies in the frame, and where the frame lies in the network's picture.

    frame : (top, bottom, left, right) in frame pixels that the network saw, as floats.
    network : (top, bottom, left, right) in network pixels that show the frame.
    """

    frame_size: tuple[int, int]
    frame: tuple[float, float, float, float]
    network: tuple[int, int, int, int]


def read_frame(source: Any, color: str = "rgb") -> NDArray[Any]:
    """A picture as an array [H, W, C] with C 1 or 3, RGB, uint8 or float32, checked.

    Parameters
    ----------
    source : path of a picture file, or an array [H, W], [H, W, 1] or [H, W, 3], uint8 or float32 (0 to 255).
    color : channel order of an array, "rgb" or "bgr"; files are read right whatever it is.

    Raises
    ------
    FrameError : the file is unreadable, or the array has another shape or dtype, is empty or not finite.
    """
    if color not in ("rgb", "bgr", "gray"):
        raise FrameError(f'color is {color!r}; frames are "rgb", "bgr" or "gray"')
    if isinstance(source, (str, Path)):
        return _read_file(Path(source))
    frame = np.asarray(source)
    if frame.dtype == np.float64:
        frame = frame.astype(np.float32)
    if frame.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        hint = "; divide 16-bit frames by 257 and round" if frame.dtype == np.uint16 else ""
        raise FrameError(
            f"the frame has dtype {frame.dtype}; uint8 or float32 with pixel values 0 to 255 is needed{hint}"
        )
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3):
        hint = "; drop the alpha channel" if frame.ndim == 3 and frame.shape[2] == 4 else ""
        if frame.ndim == 3 and frame.shape[0] in (1, 3):
            hint = "; transpose [C, H, W] to [H, W, C]"
        raise FrameError(f"the frame has shape {list(frame.shape)}; [H, W, 3] or [H, W] is needed{hint}")
    _check_size(frame.shape[:2], "the frame")
    if frame.dtype == np.float32 and not np.isfinite(frame).all():
        raise FrameError(f"the frame has {int((~np.isfinite(frame)).sum())} values that are NaN or infinite")
    return frame[:, :, ::-1] if color == "bgr" and frame.shape[2] == 3 else frame


def _check_size(size: tuple[int, ...], name: str) -> None:
    if min(size) < 1:
        raise FrameError(f"{name} is empty: {size[0]} × {size[1]} pixels")
    if size[0] * size[1] > MAX_PIXELS:
        raise FrameError(
            f"{name} has {size[0]} × {size[1]} pixels, more than {MAX_PIXELS}; scale it down first"
        )


def _read_file(path: Path) -> NDArray[Any]:
    import cv2

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise FrameError(f"picture '{path}' cannot be read: {error.strerror or error}") from error
    if data.size == 0:
        raise FrameError(f"picture '{path}' is empty (0 bytes)")
    _require_whole(path, data.tobytes())
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is not None and picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)  # turned as its EXIF orientation says
    except cv2.error as error:
        raise FrameError(f"picture '{path}' cannot be decoded: {error.err or error}") from error
    if picture is None:
        raise FrameError(f"'{path}' is not a picture that OpenCV can decode (PNG, JPEG, BMP, TIFF, WebP…)")
    if picture.dtype != np.uint8:
        raise FrameError(
            f"picture '{path}' has {picture.dtype} pixels; 8 bits per channel are needed. How 16 bits map to 8 "
            "depends on your camera: convert it first"
        )
    _check_size(picture.shape[:2], f"picture '{path}'")
    if picture.ndim == 2:
        return picture[:, :, None]
    if picture.shape[2] == 4:
        if (picture[:, :, 3] != 255).any():
            raise FrameError(f"picture '{path}' has transparent pixels; put it on a background first")
        picture = picture[:, :, :3]
    return np.ascontiguousarray(picture[:, :, ::-1])


def _require_whole(path: Path, data: bytes) -> None:
    """Refuse truncated JPEG and PNG files: OpenCV fills what is missing with gray and says nothing."""
    cut = (data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")) or (
        data.startswith(b"\x89PNG") and b"IEND" not in data[-4096:]
    )
    if cut:
        raise FrameError(f"picture '{path}' is truncated: its end is missing")


def to_channels(frame: NDArray[Any], channels: int) -> NDArray[Any]:
    """Repeat gray for a colour network; luma (ITU-R BT.601) of colour for a gray network."""
    if frame.shape[2] == channels:
        return frame
    if channels == 3:
        return np.repeat(frame, 3, axis=2)
    luma = frame.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    return np.rint(luma).astype(np.uint8) if frame.dtype == np.uint8 else luma


def fit_frame(frame: NDArray[Any], spec: InputSpec, fit: Fit) -> tuple[NDArray[Any], Placement]:
    """Bring a frame [H0, W0, C] to network size; a frame of network size is taken as it is.

    Returns
    -------
    fitted : [H, W, C] of the frame's dtype.
    placement : how the two lie on each other.
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
        fitted = resize(frame, scaled)[top : top + target[0], left : left + target[1]]
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


def place_back(heatmap: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """A heat map [H, W] of network size at the frame's own size, zero where the network did not look."""
    top, bottom, left, right = placement.network
    shown = heatmap[top:bottom, left:right]
    y0, y1, x0, x1 = placement.frame
    rows, columns = (round(y0), max(round(y1), round(y0) + 1)), (round(x0), max(round(x1), round(x0) + 1))
    result = np.zeros(placement.frame_size, np.float32)
    region = result[rows[0] : rows[1], columns[0] : columns[1]]
    region[:] = np.clip(resize(shown, (region.shape[0], region.shape[1])), 0.0, 1.0)
    return result


def resize(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize [H, W] or [H, W, C] to (height, width), by area where shrinking, linearly where enlarging."""
    if picture.shape[:2] == size:
        return picture
    import cv2

    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(picture), (size[1], size[0]), interpolation=method)
    return resized if resized.ndim == picture.ndim else resized[:, :, None]
