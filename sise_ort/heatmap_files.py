"""Heat maps as small files: float16 at network size, compressed, with where they lie on the frame."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError, ParameterError, first_line, option, shown
from sise_ort.fitting import Placement, place_back
from sise_ort.pictures import MAX_PIXELS

LARGEST_MEMBER = 1 << 30
"""Bytes that an array in such a file may have once it is unpacked."""


def heatmap_file(
    heatmap: NDArray[np.float32], placement: Placement, maps: NDArray[np.float32] | None = None
) -> bytes:
    """Pack a heat map with its place on the frame, for `read_heatmap`.

    Parameters
    ----------
    heatmap : float32 [H, W]
        Values in [0, 1], at network size.
    placement : Placement
        How network and frame lie on each other.
    maps : float32 [B, H, W], optional
        Values in [0, 1], one map per block; none where B is 0.

    Returns
    -------
    bytes
        A compressed .npz file, as NumPy reads it: ``heatmap`` float16 [H, W], ``frame_size``, ``frame`` and ``network`` (the
        fields of `Placement`), and ``maps`` float16 [B, H, W]. Equal arguments give equal bytes.
    """
    arrays: dict[str, Any] = {
        "heatmap": heatmap.astype(np.float16),
        "frame_size": np.array(placement.frame_size, np.int64),
        "frame": np.array(placement.frame, np.float64),
        "network": np.array(placement.network, np.int64),
    }
    if maps is not None and len(maps):
        arrays["maps"] = maps.astype(np.float16)
    packed = BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def read_heatmap(
    path: str | Path | bytes, *, block: int | None = None, network_size: bool = False
) -> NDArray[np.float32]:
    """Read a heat map that `Explanation.save` or `sise-ort explain` wrote as an .npz file.

    Parameters
    ----------
    path : str, Path or bytes
        ``NAME.npz``; or the file's content, as the column ``map`` of `sise_ort.explain_dataset` has it.
    block : int, optional
        Number of a block, from 1, shallow to deep: read its map instead. The file has them where a result of
        SISE was saved with the format "maps".
    network_size : bool
        Return the map as the network's size has it, not the frame's.

    Returns
    -------
    float32 [H0, W0], or [H, W] at network size
        In [0, 1], zero outside what the network saw. It differs from `Explanation.frame_heatmap` by float16's rounding
        alone: by 2⁻¹² at most.

    Raises
    ------
    FrameError
        The file is missing, damaged, or not one of these.
    ParameterError
        The file has no such block.
    """
    if not isinstance(path, (str, os.PathLike, bytes)):
        raise ParameterError(f"a heat map is read from a path; this is {shown(path)}")
    source: Any = path
    if isinstance(path, bytes):
        source, path = BytesIO(path), f"of {len(path)} bytes"
    wanted = "heatmap" if block is None else "maps"
    try:
        with zipfile.ZipFile(source) as archive:
            names = ("frame_size", "frame", "network", wanted)
            found = {name: _array(archive, name) for name in names if f"{name}.npy" in archive.namelist()}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # fmt: skip
        words = getattr(error, "strerror", None) or first_line(error)
        hint = "; an .npy file is read by numpy.load" if Path(path).suffix.lower() == ".npy" else ""
        raise FrameError(f"heat map '{path}' cannot be read: {words}{hint}") from error
    if block is not None and wanted not in found and len(found) == 3:
        raise ParameterError(
            f"heat map '{path}' has no maps of blocks: save a result of method sise with {option('formats', ['maps'])}"
        )
    placement = _placement(found)
    heatmap = found.get(wanted)
    if placement is None or heatmap is None or not _fits(heatmap, placement, 2 if block is None else 3):
        raise FrameError(f"'{path}' is no heat map that sise-ort wrote, or it is damaged")
    if block is not None:
        if (
            isinstance(block, bool)
            or not isinstance(block, (int, np.integer))
            or not 1 <= block <= len(heatmap)
        ):
            raise ParameterError(
                f"{option('block')} is {shown(block)}; '{path}' has blocks 1 to {len(heatmap)}"
            )
        heatmap = heatmap[block - 1]
    values = heatmap.astype(np.float32)
    return values if network_size else place_back(values, placement)


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > LARGEST_MEMBER:
        raise ValueError(f"its array '{name}' has {info.file_size} bytes")
    return np.asarray(np.lib.format.read_array(BytesIO(archive.read(info)), allow_pickle=False))


def _placement(found: dict[str, NDArray[Any]]) -> Placement | None:
    """The placement that a file's arrays give; None where they give none."""
    for name, kind, length in (("frame_size", "i", 2), ("frame", "f", 4), ("network", "i", 4)):
        if name not in found or found[name].dtype.kind != kind or found[name].shape != (length,):
            return None
    height, width = map(int, found["frame_size"])
    y0, y1, x0, x1 = map(float, found["frame"])
    top, bottom, left, right = map(int, found["network"])
    inside = 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width  # False for NaN
    if not (inside and 0 <= top < bottom and 0 <= left < right and height * width <= MAX_PIXELS):
        return None
    return Placement((height, width), (y0, y1, x0, x1), (top, bottom, left, right))


def _fits(maps: NDArray[Any], placement: Placement, axes: int) -> bool:
    """Whether an array holds maps in [0, 1] that the placement's window lies in."""
    _, bottom, _, right = placement.network
    return (
        maps.dtype == np.float16
        and maps.ndim == axes
        and maps.shape[-2] >= bottom
        and maps.shape[-1] >= right
        and bool(((maps >= 0) & (maps <= 1)).all())
    )
