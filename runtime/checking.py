"""Checks explanations: what hiding the map does to the answer, the runner-up's map, and heat where it cannot belong."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Fit, Manifest
from sise_ort.errors import FrameError, ParameterError, option, shown
from sise_ort.fitting import fit_frame
from sise_ort.formulas.seed import NO_OTHER
from sise_ort.frame import read_frame
from sise_ort.metrics import correlation, hard_mask
from sise_ort.readouts import Question
from sise_ort.runtime.methods.budget.limits import Budget
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Attribution, Attributions
from sise_ort.runtime.methods.scoring import require_finite_answers
from sise_ort.runtime.methods.sise import Sise
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.preparing import Asked, Prepared
from sise_ort.runtime.providers import Tensor
from sise_ort.verdicts import (
    SHARE,
    black_margin,
    border_share,
    hot_share,
    share_outside,
    verdict_of,
)

LARGEST_RATIO = 2.0
"""Shares of the confidence are cut to this: those of a confidence near 0 have no bounds."""
WITHOUT_PASSES = Sise(budget=Budget(passes=0))
"""SISE's map without any mask scored: that of the runner-up costs a forward and a backward pass."""


@dataclass(frozen=True, eq=False)
class Checks:
    """What checks of an explanation need to know.

    Parameters
    ----------
    part : array, path or None
        Where the part is, of the frame's own size: an array, [H0, W0], or a picture, that is not 0 there. None takes the
        frame's black margin for the background.
    """

    part: Any = None

    def __post_init__(self) -> None:
        part = self.part
        if isinstance(part, (str, os.PathLike)):
            part = read_frame(Path(part)).max(axis=2) > 0
        elif part is not None:
            part = np.asarray(part)
            if part.ndim != 2 or (not np.issubdtype(part.dtype, np.number) and part.dtype != bool):
                raise ParameterError(
                    f"{option('part_mask')} is {shown(self.part)}; an array [H, W] of the frame's size is needed, or a picture"
                )
            part = part != 0
        if part is not None and not part.any():
            raise ParameterError(f"{option('part_mask')} is 0 everywhere: there is no part in it")
        object.__setattr__(self, "part", part)

    @classmethod
    def of(cls, given: bool | Checks) -> Checks | None:
        """What is to be checked, from what a user passes; None for nothing.

        Parameters
        ----------
        given : bool or Checks
            True for checks without a part's mask.

        Raises
        ------
        ParameterError
            It is neither.
        """
        if isinstance(given, Checks):
            return given
        if not isinstance(given, (bool, np.bool_)):
            raise ParameterError(f"checks is {shown(given)}; it must be True, False or Checks(part=…)")
        return cls() if given else None

    def at_network_size(self, prepared: Prepared, manifest: Manifest) -> NDArray[np.bool_]:
        """Where the part is in the network's picture, bool [H, W].

        Parameters
        ----------
        prepared : Prepared
            The frame.
        manifest : Manifest
            What brings frames to network size.

        Raises
        ------
        FrameError
            The part's mask is not of the frame's size.
        """
        top, bottom, left, right = prepared.placement.network
        inside = np.zeros(prepared.fitted.shape[:2], bool)
        inside[top:bottom, left:right] = True
        if self.part is None:
            return inside & ~black_margin(prepared.fitted)
        size = prepared.placement.frame_size
        if self.part.shape != size:
            raise FrameError(
                f"{option('part_mask')} is {self.part.shape[0]} × {self.part.shape[1]}, the frame {size[0]} × {size[1]}: "
                "both must have one size"
            )
        fit = manifest.fit
        empty = Fit(fit.mode, fit.resize, (0,) if fit.mode == "letterbox" else ())
        fitted, _ = fit_frame(self.part[:, :, None].astype(np.float32), manifest.input, empty)
        return np.asarray(fitted[:, :, 0] >= 0.5) & inside


def with_verdicts(
    model: BundleModel, asked: Asked, found: Attributions, checks: Checks, *, passes: bool = True
) -> Attributions:
    """A method's answers, each with its verdict.

    Parameters
    ----------
    model : BundleModel
        The bundle.
    asked : Asked
        The picture and its questions.
    found : Attributions
        The answers.
    checks : Checks
        What is to be checked.
    passes : bool
        Whether the network may be asked; without, nothing is hidden and there is no contrast.

    Returns
    -------
    Attributions
        Passes and seconds of the checks count with those of the answers; ``timings["check"]`` is theirs alone.

    Raises
    ------
    FrameError
        The part's mask does not fit the frame, or an answer of the network is not finite.
    """
    began = time.perf_counter()
    part = checks.at_network_size(asked.prepared, model.manifest)
    answers, forward, backward = [], 0, 0
    for k, answer in enumerate(found.answers):
        numbers: dict[str, float | None] = {
            "agreement": answer.facts.get("agreement"),
            "off_part": share_outside(answer.heatmap, part),
            "hot": hot_share(answer.heatmap),
            "border": border_share(answer.heatmap),
        }
        if passes and answer.heatmap.any():
            if model.manifest.bounded:
                confidence = float(found.whole.psi[k, 0])
                numbers |= hidden_and_kept(model, asked.image, answer, confidence)
                forward += model.padded(2)
            other = runner_up(model.manifest, answer.question, found.whole.scores[0])
            if other is not None:
                rival = WITHOUT_PASSES.explain(model, asked.image, [other], Call())
                numbers["contrast"] = correlation(answer.heatmap, rival.answers[0].heatmap)
                forward, backward = forward + rival.forward_passes, backward + rival.backward_passes
        answers.append(replace(answer, verdict=verdict_of(numbers)))
    return replace(
        found,
        answers=answers,
        forward_passes=found.forward_passes + forward,
        backward_passes=found.backward_passes + backward,
        timings={**found.timings, "check": time.perf_counter() - began},
    )


def hidden_and_kept(
    model: BundleModel, image: Tensor, answer: Attribution, confidence: float
) -> dict[str, float | None]:
    """Drop and keep: what becomes of the confidence without the map's highest pixels, and with them alone.

    Parameters
    ----------
    model : BundleModel
        Its Ψ lies in [0, 1].
    image : tensor, [1, H, W, C]
        The picture.
    answer : Attribution
        The map T of it; its highest 15 % of pixels are 1 in M.
    confidence : float
        Ψ of the whole picture.

    Returns
    -------
    dict
        drop = 1 - Ψ(I ⊙ (1 - M)) / Ψ(I) and keep = Ψ(I ⊙ M) / Ψ(I), each cut to at most 2 from 0; None where the
        confidence is 0.
    """
    if confidence <= 0:
        return {"drop": None, "keep": None}
    shown_part = hard_mask(answer.heatmap, SHARE).astype(np.float32)
    answers = model.answers([answer.question], np.stack([1 - shown_part, shown_part])[:, None], image)
    require_finite_answers(answers.psi)
    hidden, kept = np.clip(answers.psi[0] / confidence, 0, LARGEST_RATIO)
    return {"drop": 1 - float(hidden), "keep": float(kept)}


def runner_up(manifest: Manifest, question: Question, scores: NDArray[np.floating]) -> Question | None:
    """The question about the class with the highest score among the others.

    Parameters
    ----------
    manifest : Manifest
        The bundle's facts.
    question : Question
        About a class.
    scores : float32, [classes]
        Of the whole picture.

    Returns
    -------
    Question or None
        None where no class is asked about alone, or there is only one.
    """
    if manifest.task.name != "classes" or question.absent or question.other != NO_OTHER or len(scores) < 2:
        return None
    rest = scores.astype(np.float64)
    rest[question.index] = -np.inf
    return Question.of_class(int(np.argmax(rest)))
