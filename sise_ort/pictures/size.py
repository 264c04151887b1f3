"""How large a picture may be."""

from __future__ import annotations

from collections.abc import Sequence

from sise_ort.errors import FrameError

MAX_PIXELS = 1 << 27
"""Pictures with more pixels than this (134 million) are refused: explaining and drawing one takes up to 2 GiB."""
MAX_BYTES = 1 << 30
"""Picture files with more bytes than this (1 GiB) are refused."""


def check_size(size: Sequence[int], name: str) -> None:
    """Refuse pictures without pixels and those with too many.

    Parameters
    ----------
    size : sequence of int
        Height and width in pixels.
    name : str
        What the picture is called in the error.

    Raises
    ------
    FrameError
        A side is 0, or there are more than `MAX_PIXELS`.
    """
    height, width = size[0], size[1]
    if min(height, width) < 1:
        raise FrameError(f"{name} is empty: {height} × {width} pixels")
    if height * width > MAX_PIXELS:
        raise FrameError(f"{name} has {height} × {width} pixels, more than {MAX_PIXELS}; scale it down first")
