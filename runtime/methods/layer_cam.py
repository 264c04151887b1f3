"""LayerCAM: feature maps of one block, weighted at every place by the gradient there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sise_ort.readouts import Question
from sise_ort.runtime.maps import to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import whole_number
from sise_ort.runtime.methods.grad_cam import block_index, places_of
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.extracted import Extracted
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

Array = NDArray[np.float64]


def layer_cam_maps(extracted: Extracted, place: int, questions: Sequence[Question]) -> list[Array]:
    """LayerCAM of one block, per question, at the block's own size.

    Parameters
    ----------
    extracted : Extracted
        Feature maps, and the gradients of the questions' scores.
    place : int
        The block, from 0.
    questions : sequence of Question
        What the gradients are of.

    Returns
    -------
    list of float64 arrays, [h, w]
        Not negative, not scaled.

    Raises
    ------
    FrameError
        A gradient or the sum is not finite.

    Notes
    -----
    max(0, Σ_k max(0, g_k) ⊙ A_k), g_k = ∂z_c/∂A_k at every place (Jiang et al., IEEE TIP 30, 2021, equations 5 to 7).
    """
    features = extracted.features[place].numpy()[0]
    gradients = extracted.gradients[place].numpy()
    require_finite(gradients)
    found = []
    for question, gradient in zip(questions, gradients, strict=True):
        speaking = np.maximum(np.float32(question.sign) * gradient, 0)
        found.append(np.maximum(np.einsum("nhw,nhw->hw", speaking, features, dtype=np.float64), 0.0))
    return found


@dataclass(frozen=True)
class LayerCam(Method):
    """max(0, Σ_k max(0, g_k) ⊙ A_k) of one block, g_k the gradient of the class score at every place of map A_k.

    Grad-CAM gives each map one weight; LayerCAM weighs every place of it, so that shallow blocks, too, give maps of the
    object. The sum is upsampled bilinearly.

    Parameters
    ----------
    block : int
        Number of the block, from 1, shallow to deep; 0 takes the last that the explained number depends on.
    """

    name = "layercam"
    title = "LayerCAM"
    source = "Jiang et al., IEEE Transactions on Image Processing 30, 2021"
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
        maps = {place: layer_cam_maps(extracted, place, questions) for place in set(places)}
        answers = []
        for k, (question, place) in enumerate(zip(extracted.questions, places, strict=True)):
            heatmap, notes = to_heatmap(maps[place][k], (spec.height, spec.width))
            answers.append(Attribution(question, heatmap, said[k] + notes))
        return Attributions(answers, extracted.answers, 1, len(questions))
