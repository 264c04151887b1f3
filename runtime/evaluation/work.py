"""The work of an evaluation: one sample explained by all methods, each heat map judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.datasets.dataset import Problem, Sample, UnusableSample
from sise_ort.errors import (
    BundleError,
    ClosedError,
    MissingDependencyError,
    OutOfMemoryError,
    ParameterError,
    ProviderError,
    SiseError,
    first_line,
)
from sise_ort.files import write_file
from sise_ort.frame import read_frame
from sise_ort.readouts import Question
from sise_ort.runtime.evaluation.judge import Judge
from sise_ort.runtime.evaluation.plan import Plan, Variant, file_key
from sise_ort.runtime.evaluation.samples import Truths, files_of, fingerprint
from sise_ort.runtime.evaluation.store import Row
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.providers import Tensor

EVERYWHERE = (BundleError, ClosedError, MissingDependencyError, ParameterError, ProviderError)
"""Errors that every other sample would meet, too."""


@dataclass(frozen=True)
class Task:
    """One sample and what is still to be done about it.

    Attributes
    ----------
    sample : Sample
        A picture and the class to explain.
    variants : tuple of Variant
        Methods that have no row yet.
    gallery : Path or None
        Folder for overlays.
    truths : dict
        Where the top class is explained, the picture's samples by class.
    """

    sample: Sample
    variants: tuple[Variant, ...]
    gallery: Path | None = None
    truths: Truths = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of a task.

    Attributes
    ----------
    sample : str
        The sample's name.
    rows : list of dict
        One per variant that gave a heat map.
    problems : list of Problem
        Why others did not.
    files : list
        Fingerprints of the sample's files, in the order of `sample_files`.
    """

    sample: str
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)

    def report(self, message: str) -> None:
        """Add a problem of the sample."""
        self.problems.append(Problem(self.sample, 0, message))


@dataclass(frozen=True)
class _Opened:
    """A sample with its picture read and its question known; `target` is None where what is explained is no class."""

    frame: NDArray[Any]
    image: Tensor
    question: Question
    target: int | None
    truth: NDArray[np.bool_] | None


def work(explainer: Explainer, plan: Plan, task: Task, conditions: str) -> Outcome:
    """Explain one sample by all variants and judge the heat maps.

    Parameters
    ----------
    explainer : Explainer
        The bundle.
    plan : Plan
        What to judge.
    task : Task
        The sample.
    conditions : str
        What the seconds depend on, for the rows.

    Returns
    -------
    Outcome
        What cannot be read, explained or drawn is a problem in it, never an exception.
    """
    outcome = Outcome(task.sample.name, files=[fingerprint(path) for path in sample_files(task)])
    try:
        opened = _open(explainer, task)
        judge = Judge(explainer.model, opened.image, opened.question, opened.truth, plan.metrics, plan.steps)
        if task.gallery is not None:
            path = task.gallery / f"{file_key(task.sample.name)}.jpg"
            _draw(outcome, path, lambda: _outlined(opened))
    except UnusableSample as error:
        outcome.problems.append(error.problem)
        return outcome
    except Exception as error:  # noqa: BLE001 - one sample never stops the others
        outcome.report(_reason(error))
        return outcome
    for variant in task.variants:
        try:
            row, overlay = _row(explainer, judge, opened, task.sample.name, variant)
        except Exception as error:  # noqa: BLE001
            outcome.report(f"{variant.name}: {_reason(error)}")
            continue
        if task.gallery is not None:
            _draw(outcome, task.gallery / f"{file_key(f'{task.sample.name} {variant.name}')}.jpg", overlay)
        outcome.rows.append({**row, "conditions": conditions})
    return outcome


def sample_files(task: Task) -> list[Path]:
    """Return all files that a task's rows depend on."""
    return list(dict.fromkeys(p for sample in (task.sample, *task.truths.values()) for p in files_of(sample)))


def _open(explainer: Explainer, task: Task) -> _Opened:
    sample = task.sample
    frame = read_frame(sample.picture)
    target: Any = sample.label
    asked, image = explainer.ask(frame, target)
    (question,), _ = explainer.model.settle([asked], image)
    if target is None and question.index >= 0:
        target = question.index
        sample = task.truths.get(target) or task.truths.get(None) or sample
    return _Opened(frame, image, question, target, sample.truth(frame.shape[0], frame.shape[1]))


def _row(
    explainer: Explainer, judge: Judge, opened: _Opened, sample: str, variant: Variant
) -> tuple[Row, Callable[[], NDArray[np.uint8]]]:
    """A heat map, judged, and the function that draws it."""
    result = explainer.explain(opened.frame, opened.target, method=variant.method, **variant.parameters)
    row = {
        "sample": sample,
        "variant": variant.name,
        "label": result.label,
        "target": result.target,
        "confidence": judge.confidence,
        **judge.judge(result),
        "forward_passes": result.forward_passes,
        "backward_passes": result.backward_passes,
        "seconds": result.timings["total"],
        "notes": "; ".join(result.notes[len(explainer.notes) :]),
    }
    return row, result.overlay


def _reason(error: Exception) -> str:
    """The error in words; raises it again where every other sample would meet it, too."""
    everywhere = isinstance(error, EVERYWHERE) and not isinstance(error, OutOfMemoryError)
    if everywhere:
        raise error
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, SiseError):
        return str(error)
    return f"this is a bug in sise-ort, please report it: {type(error).__name__}: {first_line(error)}"


def _draw(outcome: Outcome, path: Path, picture: Callable[[], NDArray[np.uint8]]) -> None:
    """Keep a picture of the gallery; one that cannot be drawn or written is a problem."""
    from sise_ort.drawing import encode_jpeg

    try:
        write_file(path, encode_jpeg(picture()), lasting=False)
    except Exception as error:  # noqa: BLE001
        outcome.report(f"not in the gallery: {_reason(error)}")


def _outlined(opened: _Opened) -> NDArray[np.uint8]:
    from sise_ort.drawing import as_rgb, outlined

    return as_rgb(opened.frame) if opened.truth is None else outlined(opened.frame, opened.truth)
