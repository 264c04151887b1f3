"""From frame to decision, and from reject to explanations: what the line asks of the runtime."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sise_ort.bundle import Manifest
from sise_ort.errors import ParameterError, option, shown
from sise_ort.explanation import Explanation
from sise_ort.line.jobs import ACCEPTED, REJECTED, Job
from sise_ort.line.settings import LineSettings, check_threshold
from sise_ort.pictures import read_bytes
from sise_ort.runtime.asking import Asking, questions_of
from sise_ort.runtime.checking import Checks, with_verdicts
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.extracted import require_finite
from sise_ort.runtime.methods.method import Method
from sise_ort.runtime.methods.registry import method_of
from sise_ort.runtime.preparing import Asked, prepare
from sise_ort.runtime.results import explanations
from sise_ort.targets import class_index


class Decider:
    """Classifies frames by one pass of the network each, and explains those that are rejected.

    Parameters
    ----------
    explainer : Explainer
        The open bundle; its network gives class scores.
    explain : sequence of str, or None
        The classes that make a part a reject and are explained; None for all classes.
    threshold : float
        The confidence from which on a class counts.
    deadline : float or None
        Seconds from a part's submission to its explanation.
    settings : LineSettings

    Raises
    ------
    ParameterError, TargetError
        The network gives no class scores, there is no such class, or a value is out of its range.
    """

    def __init__(
        self,
        explainer: Explainer,
        explain: Sequence[str] | None,
        threshold: float,
        deadline: float | None,
        settings: LineSettings,
    ) -> None:
        manifest = explainer.manifest
        if manifest.task.name != "classes":
            raise ParameterError(
                f"the bundle '{manifest.name}' is of the task {manifest.task.name}; a line decides by class scores"
            )
        self.explainer, self._settings = explainer, settings
        self.threshold = check_threshold(threshold, manifest.bounded)
        self.labels = tuple(manifest.labels) or tuple(map(str, range(manifest.head.classes)))
        self.wanted = _indices(manifest, self.labels, explain)
        limited = {} if deadline is None else {"deadline": deadline}
        self._checks, self._checking = Checks.of(settings.checks), 0.0
        self._method: Method = method_of("sise", {**settings.parameters, **limited})
        self._no_passes: Method = method_of(
            "sise", {**{k: v for k, v in settings.parameters.items() if k == "mu"}, "passes": 0}
        )

    def classify(self, job: Job) -> None:
        """Read a part's picture, and decide.

        Raises
        ------
        SiseError
            The picture cannot be read or gives no finite scores.
        """
        settings = self._settings
        if isinstance(job.frame, Path):
            job.frame = read_bytes(
                job.frame
            )  # what is looked at is what is kept, whatever becomes of the file
        prepared = prepare(self.explainer.manifest, job.frame, settings.color, settings.levels)
        prepared = replace(prepared, frame=replace(prepared.frame, source=job.name))
        asking = Asking(self.explainer.model, prepared)
        scores, confidences = asking.outputs["scores"], asking.outputs["confidence"]
        require_finite("predict", scores, confidences)
        values = np.ravel(confidences)
        order = sorted(self.wanted, key=lambda i: -values[i])
        over = [i for i in order if values[i] >= self.threshold]
        job.asking = asking
        job.wanted = tuple(over)
        job.learn(
            decision=REJECTED if over else ACCEPTED,
            label=self.labels[order[0]],
            confidence=float(values[order[0]]),
            scores=tuple(map(float, np.ravel(scores))),
            confidences={label: float(value) for label, value in zip(self.labels, values, strict=True)},
        )

    def explain(self, job: Job, *, passes: bool) -> tuple[Explanation, ...]:
        """Explain a reject within what is left of its deadline.

        Parameters
        ----------
        job : Job
            A part that `classify` has rejected.
        passes : bool
            Whether masks may be scored.

        Raises
        ------
        SiseError
            It cannot be explained.
        """
        assert job.asking is not None
        method, model = self._method if passes else self._no_passes, self.explainer.model
        began = time.perf_counter()
        questions, _ = questions_of(job.asking, list(job.wanted))
        method.require(self.explainer.manifest, questions)
        prepared = job.asking.prepared
        asked = Asked(
            prepared, job.asking.image, questions, True, job.asking.passes, time.perf_counter() - began
        )
        call = method.call(model, None, job.began - self._checking)
        found = method.timed(model, asked.image, questions, call)
        if self._checks is not None:
            found = with_verdicts(model, asked, found, self._checks, passes=passes)
            if passes:
                self._checking = found.timings["check"]
        seconds = time.perf_counter() - began
        return tuple(explanations(model, asked, method, found, seconds, self.explainer.notes))


def _indices(manifest: Manifest, labels: Sequence[str], explain: Any) -> tuple[int, ...]:
    if explain is None:
        return tuple(range(len(labels)))
    if isinstance(explain, str) or not isinstance(explain, Sequence) or not explain:
        raise ParameterError(
            f"{option('explain')} is {shown(explain)}; a sequence of labels such as ('crack', 'patch') is needed"
        )
    return tuple(dict.fromkeys(class_index(manifest, label) for label in explain))
