"""From an explanation and a frame to what a record says about them, and the files that show it."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import sise_ort
from sise_ort.errors import OutputError
from sise_ort.explanation import Explanation
from sise_ort.frame import read
from sise_ort.heatmap_files import heatmap_file
from sise_ort.levels import Range, check_levels
from sise_ort.line.evidence.record import Explained, Picture, sha256
from sise_ort.line.evidence.store import File
from sise_ort.line.regions import RegionSettings, hot_regions, zone_shares
from sise_ort.saving import files_of
from sise_ort.verdicts import Verdict

BEGINNINGS = {
    b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp", b"RIFF": ".webp",
}  # fmt: skip
"""How files of pictures begin, and the endings of their names."""


def explained(
    explanation: Explanation,
    number: int,
    *,
    against: Explanation | None = None,
    regions: RegionSettings | None = None,
    overlay: bool = True,
) -> tuple[Explained, list[File]]:
    """What a record says about an explanation, and its files.

    Parameters
    ----------
    explanation : Explanation
    number : int
        Its number among those of the part, from 1.
    against : Explanation, optional
        What speaks against the class: an explanation of its absence (``"not:crack"``), or of another class rather than it
        (``RatherThan("scratch", "crack")``).
    regions : RegionSettings, optional
        What counts as a hot region.
    overlay : bool
        Draw the overlay, too.

    Returns
    -------
    Explained, list of File
        The files are ``map-N`` (float16 at network size with the maps of the blocks, for `sise_ort.read_heatmap`),
        ``against-N`` where there is one, and ``overlay-N``.
    """
    wanted, whole = regions or RegionSettings(), explanation.frame_heatmap
    agreement = explanation.facts.get("agreement")
    found = Explained(
        label=explanation.label,
        target=explanation.target,
        readout=explanation.task,
        confidence=explanation.confidence,
        score=explanation.score,
        bounded=explanation.bounded,
        head=explanation.head,
        method=explanation.method,
        parameters=dict(explanation.parameters),
        facts=dict(explanation.facts),
        mask_counts=tuple(explanation.mask_counts),
        forward_passes=explanation.forward_passes,
        backward_passes=explanation.backward_passes,
        agreement=None if agreement is None else float(agreement),
        timings={name: round(float(value), 6) for name, value in explanation.timings.items()},
        notes=tuple(map(str, explanation.notes)),
        asked=explanation.asked,
        heatmap_sha256=map_digest(explanation.heatmap),
        heatmap_size=(explanation.heatmap.shape[0], explanation.heatmap.shape[1]),
        regions=hot_regions(whole, wanted),
        zones=zone_shares(whole, wanted),
        against=() if against is None else hot_regions(against.frame_heatmap, wanted),
        verdict=explanation.verdict or Verdict(),
    )
    packed = heatmap_file(explanation.heatmap, explanation.placement, explanation.visualization_maps)
    files = [File(f"map-{number}", packed, ".npz")]
    if against is not None:
        packed = heatmap_file(against.heatmap, against.placement)
        files.append(File(f"against-{number}", packed, ".npz"))
    if overlay:
        files += [
            File(f"overlay-{number}", content, ending)
            for ending, content in files_of(explanation, ("overlay",)).items()
        ]
    return found, files


def map_digest(heatmap: Any) -> str:
    """SHA-256 of a heat map's numbers as float32 in C order and little-endian."""
    return hashlib.sha256(np.ascontiguousarray(heatmap, "<f4").data).hexdigest()


def picture(source: Any, color: str = "rgb", levels: Range = None) -> Picture:
    """What a record says about a frame.

    Parameters
    ----------
    source : path, bytes or array
        The frame as it was submitted. A file is read here again: hand its bytes over where it may have changed.
    color : {"rgb", "bgr"}
        Channel order of an array.
    levels : number or pair of numbers
        As the line reads frames.

    Returns
    -------
    Picture
        Of an unreadable frame the digest alone.

    Raises
    ------
    OSError
        The file is gone.
    """
    black_white = check_levels(levels)
    given = None if black_white is None else (black_white.low, black_white.high)
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    if isinstance(source, np.ndarray):
        size = (int(source.shape[0]), int(source.shape[1])) if source.ndim > 1 else (0, 0)
        channels = int(source.shape[2]) if source.ndim > 2 else 1
        digest = hashlib.sha256(np.ascontiguousarray(source).data).hexdigest()
        return Picture(digest, name, size, channels, str(source.dtype), color, given)
    content = Path(source).read_bytes() if name else bytes(source)
    try:
        pixels = read(content, color, levels).pixels
    except Exception:  # noqa: BLE001 - what is no picture has a digest all the same
        return Picture(sha256(content), name, (0, 0), 0, "", color, given)
    height, width, channels = pixels.shape
    return Picture(sha256(content), name, (height, width), channels, str(pixels.dtype), color, given)


def frame_file(source: Any, color: str = "rgb") -> File:
    """The frame as it goes into the store.

    Parameters
    ----------
    source : path, bytes or array
        A file's bytes stay as they are; an array of uint8 becomes a PNG file, any other a .npy file: each gives the same
        pixels again.
    color : {"rgb", "bgr"}
        Channel order of an array; the PNG file is RGB to every program.

    Returns
    -------
    File
        Its role is "frame".
    """
    if not isinstance(source, np.ndarray):
        content = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else bytes(source)
        ending = next((e for b, e in BEGINNINGS.items() if content.startswith(b)), "")
        return File("frame", content, ending)
    if source.dtype == np.uint8:
        colored = source.ndim == 3 and source.shape[2] == 3
        ordered = np.ascontiguousarray(source[:, :, ::-1]) if colored and color == "rgb" else source
        done, data = cv2.imencode(".png", ordered)  # OpenCV takes BGR
        if not done:
            raise OutputError(f"a frame of shape {list(source.shape)} cannot be encoded as PNG")
        return File("frame", data.tobytes(), ".png")
    numbers = BytesIO()
    np.save(numbers, source)
    return File("frame", numbers.getvalue(), ".npy")


def versions(onnxruntime: str = "") -> dict[str, str]:
    """Versions of what a map depends on.

    Parameters
    ----------
    onnxruntime : str
        As `Explanation.model` names it.
    """
    found = {"sise_ort": sise_ort.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    found["python"] = ".".join(map(str, sys.version_info[:3]))
    return {**found, "onnxruntime": onnxruntime} if onnxruntime else found


@functools.cache
def machine() -> dict[str, str]:
    """This machine, as far as a map depends on it: system, kind of processor, its name and its cores."""
    name = platform.processor()
    try:
        for row in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if row.startswith("model name"):
                name = row.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": name,
        "cores": str(os.cpu_count() or 0),
    }
