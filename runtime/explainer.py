"""The public face of the runtime: load a bundle once, explain pictures with it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import FrameError, TargetError
from sise_ort.explanation import Explanation
from sise_ort.frame import Placement, fit_frame, read_frame, to_channels
from sise_ort.runtime.method import Progress, Question, confidences
from sise_ort.runtime.methods import METHODS, method_named
from sise_ort.runtime.model import BundleModel

Target = None | int | str
ABSENT = "not:"
POSITIVE = "positive"


class Explainer:
    """Explains pictures with one bundle; make it with `sise_ort.load`.

    Attributes
    ----------
    manifest : the bundle's facts.
    provider : the execution provider in use, "cpu", "cuda" or "tensorrt".
    notes : what was chosen or assumed on loading.
    """

    def __init__(
        self,
        bundle: str | Path,
        provider: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._model = BundleModel(bundle, provider, batch_size, threads)
        self.manifest: Manifest = self._model.manifest
        self.provider = self._model.provider.name
        notes = []
        if self.manifest.head.assumed:
            notes.append(
                f"head: {self.manifest.head.words}; a multi-label network needs `export --head sigmoid` instead"
            )
        if self.manifest.input.batch is not None:
            notes.append("masks are scored one at a time: the source file fixes its batch to 1")
        if self._model.provider.note:
            notes.append(self._model.provider.note)
        self.notes = tuple(notes)

    @property
    def model(self) -> BundleModel:
        """The bundle's phases, for methods of your own."""
        return self._model

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that this bundle has the graphs for."""
        return tuple(m.name for m in METHODS.values() if not m.graph or self.manifest.has(m.graph))

    @overload
    def explain(
        self,
        frame: Any,
        target: Target = None,
        mu: float | str | None = None,
        *,
        method: str = "sise",
        color: str = "rgb",
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanation: ...
    @overload
    def explain(
        self,
        frame: Any,
        target: Sequence[Target],
        mu: float | str | None = None,
        *,
        method: str = "sise",
        color: str = "rgb",
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Explanation]: ...
    def explain(
        self,
        frame: Any,
        target: Target | Sequence[Target] = None,
        mu: float | str | None = None,
        *,
        method: str = "sise",
        color: str = "rgb",
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanation | list[Explanation]:
        """Explain a decision, by SISE or another method.

        Parameters
        ----------
        frame : path of a picture file, or array [H0, W0, 3] or [H0, W0], uint8 (float32 where the bundle was
            exported with ``frame_dtype="float32"``), values 0 to 255, any size. An array of exactly the
            network's size is taken as it is, without the crop or border of the bundle's fit.
        target : None (the top class), an int (index from 0), a str (label), ``"not:LABEL"`` (its absence;
            sigmoid heads), ``"positive"`` (every class over 0.5; sigmoid heads), or a sequence of these.
        mu : SISE's threshold of the feature map selection, in [0, 1) relative to the largest pooled gradient of each
            block, or "adaptive" (Ada-SISE); 0 by default.
        method : "sise", or a name of `sise_ort.runtime.methods.METHODS`.
        color : channel order of an array, "rgb" or "bgr".
        progress : called with (steps done, steps in all).
        parameters : the method's own, such as ``passes=64``, ``deadline=0.2`` (seconds) or ``tolerance=0.05`` for
            SISE within a budget, ``masks=4000, seed=1`` for "rise"; see its function.

        Returns
        -------
        An Explanation; a list of them for a sequence or "positive" (empty if no class is over 0.5).

        Raises
        ------
        FrameError, TargetError, ParameterError
        BundleError : the bundle lacks the method's graph; says which export option adds it.
        """
        started = time.perf_counter()
        way = method_named(method)
        parameters = way.complete(parameters if mu is None else {"mu": mu, **parameters})
        picture = read_frame(frame, color)
        fitted, placement = self._fit(picture)
        name = str(frame) if isinstance(frame, (str, Path)) else ""
        every_positive = (
            isinstance(target, str) and target == POSITIVE and POSITIVE not in self.manifest.labels
        )
        several = every_positive or (isinstance(target, Iterable) and not isinstance(target, str))
        image = self._model.upload(fitted)
        prepared_at = time.perf_counter()

        passes = 0
        if every_positive:
            questions, passes = self._positive(image), 1
            if not questions:
                return []
        else:
            asked: list[Any] = list(target) if several else [target]  # type: ignore[arg-type]
            if not asked:
                raise TargetError("target is an empty sequence")
            questions = [self.question(t) for t in asked]
        way.require(self.manifest, questions)
        given = dict(parameters)
        deadline = given.get("deadline")
        if isinstance(deadline, (int, float)) and not isinstance(deadline, bool) and deadline > 0:
            # it counts from the call on, the method counts from here
            given["deadline"] = max(deadline - (time.perf_counter() - started), 1e-9)
        run = way.run(self._model, image, questions, progress, **given)
        explained_at = time.perf_counter()

        asked_for = [answer.question for answer in run.answers]
        confidence = confidences(run.scores[None], self._confidence(run.scores)[None], asked_for)[:, 0]
        timings = {
            "prepare": prepared_at - started,
            **(run.timings or {"explain": explained_at - prepared_at}),
            "total": time.perf_counter() - started,
        }
        nothing = np.zeros((0, *fitted.shape[:2]), np.float32)
        results = [
            Explanation(
                heatmap=answer.heatmap,
                visualization_maps=nothing
                if answer.visualization_maps is None
                else answer.visualization_maps,
                mask_counts=answer.mask_counts,
                forward_passes=passes + run.forward_passes,
                backward_passes=run.backward_passes,
                target=answer.question.index,
                label=self._label(answer.question),
                confidence=float(psi),
                method=way.name,
                title=way.title,
                parameters=parameters,
                facts=answer.facts,
                timings=timings,
                notes=self.notes + answer.notes,
                source=name,
                head=self.manifest.head.words,
                layers=self.manifest.layers,
                scores=run.scores,
                model=dict(self._model.facts()),
                frame=picture,
                placement=placement,
            )
            for answer, psi in zip(run.answers, confidence, strict=True)
        ]
        return results if several else results[0]

    def prepare(self, frame: Any, *, color: str = "rgb") -> tuple[NDArray[Any], Placement]:
        """A frame as the graphs take it, [H, W, C], and how it lies on the original."""
        return self._fit(read_frame(frame, color))

    def _fit(self, picture: NDArray[Any]) -> tuple[NDArray[Any], Placement]:
        spec = self.manifest.input
        if spec.frame_dtype == "uint8" and picture.dtype != np.uint8:
            raise FrameError(
                "the frame is float32, the bundle takes uint8: round it, or export with --frame-dtype float32"
            )
        wanted = to_channels(picture, spec.channels).astype(spec.frame_dtype, copy=False)
        return fit_frame(wanted, spec, self.manifest.fit)

    def _positive(self, image: Any) -> list[Question]:
        if self.manifest.head.kind != "sigmoid":
            raise TargetError(
                f'target "positive" means every class over 0.5, which a {self.manifest.head.kind} head does not '
                "have: its outputs are "
                + (
                    "one probability for all classes together"
                    if self.manifest.head.kind == "softmax"
                    else "raw scores, not probabilities"
                )
            )
        scores = self._model.whole(image)
        return [Question(int(i)) for i in np.flatnonzero(scores > 0)]  # sigmoid(z) > 0.5

    def question(self, target: Target) -> Question:
        """The class that a target means; None means the top class, which is not known yet (a negative index).

        Raises
        ------
        TargetError
        """
        classes, labels = self.manifest.head.classes, self.manifest.labels
        if target is None:
            return Question(-1)
        if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
            if not 0 <= target < classes:
                raise TargetError(
                    f"target {target} is out of range: the network has classes 0 to {classes - 1}"
                )
            return Question(int(target))
        if not isinstance(target, str):
            raise TargetError(
                f"target is {target!r}; an index, a label, None or a sequence of these is needed"
            )
        absent = target.startswith(ABSENT) and target not in labels
        label = target[len(ABSENT) :] if absent else target
        if absent and self.manifest.head.kind != "sigmoid":
            raise TargetError(
                f'target "{target}": only a sigmoid head knows a class\'s absence; a {self.manifest.head.kind} head '
                + (
                    "shares its probability among classes: explain the other class"
                    if self.manifest.head.kind == "softmax"
                    else "gives raw scores, not probabilities"
                )
            )
        places = [i for i, name in enumerate(labels) if name == label]
        if not places and absent and not labels and label.isdigit() and int(label) < classes:
            places = [int(label)]
        if len(places) == 1:
            return Question(places[0], absent)
        if len(places) > 1:
            raise TargetError(f"label '{label}' names the classes {places}: pass the index (--target-index)")
        if not labels:
            raise TargetError(
                f"label '{label}' is unknown: the bundle has no labels (export --labels FILE); pass an index (--target-index)"
            )
        close = difflib.get_close_matches(label, labels, n=3)
        hint = (
            f"; did you mean {', '.join(map(repr, close))}?" if close else f"; there are {len(labels)} labels"
        )
        raise TargetError(f"there is no label '{label}'{hint}")

    def _label(self, question: Question) -> str:
        labels = self.manifest.labels
        name = labels[question.index] if labels else f"class {question.index}"
        return f"not {name}" if question.absent else name

    def _confidence(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Ψ of all classes, float64 [classes], from scores [classes]."""
        z = scores.astype(np.float64)
        if self.manifest.head.kind == "softmax":
            e = np.exp(z - z.max())
            return np.asarray(e / e.sum())
        return np.asarray(np.exp(-np.logaddexp(0.0, -z)) if self.manifest.head.kind == "sigmoid" else z)
