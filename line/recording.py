"""What became of a part, as the record and the files that stay of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sise_ort.line.evidence import making
from sise_ort.line.evidence.record import Explained, Part, Picture
from sise_ort.line.evidence.store import File
from sise_ort.line.jobs import REJECTED, Job
from sise_ort.line.settings import LineSettings


class Recorder:
    """Makes records.

    Parameters
    ----------
    line : str
        Name of the line.
    settings : LineSettings
    model : mapping
        The bundle and its provider, as explanations name them.
    told : mapping
        What the line was told: threshold, deadline, classes.
    """

    def __init__(
        self, line: str, settings: LineSettings, model: Mapping[str, Any], told: Mapping[str, Any]
    ) -> None:
        self._line, self._settings, self._model = line, settings, model
        self._told = {**told, **settings.said()}
        self._versions = making.versions(str(model.get("onnxruntime", "")))

    def record(self, job: Job) -> tuple[Part, list[File]]:
        """The record of a part, and its files; what cannot be drawn or encoded is left out, and the record says so."""
        result, settings = job.result, self._settings
        reasons, files = [result.reason], list[File]()
        picture = None
        try:
            picture = self._picture(job)
            rejected = result.decision == REJECTED
            if settings.frames == "all" or (
                settings.frames == "rejects" and (rejected or not result.confidences)
            ):
                files.append(making.frame_file(job.frame, settings.color))
        except Exception as error:  # noqa: BLE001 - the decision is recorded whatever becomes of the picture
            reasons.append(f"the picture is not kept: {error}")
        explanations = list[Explained]()
        for number, one in enumerate(result.explanations, 1):
            try:
                said, drawn = making.explained(
                    one, number, regions=settings.regions, overlay=settings.overlays
                )
            except Exception as error:  # noqa: BLE001 - as above
                reasons.append(f"the map of {one.label!r} is not kept: {error}")
                continue
            explanations.append(said)
            files += drawn
        part = Part(
            line=self._line,
            part_id=result.part_id,
            submitted=result.submitted,
            decision=result.decision,
            reason="; ".join(filter(None, reasons)),
            label=result.label,
            confidence=result.confidence,
            confidences=result.confidences,
            scores=result.scores,
            explained=result.explained,
            without_passes=result.without_passes,
            explanations=tuple(explanations),
            picture=picture,
            model=self._model,
            versions=self._versions,
            machine=making.machine(),
            settings=self._told,
            seconds={name: round(value, 6) for name, value in result.seconds.items()},
            meta=result.meta,
        )
        return (msgspec.structs.replace(part, key=job.key) if job.key else part), files

    def _picture(self, job: Job) -> Picture | None:
        """What the record says about the frame; None of a file that could not be read."""
        frame = job.frame
        if isinstance(frame, Path):  # nobody has read it: the queue was full, or it is gone
            with contextlib.suppress(OSError):
                return making.picture(frame)
            return None
        if not isinstance(frame, (bytes, np.ndarray)):
            return None
        found = making.picture(frame, self._settings.color, self._settings.levels)
        return msgspec.structs.replace(found, source=job.name)
