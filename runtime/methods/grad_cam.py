"""Grad-CAM and Grad-CAM++: feature maps of one block, weighted by the gradients of the class score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import ParameterError
from sise_ort.readouts import Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import option_of, whole_number
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.extracted import Extracted
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

Array = NDArray[np.float64]


def grad_cam_weights(features: Array, gradients: Array) -> Array:
    """w_k = mean over locations of ∂z_c/∂A_k (Selvaraju et al., equation 1); from [N, h, w] each to [N]."""
    return np.asarray(gradients.mean((1, 2)))


def grad_cam_plus_plus_weights(features: Array, gradients: Array) -> Array:
    """w_k = Σ_ij a_ij · max(0, g_ij), a_ij = 1 / (2 + g_ij · Σ A_k) (Chattopadhay et al., equations 14 and 19).

    The paper's derivatives are of exp(z_c), whose powers of g cancel; written so, no small constant is needed.
    """
    denominator = 2 + gradients * features.sum((1, 2), keepdims=True)
    a = np.divide(1.0, denominator, out=np.zeros_like(denominator), where=denominator != 0)
    return np.asarray((np.maximum(gradients, 0) * a).sum((1, 2)))


def block_index(model: BundleModel, block: int) -> int:
    """The place of a block that is counted from 1, shallow to deep; 0 means the last one.

    Raises
    ------
    ParameterError
        The bundle has no such block.
    """
    if block > model.blocks:
        raise ParameterError(
            f"{option_of('block')} is {block}; the bundle has blocks 1 to {model.blocks} (0: the last)"
        )
    return (block or model.blocks) - 1


def places_of(
    model: BundleModel, extracted: Extracted, block: int
) -> tuple[list[int], list[tuple[str, ...]]]:
    """For every question the place of its block, and a note where it is not the last.

    A block that is asked for is taken; 0 means the last one that the explained number depends on, since a detection that was
    found on a shallow feature map has no gradient in the blocks behind it.
    """
    last = block_index(model, block)
    places: list[int] = []
    notes: list[tuple[str, ...]] = []
    for k in range(len(extracted.questions)):
        reached = [b for b, alpha in enumerate(extracted.pooled_gradients) if alpha[k].any()]
        place = last if block or not reached else reached[-1]
        layer = model.manifest.layers[place]
        places.append(place)
        name = f"block {place + 1} ({layer.module or layer.tensor})"
        behind = f"the map is of {name}: what is explained does not depend on the blocks behind it"
        notes.append(() if place == last else (behind,))
    return places, notes


@dataclass(frozen=True)
class GradCam(Method):
    """max(0, Σ_k w_k A_k) of one block, w_k the mean gradient of the class score over map A_k, upsampled bilinearly.

    Parameters
    ----------
    block : int
        Number of the block, from 1, shallow to deep; 0 takes the last that the explained number depends on.
    """

    name = "gradcam"
    title = "Grad-CAM"
    source = "Selvaraju et al., ICCV 2017, arXiv 1610.02391"
    price = "one forward and one backward pass"

    block: int = 0

    def __post_init__(self) -> None:
        self._set(block=whole_number("block", self.block, 0))

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        block_index(model, self.block)  # refuses what is none, before anything runs
        extracted = model.extract(image, questions, 0.0)
        require_finite(*extracted.answers.arrays)
        places, said = places_of(model, extracted, self.block)
        spec = model.manifest.input
        found: dict[int, Attribution] = {}
        for place in set(places):
            features = extracted.features[place].numpy()[0].astype(np.float64)
            gradients = extracted.gradients[place].numpy().astype(np.float64)
            require_finite(gradients)
            for k in (k for k, own in enumerate(places) if own == place):
                question = extracted.questions[k]
                weights = self._weights(features, question.sign * gradients[k])
                heatmap, notes = to_heatmap(np.tensordot(weights, features, 1), (spec.height, spec.width))
                found[k] = Attribution(question, heatmap, said[k] + notes)
        answers = [found[k] for k in range(len(places))]
        return Attributions(answers, extracted.answers, 1, len(questions))

    def _weights(self, features: Array, gradients: Array) -> Array:
        return grad_cam_weights(features, gradients)


@dataclass(frozen=True)
class GradCamPlusPlus(GradCam):
    """max(0, Σ_k w_k A_k) of one block, w_k = Σ a · max(0, g), a = 1 / (2 + g · Σ A_k), g the gradient at a place.

    Unlike Grad-CAM's mean gradients, these weights count every place where a map speaks for the class.

    Parameters
    ----------
    block : int
        Number of the block, from 1, shallow to deep; 0 takes the last that the explained number depends on.
    """

    name = "gradcam++"
    title = "Grad-CAM++"
    source = "Chattopadhay et al., WACV 2018, arXiv 1710.11063"

    def _weights(self, features: Array, gradients: Array) -> Array:
        return grad_cam_plus_plus_weights(features, gradients)
