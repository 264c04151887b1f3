"""From what a user names to the source that is meant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sise_ort.errors import ParameterError, shown
from sise_ort.line.sources.folder import PICTURES, HotFolder
from sise_ort.line.sources.item import Source
from sise_ort.line.sources.lines import PathLines
from sise_ort.line.sources.video import Camera, VideoFile


@dataclass(frozen=True)
class SourceSettings:
    """How a source is read.

    Parameters
    ----------
    patterns : sequence of str
        Names of files that are pictures, in a folder.
    settle : float
        Seconds for which a file must not change until it counts as complete.
    move : bool
        Move pictures of a folder away when their records are safe.
    into : Path or None
        Where to.
    exclude : sequence of Path
        Folders that are not looked into.
    once : bool
        End when all pictures that were in the folder are done.
    every : int
        Take every N-th frame of a video or camera.
    """

    patterns: Sequence[str] = PICTURES
    settle: float = 1.0
    move: bool = False
    into: Path | None = None
    exclude: Sequence[Path] = ()
    once: bool = False
    every: int = 1


def open_source(words: str, settings: SourceSettings | None = None) -> Source:
    """Open a source.

    Parameters
    ----------
    words : str
        A folder, a video file, a stream's address, the number of a camera, or "-" for paths on standard input.
    settings : SourceSettings, optional

    Raises
    ------
    ParameterError
        It is none of these.
    FrameError
        The file is no video.
    """
    wanted = settings or SourceSettings()
    if words == "-":
        return PathLines(sys.stdin)
    if words.isdecimal() and words.isascii():
        return Camera(int(words), wanted.every)
    if "://" in words:
        return Camera(words, wanted.every)
    path = Path(words)
    if path.is_dir():
        return HotFolder(
            path,
            patterns=wanted.patterns,
            settle=wanted.settle,
            move=wanted.move,
            into=wanted.into,
            exclude=wanted.exclude,
            once=wanted.once,
        )
    if path.is_file():
        return VideoFile(path, wanted.every)
    raise ParameterError(
        f"the source {shown(words)} is neither a folder, a video file, an address such as rtsp://host/line, the number of "
        "a camera, nor - for paths on standard input"
    )
