"""Refine: the product of LayerCAM's maps over the last blocks, which is high only where all of them agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sise_ort.readouts import Question
from sise_ort.runtime.maps import NO_EVIDENCE, to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import whole_number
from sise_ort.runtime.methods.layer_cam import layer_cam_maps
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.extracted import Extracted
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

APART = "the blocks' evidence for the class has no place in common: the heat map is zero"


@dataclass(frozen=True)
class Refine(Method):
    """The product of the last blocks' LayerCAM maps, each upsampled and scaled by its maximum; scaled by its own maximum.

    The deep maps say where the object is, the shallow ones where its edges and textures are; their product is high only
    where all agree, and 0 everywhere where one block has no evidence for the class at all; the notes say so.

    Parameters
    ----------
    blocks : int
        Number of blocks, counted from the last; all of them where the network has fewer. Blocks that the explained number
        does not depend on are left out, such as those behind the feature map that a detection was found in.
    """

    name = "refine"
    title = "Refine"
    source = "the product over blocks of RefineCAM, arXiv 2605.14641, of LayerCAM maps in the place of Grad-CAM++ maps"
    price = "one forward and one backward pass"

    blocks: int = 4

    def __post_init__(self) -> None:
        self._set(blocks=whole_number("blocks", self.blocks))

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        extracted = model.extract(image, questions, 0.0)
        require_finite(*extracted.answers.arrays)
        maps, notes = refined(model, extracted, questions, self.blocks)
        answers = [
            Attribution(question, heatmap, own)
            for question, heatmap, own in zip(extracted.questions, maps, notes, strict=True)
        ]
        return Attributions(answers, extracted.answers, 1, len(questions))


def refined(
    model: BundleModel, extracted: Extracted, questions: Sequence[Question], blocks: int
) -> tuple[list[NDArray[np.float32]], list[tuple[str, ...]]]:
    """The heat map of `Refine` for every question, and its notes.

    Parameters
    ----------
    model : BundleModel
        The bundle.
    extracted : Extracted
        Feature maps, and the gradients of the questions' scores.
    questions : sequence of Question
        What the gradients are of.
    blocks : int
        Number of blocks, counted from the last.

    Returns
    -------
    heatmaps : list of float32 arrays, [H, W]
        In [0, 1].
    notes : list of tuples
        Why a map is zero.

    Raises
    ------
    FrameError
        A gradient or a map is not finite.
    """
    spec = model.manifest.input
    size = (spec.height, spec.width)
    products = [np.ones(size) for _ in questions]
    silent: list[list[str]] = [[] for _ in questions]
    left = [blocks] * len(questions)
    for place in reversed(range(model.blocks)):
        reached = [
            n > 0 and alpha.any() for n, alpha in zip(left, extracted.pooled_gradients[place], strict=True)
        ]
        if not any(reached):
            continue
        layer = model.manifest.layers[place]
        for k, values in enumerate(layer_cam_maps(extracted, place, questions)):
            if not reached[k]:
                continue
            left[k] -= 1
            wide, nothing = to_heatmap(values, size)
            products[k] *= wide
            if nothing:
                name = layer.module or layer.tensor
                silent[k].insert(0, f"block {place + 1} ({name}): {NO_EVIDENCE}")
    for k in (k for k, n in enumerate(left) if n == blocks):
        products[k][:] = 0
        silent[k].append(NO_EVIDENCE)
    heatmaps, notes = [], []
    for product, empty in zip(products, silent, strict=True):
        peak = float(product.max())
        heatmaps.append((product / peak if peak > 0 else product).astype(np.float32))
        notes.append(tuple(empty) if empty or peak > 0 else (APART,))
    return heatmaps, notes
