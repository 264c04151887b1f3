"""The answer: a heat map, what it is about, what it cost, and how it looks on the frame."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Layer
from sise_ort.errors import ParameterError
from sise_ort.estimate import Estimate
from sise_ort.fitting import Placement, place_back
from sise_ort.outputs import OutputFolder
from sise_ort.saving import check_formats, files_of
from sise_ort.verdicts import Verdict


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a network decided as it did, for one question about one frame.

    Attributes
    ----------
    heatmap : float32 [H, W]
        In [0, 1], at network size: 1 where the evidence is strongest, all 0 without any.
    visualization_maps : float32 [B, H, W]
        In [0, 1], one per block, shallow to deep; [0, H, W] for other methods than SISE.
    mask_counts : tuple of int
        Masks scored for this class, per block.
    forward_passes : int
        Network passes in all, for all classes asked together, padding included.
    backward_passes : int
        Gradients of a class score.
    target : int
        Index of the explained class; -1 where what is explained is no class.
    label : str
        What is explained, in words: the class's name, or more (``crack rather than scratch``).
    task : str
        What the network's outputs are: "classes", "segmentation", "detection", "embedding" or "value".
    confidence : float
        Ψ for the whole frame: a probability or likeness in [0, 1], or a number without bounds (`bounded`).
    bounded : bool
        Whether Ψ lies in [0, 1].
    score : float
        The score behind Ψ, before the head's activation.
    method : str
        Name of the method.
    title : str
        The method's name as papers write it.
    parameters : mapping
        Parameters of the method, such as SISE's mu.
    facts : mapping
        Numbers that the method reports about itself, such as a completeness error.
    timings : mapping of str to float
        Seconds per phase, and in all (``total``).
    notes : tuple of str
        What was assumed, skipped or chosen, also in reading the frame.
    source : str
        The picture's path; empty where the frame was not a file.
    head : str
        Kind of head, in words.
    layers : tuple of Layer
        The blocks.
    scores : float32 [classes]
        Raw class scores; empty for other tasks.
    model : mapping
        Name and digest of the bundle, provider, version of onnxruntime, batch size.
    frame : array [H0, W0, 1 or 3]
        The frame as it was read, gray or RGB; it shares no memory with the caller's.
    placement : Placement
        How network and frame lie on each other.
    levels : (float, float) or None
        Pixel values of black and white; None where they are 0 and 255.
    asked : str
        Digest of the region, candidates, reference or values that are explained; empty for class scores.
    region : float32 [H, W] or None
        Where the explained output lies, at network size, 1 inside: the box of a detection, the region of a segmentation.
    default_method : bool
        Whether the method is the default one; captions and file names then leave it out.
    estimate : Estimate or None
        How long it was said to take, where that was known before it was done.
    verdict : Verdict or None
        Whether the map is to be trusted, and why, where that was checked (``explain(…, checks=True)``).
    """

    heatmap: NDArray[np.float32]
    visualization_maps: NDArray[np.float32]
    mask_counts: tuple[int, ...]
    forward_passes: int
    backward_passes: int
    target: int
    label: str
    task: str
    confidence: float
    bounded: bool
    score: float
    method: str
    title: str
    parameters: Mapping[str, Any]
    facts: Mapping[str, Any]
    timings: Mapping[str, float]
    notes: tuple[str, ...]
    source: str
    head: str
    layers: tuple[Layer, ...]
    scores: NDArray[np.float32]
    model: Mapping[str, Any]
    frame: NDArray[Any] = field(repr=False)
    placement: Placement = field(repr=False)
    levels: tuple[float, float] | None = None
    asked: str = ""
    region: NDArray[np.float32] | None = field(default=None, repr=False)
    default_method: bool = False
    estimate: Estimate | None = None
    verdict: Verdict | None = None

    @cached_property
    def frame_heatmap(self) -> NDArray[np.float32]:
        """Heat map at the frame's own size: float32 [H0, W0] in [0, 1], zero outside what the network saw."""
        return place_back(self.heatmap, self.placement)

    @cached_property
    def frame_region(self) -> NDArray[np.bool_] | None:
        """The explained region at the frame's own size: bool [H0, W0]; None where what is explained has no place."""
        if self.region is None:
            return None
        found = place_back(self.region, self.placement)
        return np.asarray(found > 0.5 * found.max())

    @property
    def caption(self) -> str:
        """Class and confidence in words, such as ``scratch · 98.2 %``.

        Raw scores read ``scratch · score 7.31``. Methods other than the default stand in front:
        ``Grad-CAM: scratch · 98.2 %``.
        """
        name = self.label if self.default_method else f"{self.title}: {self.label}"
        if not self.bounded:
            return f"{name} · {'score' if self.task == 'classes' else 'value'} {self.confidence:.3g}"
        if self.task == "embedding":
            return f"{name} · {self.confidence:.3f}"
        return f"{name} · {100 * self.confidence:.1f} %"

    def overlay(self) -> NDArray[np.uint8]:
        """Draw the heat map on the frame, and the border of the explained region where there is one.

        Returns
        -------
        uint8 [H0, W0, 3]
            RGB.

        Raises
        ------
        OutputError
            There is not enough memory.
        """
        from sise_ort.drawing import framed, overlay

        picture = overlay(self.frame, self.frame_heatmap)
        return picture if self.frame_region is None else framed(picture, self.frame_region)

    def record(self) -> dict[str, Any]:
        """Collect everything but the maps, ready for JSON.

        Returns
        -------
        dict
            Source, class, confidence, method, notes, blocks, passes, seconds, versions and all scores.
        """
        from sise_ort import __version__

        return {
            "source": self.source,
            "target": self.target,
            "label": self.label,
            "confidence": self.confidence,
            "task": self.task,
            "score": self.score,
            "head": self.head,
            "method": self.method,
            "parameters": dict(self.parameters),
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "verdict": None if self.verdict is None else self.verdict.record(),
            "frame_size": list(self.placement.frame_size),
            "levels": None if self.levels is None else list(self.levels),
            "network_size": list(self.heatmap.shape),
            "blocks": [
                {
                    "tensor": layer.tensor,
                    "module": layer.module,
                    "channels": layer.channels,
                    "size": [layer.height, layer.width],
                }
                for layer in self.layers
            ],
            "masks": list(self.mask_counts),
            "forward_passes": self.forward_passes,
            "backward_passes": self.backward_passes,
            "timings_s": {key: round(value, 6) for key, value in self.timings.items()},
            "duration": {
                "seconds": round(self.timings.get("total", 0.0), 3),
                **(self.estimate.record() if self.estimate else {"estimated_seconds": None}),
            },
            "model": dict(self.model),
            "versions": {"sise_ort": __version__, "numpy": np.__version__},
            "scores": [float(s) for s in self.scores],
        }

    def name_with_method(self, name: str) -> str:
        """Put the method behind a name for files, unless it is the default one.

        Parameters
        ----------
        name : str
            What the name is made of.

        Returns
        -------
        str
            ``name`` or ``name-method``.
        """
        return name if self.default_method else f"{name}-{self.method}"

    def identity(self) -> list[Any]:
        """List what the explanation is about: picture, class, method and bundle.

        Returns
        -------
        list
            Picture, levels, class, method, parameters and bundle as plain values. A later
            explanation with an equal identity may replace an earlier one's files.
        """
        picture: Any = os.path.realpath(self.source) if self.source else None
        if picture is None:
            picture = [
                hashlib.sha256(np.ascontiguousarray(self.frame).data).hexdigest(),
                str(self.frame.dtype),
                *self.frame.shape,
            ]
        parameters = {name: str(value) for name, value in self.parameters.items()}
        return [
            picture, self.levels, self.target, self.label, self.method, parameters, str(self.model.get("bundle_sha256")),
            *([self.asked] if self.asked else []),
        ]  # fmt: skip

    def save(
        self,
        folder: str | Path | OutputFolder,
        name: str | None = None,
        *,
        formats: str | Iterable[str] | None = None,
    ) -> list[Path]:
        """Write the overlay with its caption, the heat map and the record.

        The overlay is ``NAME.png``, or ``NAME.jpg`` of quality 90 where the frame has more than 4 megapixels. The heat map
        is ``NAME.npz``: float16 at network size, which `sise_ort.read_heatmap` brings back to the frame's. The record is
        ``NAME.json``.

        Parameters
        ----------
        folder : str, Path or OutputFolder
            Made where missing. An `OutputFolder` keeps the results of a whole run apart.
        name : str, optional
            File name without ending; None takes the picture's name and the label. It is made safe, and numbered
            (``NAME-2``) where files of that name are there already, unless they are an earlier explanation of the same
            picture and class with the same method, parameters and bundle: that one is replaced.
        formats : str or iterable of str, optional
            What to write besides the record, by the names of `sise_ort.saving.FORMATS`; ``("overlay", "npz")`` where
            nothing is said. Others: "png" and "jpeg" (the overlay, whatever its size), "npy" (the heat map as float32 at
            frame size), "maps" (the map of each block in ``NAME.npz``, too), "json" (the record alone).

        Returns
        -------
        list of Path
            The files; pictures come first, the record last.

        Raises
        ------
        OutputError
            A file cannot be written; what was there before stays.
        ParameterError
            The folder is no path, the name no text, or there is no such format.
        """
        if not isinstance(folder, (str, os.PathLike, OutputFolder)) or not isinstance(
            "" if name is None else name, str
        ):
            raise ParameterError(
                f"a result is saved into a folder under a name; these are {folder!r} and {name!r}"
            )
        wanted = check_formats(formats)
        outputs = folder if isinstance(folder, OutputFolder) else OutputFolder(folder)
        files = files_of(self, wanted)
        if name is None:
            name = self.name_with_method(f"{Path(self.source).stem or 'frame'}-{self.label}")
        return outputs.write_result(name, self.identity(), self.record(), files)
