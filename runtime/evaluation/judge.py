"""All metrics of one heat map on one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sise_ort import metrics
from sise_ort.explanation import Explanation
from sise_ort.readouts import Answers, Question
from sise_ort.runtime.maps import gaussian_matrix
from sise_ort.runtime.methods.scoring import require_finite_answers
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor

BLUR = 5.0
"""Standard deviation, in pixels, of the blurred picture that insertion starts from (Petsiuk et al. 2018)."""


@dataclass(frozen=True)
class Metric:
    """A measure of a heat map, in [0, 1].

    Attributes
    ----------
    title : str
        As papers write it.
    higher : bool
        Whether more is better.
    truth : bool
        Whether it needs to know where the object is.
    probability : bool
        Whether it needs a confidence in [0, 1].
    """

    title: str
    higher: bool
    truth: bool = False
    probability: bool = False

    @property
    def heading(self) -> str:
        """The title with an arrow that shows which way is better."""
        return f"{self.title} {'↑' if self.higher else '↓'}"


METRICS = {
    "ebpg": Metric("EBPG", True, truth=True),
    "miou": Metric("mIoU", True, truth=True),
    "bbox": Metric("Bbox", True, truth=True),
    "drop": Metric("Drop %", False, probability=True),
    "increase": Metric("Increase %", True, probability=True),
    "insertion": Metric("Insertion", True),
    "deletion": Metric("Deletion", False),
}
"""All metrics; values are in [0, 1], reported times 100."""


class Judge:
    """Judges any number of heat maps of one picture and question.

    Parameters
    ----------
    model : BundleModel
        The bundle's phases.
    image : tensor, [1, H, W, C]
        The uploaded picture.
    question : Question
        What is explained, its class known.
    truth : bool, [H0, W0], or None
        Where the object is, at the picture's own size; None where it is not known.
    names : sequence of str
        Names of `METRICS`.
    steps : int
        Steps of insertion and deletion.
    """

    def __init__(
        self,
        model: BundleModel,
        image: Tensor,
        question: Question,
        truth: NDArray[np.bool_] | None,
        names: Sequence[str],
        steps: int,
    ) -> None:
        self.model, self.image, self.truth, self.names, self.steps = model, image, truth, names, steps
        self.question = question
        self.input = model.network_input(image)
        self.confidence = float(self._psi(model.answers([question], self.input))[0])
        self.blurred = blurred(self.input)

    def judge(self, result: Explanation) -> dict[str, float]:
        """Compute the metrics of a heat map.

        Parameters
        ----------
        result : Explanation
            The heat map, of the judge's picture and question.

        Returns
        -------
        dict
            Values by metric, NaN where one has no meaning; "tied" is the share of tied pixels at the hard mask's level.
        """
        found = {name: self._metric(name, result) for name in self.names if name not in ("drop", "increase")}
        if {"drop", "increase"} & set(self.names):
            found |= self._hard_mask(result)
        found["tied"] = metrics.tied_share(result.heatmap)
        return found

    def _metric(self, name: str, result: Explanation) -> float:
        if METRICS[name].truth:
            if self.truth is None:
                return math.nan
            compare = {
                "ebpg": metrics.energy_pointing_game,
                "miou": metrics.intersection_over_union,
                "bbox": metrics.bbox_share,
            }
            return compare[name](result.frame_heatmap, self.truth)
        return self._curve(result.heatmap, insert=name == "insertion")

    def _hard_mask(self, result: Explanation) -> dict[str, float]:
        if not self.model.manifest.bounded:
            return {"drop": math.nan, "increase": math.nan}
        mask = metrics.hard_mask(result.heatmap).astype(np.float32)
        masked = float(self._psi(self.model.answers([self.question], mask[None, None], self.image))[0])
        return {
            "drop": metrics.drop(self.confidence, masked),
            "increase": float(metrics.increase(self.confidence, masked)),
        }

    def _curve(self, heatmap: NDArray[np.float32], insert: bool) -> float:
        """Insertion: from the blurred picture to the whole; deletion: from the whole to the hidden picture."""
        places = metrics.pixel_order(heatmap)
        counts = np.round(np.linspace(0, len(places), self.steps + 1)).astype(np.int64)
        rank = np.empty(len(places), np.int64)
        rank[places] = np.arange(len(places))
        found = []
        batch = self.model.batch_size
        for start in range(0, len(counts), batch):
            shown = (rank[None] < counts[start : start + batch, None]).reshape(-1, 1, *heatmap.shape)
            if insert:
                inputs = np.where(shown, self.input, self.blurred)
                answer = self.model.answers([self.question], inputs)
            else:
                answer = self.model.answers([self.question], 1 - shown.astype(np.float32), self.image)
            found.append(self._psi(answer))
        return metrics.area_under_curve(np.concatenate(found))

    def _psi(self, answers: Answers) -> NDArray[np.float64]:
        require_finite_answers(answers.psi)
        return np.asarray(answers.psi[0])


def blurred(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur a network input by a Gaussian filter of `BLUR` pixels; edges count what lies inside.

    Parameters
    ----------
    x : float32, [1, C, H, W]
        What the network takes.

    Returns
    -------
    float32, [1, C, H, W]
        The same, blurred.
    """
    rows, columns = (gaussian_matrix(n, BLUR) for n in x.shape[2:])
    rows, columns = (m / m.sum(1, keepdims=True) for m in (rows, columns))
    return np.asarray(rows @ x @ columns.T, np.float32)
