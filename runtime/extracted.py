"""What a bundle's phases give and take besides arrays: feature maps with their gradients, and which of them to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import BundleError, FrameError
from sise_ort.readouts import Answers, Question
from sise_ort.runtime.session import Tensor

NEARLY = 1e-3
"""How far rounding may carry a value out of its range."""


@dataclass(frozen=True)
class Extracted:
    """What one forward and K backward passes gave.

    Attributes
    ----------
    questions : list of Question
        K of them, with their classes known.
    answers : Answers
        What the network answers to the whole picture, [K, 1].
    pooled_gradients : list of arrays, [K, N_b]
        Per block, sums over locations of the gradient of every map.
    spans : list of arrays, [N_b]
        Per block, (maximum - minimum) / maximum magnitude of every map.
    features, gradients : list of tensors, [1, N_b, h, w] and [K, N_b, h, w]
        Per block, on the device.
    """

    questions: list[Question]
    answers: Answers
    pooled_gradients: list[NDArray[np.float32]]
    spans: list[NDArray[np.float32]]
    features: list[Tensor]
    gradients: list[Tensor]

    @classmethod
    def of(
        cls,
        questions: list[Question],
        answers: Answers,
        fetched: Mapping[str, NDArray[np.float32]],
        kept: Mapping[str, Tensor],
    ) -> Extracted:
        """What extract.onnx gave: small arrays fetched, feature maps and gradients kept on the device."""
        blocks = range(1, len(kept) // 2 + 1)
        return cls(
            questions,
            answers,
            [fetched[f"alpha_{b}"] for b in blocks],
            [fetched[f"span_{b}"][0] for b in blocks],
            [kept[f"features_{b}"] for b in blocks],
            [kept[f"gradients_{b}"] for b in blocks],
        )

    @property
    def scores(self) -> NDArray[np.float32]:
        """Class scores [classes] of the whole picture, [0] of networks that give none."""
        scores: NDArray[np.float32] = self.answers.scores[0]
        return scores


@dataclass(frozen=True)
class Pick:
    """Feature maps of one block of a picture, and the indices of those to use as masks.

    Attributes
    ----------
    image : tensor, [1, H, W, C]
        The uploaded frame.
    maps : tensor, [1, N, h, w]
        All maps of the block.
    index : int64, [n]
        Those to use.
    questions : sequence of Question
        What is asked about the picture; all picks of one picture have the same sequence.
    """

    image: Tensor
    maps: Tensor
    index: NDArray[np.int64]
    questions: Sequence[Question]


@dataclass(frozen=True)
class Scored:
    """What the network answers to a picture through n masks.

    Attributes
    ----------
    answers : Answers
        To the masked inputs, [K, n].
    extent, total : float32, [n]
        Range and sum of the masks (see mask.onnx).
    """

    answers: Answers
    extent: NDArray[np.float32]
    total: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of masks."""
        return len(self.total)

    @staticmethod
    def joined(parts: Sequence[Scored]) -> Scored:
        """The answers to all masks, from parts of them in order."""
        extent, total = (np.concatenate([getattr(p, name) for p in parts]) for name in ("extent", "total"))
        return Scored(Answers.joined([p.answers for p in parts]), extent, total)


@dataclass(frozen=True)
class Sketch:
    """Masks averaged over a coarse grid (see sketch.onnx); the M masks of all blocks stand in one row.

    Attributes
    ----------
    cells : float32, [M, R, C]
        Means of each mask over the cells of a coarse grid, in [0, 1].
    extent : float32, [M]
        Range of each map.
    texture : float32, [M, 2]
        Roughness and mean square of each mask.
    evidence : float32, [K, R, C]
        Where the last block speaks for each class; not negative.
    pixels : int
        Pixels of the network's input.
    """

    cells: NDArray[np.float32]
    extent: NDArray[np.float32]
    texture: NDArray[np.float32]
    evidence: NDArray[np.float32]
    pixels: int

    @classmethod
    def of(cls, fetched: Mapping[str, NDArray[np.float32]], counts: Sequence[int], pixels: int) -> Sketch:
        """What sketch.onnx gave, its blocks in one row; counts : maps that were wanted of each block.

        Raises
        ------
        BundleError, FrameError
            Cells do not lie in [0, 1], or a number is not finite.
        """
        cells, extent, texture = (
            np.concatenate([fetched[f"{kind}_{b}"][:count] for b, count in enumerate(counts, 1)])
            for kind in ("cells", "range", "texture")
        )
        require_unit_range("sketch", cells)
        require_finite("sketch", extent, texture, fetched["evidence"])
        return cls(cells, extent, texture, fetched["evidence"], pixels)


def require_finite(phase: str, *arrays: NDArray[np.float32]) -> None:
    """Raise FrameError where what a graph gave for this frame is NaN or infinite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise FrameError(f"{phase}.onnx answers this frame with values that are NaN or infinite")


def require_unit_range(phase: str, values: NDArray[np.float32]) -> None:
    """Raise BundleError where maps that a graph gave do not lie in [0, 1], FrameError where they are NaN or infinite."""
    if values.size and not (values.min() >= -NEARLY and values.max() <= 1 + NEARLY):  # NaN is neither
        require_finite(phase, values)
        raise BundleError(
            f"{phase}.onnx gave maps from {values.min():.3g} to {values.max():.3g} instead of 0 to 1: the bundle is "
            "damaged, export it again"
        )
