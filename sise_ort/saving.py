"""What a saved explanation consists of: the files of each format that can be asked for."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from sise_ort.errors import ParameterError, option, shown
from sise_ort.heatmap_files import heatmap_file

if TYPE_CHECKING:
    from sise_ort.explanation import Explanation

FORMATS = {
    "overlay": "the picture with the heat map on it: PNG up to 4 megapixels, JPEG above",
    "png": "the same as PNG, whatever its size",
    "jpeg": "the same as JPEG of quality 90, whatever its size",
    "npz": "the heat map as float16 at network size, compressed, for read_heatmap",
    "maps": "npz with the map of each block beside it",
    "npy": "the heat map as float32 at the picture's size",
    "json": "the record, which is always written",
}
"""What can be written, and what it is."""
USUAL = ("overlay", "npz")
"""What is written where nothing is asked for."""
LARGEST_PNG = 4_000_000
"""Pixels of a frame whose overlay is written as PNG; encoding larger ones takes seconds, and tens of megabytes."""
LONGEST_JPEG = 65_500
"""Pixels of a side of a JPEG picture at most."""
QUALITY = 90
"""Quality of JPEG overlays: 1 to 100."""


def check_formats(formats: str | Iterable[str] | None) -> tuple[str, ...]:
    """Check names of formats.

    Parameters
    ----------
    formats : str, iterable of str, or None
        Names of `FORMATS`, each once or several times; None takes the usual ones.

    Returns
    -------
    tuple of str
        The names, each once, in the order of `FORMATS`.

    Raises
    ------
    ParameterError
        There is no such format, or none is named.
    """
    if formats is None:
        return USUAL
    names = [formats] if isinstance(formats, str) else formats
    if isinstance(names, Iterable) and not isinstance(names, (bytes, bytearray)):
        names = list(names)
        if names and all(isinstance(name, str) and name in FORMATS for name in names):
            return tuple(name for name in FORMATS if name in names)
    raise ParameterError(f"{option('formats')} is {shown(formats)}; choose from {', '.join(FORMATS)}")


def files_of(explanation: Explanation, formats: tuple[str, ...]) -> dict[str, bytes | memoryview]:
    """Make the files of an explanation, without its record.

    Parameters
    ----------
    explanation : Explanation
        What is saved.
    formats : tuple of str
        As `check_formats` returned them.

    Returns
    -------
    dict of str to bytes
        Their endings and contents, such as ``{".png": …, ".npz": …}``; pictures come first.

    Raises
    ------
    OutputError
        A picture cannot be drawn or encoded.
    """
    from sise_ort.drawing import captioned, encode_jpeg, encode_png

    files: dict[str, bytes | memoryview] = {}
    if {"overlay", "png", "jpeg"} & set(formats):
        verdict = explanation.verdict.words if explanation.verdict is not None else ""
        picture = captioned(explanation.overlay(), explanation.caption, verdict)
        height, width = explanation.placement.frame_size
        large = height * width > LARGEST_PNG and max(picture.shape) <= LONGEST_JPEG
        if "png" in formats or ("overlay" in formats and not large):
            files[".png"] = encode_png(picture)
        if "jpeg" in formats or ("overlay" in formats and large):
            files[".jpg"] = encode_jpeg(picture, QUALITY)
    if "npz" in formats or "maps" in formats:
        maps = explanation.visualization_maps if "maps" in formats else None
        files[".npz"] = heatmap_file(explanation.heatmap, explanation.placement, maps)
    if "npy" in formats:
        array = BytesIO()
        np.save(array, explanation.frame_heatmap)
        files[".npy"] = array.getbuffer()
    return files
