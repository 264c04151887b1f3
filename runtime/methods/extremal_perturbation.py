"""Extremal Perturbation: the mask of a given area that, the rest being blurred, excites the class most.

Fong, Patrick and Vedaldi, Understanding Deep Networks via Extremal Perturbations and Smooth Masks, ICCV 2019 (arXiv
1910.08485). Constants are those of the authors' package TorchRay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import ParameterError
from sise_ort.readouts import Question
from sise_ort.runtime.maps import gaussian_matrix, to_heatmap
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import option_of, share, whole_number
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, require_finite

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

Array = NDArray[np.float32]
Kept = list[tuple[Array, Array]]

LEVELS, MAX_BLUR = 8, 20.0
STEP, SIGMA, COLDNESS = 7, 21, 20.0
LEARNING_RATE, MOMENTUM = 0.01, 0.9
AREA_WEIGHT, AREA_GROWTH = 300.0, 1.0035
MOST_AREAS = 32
"""Areas that may be asked for at once."""
CHUNK = 64
"""Cells worked on at once, so that they stay in the processor's cache."""


class SmoothMasks:
    """Masks that are smooth by construction: each pixel is a soft maximum over the parameters around it.

    A parameter p_i on a grid of `STEP` pixels reaches the pixel u with v = k(|u - u_i| / σ) · p_i, k(z) = exp(-2 max(0,
    z - ½)²); the mask is Σ v softmax(20 v) over the (2r + 1)² nearest parameters. It has a margin of σ on each side.

    Parameters
    ----------
    size : tuple of int
        (H, W) of the masks in the end.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.radius = 1 + math.ceil(SIGMA / STEP)
        self.padding = 1 + math.ceil(2 * SIGMA / STEP)
        self.grid = tuple(math.ceil(n / STEP) for n in size)
        self.cells = tuple(n + 2 * (self.padding - self.radius) for n in self.grid)
        self.full = tuple(STEP * n - STEP + 1 for n in self.cells)
        side = 2 * self.radius + 1
        offsets, places = np.arange(STEP), np.arange(side)
        distance = offsets[:, None] - SIGMA - STEP * (places - self.padding)  # [offset in a cell, parameter]
        squared = (distance**2)[:, None, :, None] + (distance**2)[None, :, None, :]
        z = np.sqrt(squared) / SIGMA
        self.kernel = np.exp(-2 * np.maximum(z - 0.5, 0) ** 2).reshape(STEP**2, side**2).astype(np.float32)

    def make(self, parameters: Array) -> tuple[Array, Kept]:
        """The mask with its margin, [full height, full width], and what `pull_back` needs again."""
        patches = self._windows(parameters)
        values = np.empty((len(patches), STEP**2), np.float32)
        kept: Kept = []
        for start in range(0, len(patches), CHUNK):
            part = slice(start, start + CHUNK)
            heat = patches[part, None] * (COLDNESS * self.kernel)
            e = np.exp(heat)
            total = e.sum(2)
            values[part] = np.einsum("cok,cok->co", heat, e) / (COLDNESS * total)
            kept.append((e, total))
        wide = values.reshape(*self.cells, STEP, STEP).transpose(0, 2, 1, 3)
        full = wide.reshape(STEP * self.cells[0], STEP * self.cells[1])[: self.full[0], : self.full[1]]
        return np.ascontiguousarray(full), kept

    def _windows(self, parameters: Array) -> Array:
        """The parameters around each cell, [cells, (2r + 1)²], 0 outside the grid."""
        side = 2 * self.radius + 1
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(parameters, self.padding), (side, side))
        return windows.reshape(-1, side**2)

    def pull_back(self, gradient: Array, parameters: Array, mask: Array, kept: Kept) -> Array:
        """The gradient at the parameters from the one at the mask with its margin; mask and kept are of `make`."""
        side = 2 * self.radius + 1
        wide = [np.zeros((STEP * self.cells[0], STEP * self.cells[1]), np.float32) for _ in range(2)]
        for target, source in zip(wide, (gradient, mask), strict=True):
            target[: self.full[0], : self.full[1]] = source
        g, m = (
            w.reshape(self.cells[0], STEP, self.cells[1], STEP).transpose(0, 2, 1, 3).reshape(-1, STEP**2)
            for w in wide
        )
        patches = self._windows(parameters)
        slope = np.empty((len(g), side**2), np.float32)
        for start, (e, total) in zip(range(0, len(g), CHUNK), kept, strict=True):
            part = slice(start, start + CHUNK)
            each = (g[part] / total)[:, None]
            reach = e * self.kernel
            slope[part] = ((1 - COLDNESS * m[part, None]) * each @ reach)[:, 0]
            reach *= self.kernel
            slope[part] += patches[part] * (COLDNESS * each @ reach)[:, 0]
        cells = slope.reshape(*self.cells, side, side)
        padded = np.zeros([n + 2 * self.padding for n in self.grid], np.float32)
        for y in range(side):
            for x in range(side):
                padded[y : y + self.cells[0], x : x + self.cells[1]] += cells[:, :, y, x]
        return padded[self.padding : -self.padding, self.padding : -self.padding]

    def crop(self, mask: Array) -> Array:
        """The mask [H, W] without its margin."""
        return mask[SIGMA : SIGMA + self.size[0], SIGMA : SIGMA + self.size[1]]


class BlurPyramid:
    """A picture at `LEVELS` strengths of blur; a mask of 1 shows it sharp, one of 0 shows it most blurred."""

    def __init__(self, x: Array) -> None:
        levels = []
        for sigma in np.linspace(MAX_BLUR, 0, LEVELS):
            rows, columns = (gaussian_matrix(n, sigma) for n in x.shape[1:])
            levels.append(rows @ x @ columns.T)
        self.levels = np.stack(levels).astype(np.float32)
        self.steps = np.diff(self.levels, axis=0, append=self.levels[-1:])

    def apply(self, mask: Array) -> tuple[Array, Array]:
        """The picture [C, H, W] through a mask [H, W], and its derivative by the mask, [C, H, W]."""
        place = mask * (LEVELS - 1)
        level = np.floor(place).astype(np.int64)
        where = level[None, None]
        base = np.take_along_axis(self.levels, where, 0)[0]
        step = np.take_along_axis(self.steps, where, 0)[0]
        return base + (place - level).astype(np.float32) * step, (LEVELS - 1) * step


@dataclass
class Search:
    """One mask while it is searched for.

    Attributes
    ----------
    area : float
        Share of the picture that it is to show.
    parameters, velocity : arrays
        Its parameters, and the optimizer's memory.
    mask, score : array, float
        The present mask, and the class score reached through it.
    """

    area: float
    parameters: Array
    velocity: Array | None = None
    mask: Array | None = None
    score: float = 0.0

    def descend(self, gradient: Array) -> None:
        """A step of gradient descent with momentum (dampened, the first step not), parameters kept in [0, 1]."""
        if self.velocity is None:
            self.velocity = gradient
        else:
            self.velocity = MOMENTUM * self.velocity + (1 - MOMENTUM) * gradient
        self.parameters = np.clip(self.parameters - LEARNING_RATE * self.velocity, 0, 1)


def area_loss(mask: Array, area: float) -> tuple[float, Array]:
    """Mean squared difference of the sorted mask from a hard one that shows `area` of the pixels, and its gradient.

    Equal pixels at the border between 1 and 0 are treated alike.
    """
    flat = mask.ravel()
    zeros = int(flat.size * (1 - area))
    level = np.partition(flat, zeros)[zeros]
    above, tied = flat > level, flat == level
    share_of_ones = (flat.size - zeros - int(above.sum())) / int(tied.sum())
    difference = flat - np.where(tied, np.float32(share_of_ones), above.astype(np.float32))
    spread = int(tied.sum()) * share_of_ones * (1 - share_of_ones)  # among equal pixels some are 1 and some 0
    loss = (float((difference.astype(np.float64) ** 2).sum()) + spread) / flat.size
    return loss, (2 / flat.size * difference).reshape(mask.shape)


def loss_and_gradients(
    model: BundleModel,
    pyramid: BlurPyramid,
    masks: SmoothMasks,
    searches: Sequence[Search],
    question: Question,
    area_weight: float,
    flip: bool,
) -> list[tuple[float, Array]]:
    """For each search -z_c + area_weight · area loss, and its gradient at the parameters; sets its mask and score."""
    made = [masks.make(s.parameters) for s in searches]
    shown = [pyramid.apply(masks.crop(mask)) for mask, _ in made]
    inputs = np.stack([x for x, _ in shown])
    if flip:
        inputs = inputs[..., ::-1]
    _, answers, gradients = model.image_gradient(np.ascontiguousarray(inputs), question)
    require_finite(*answers.arrays, gradients)
    if flip:
        gradients = gradients[..., ::-1]
    found = []
    for search, (mask, kept), (_, slope), z, g in zip(
        searches, made, shown, answers.score[0], gradients, strict=True
    ):
        search.mask, search.score = masks.crop(mask), float(z)
        loss, gradient = area_loss(mask, search.area)
        gradient = area_weight * gradient
        masks.crop(gradient)[...] -= question.sign * np.einsum("chw,chw->hw", g, slope)
        found.append(
            (area_weight * loss - search.score, masks.pull_back(gradient, search.parameters, mask, kept))
        )
    return found


@dataclass(frozen=True)
class ExtremalPerturbation(Method):
    """The smooth mask of a given area that excites the class most while the rest of the picture is blurred.

    The mask is found by gradient descent. Every second step looks at the mirrored picture, as the authors do. The class score reached through each mask is
    reported.

    Parameters
    ----------
    areas : tuple of float
        Shares of the picture that the masks show; with several, the masks are averaged.
    iterations : int
        Number of steps of the descent.
    """

    name = "extremal-perturbation"
    title = "Extremal Perturbation"
    source = "Fong et al., ICCV 2019, arXiv 1910.08485"
    unit = "iterations"
    price = "a forward and a backward pass per step and area"
    graph = "image_gradient"

    areas: tuple[float, ...] = (0.1,)
    iterations: int = 800

    def __post_init__(self) -> None:
        given: Any = self.areas
        areas = (
            tuple(given)
            if isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str)
            else (given,)
        )
        if not 1 <= len(areas) <= MOST_AREAS:
            raise ParameterError(
                f"{option_of('areas')} has {len(areas)} values; 1 to {MOST_AREAS} shares of the picture are needed"
            )
        self._set(
            areas=tuple(share("areas", a) for a in areas),
            iterations=whole_number("iterations", self.iterations, most=100_000),
        )

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        x = model.network_input(image)
        settled, whole = model.settle(questions, image)
        require_finite(*whole.arrays)
        masks, pyramid = SmoothMasks((x.shape[2], x.shape[3])), BlurPyramid(x[0])
        answers = []
        call.begin(len(settled) * self.iterations)
        for k, known in enumerate(settled):
            part = call.part(k, len(settled))
            searches = [Search(a, np.ones(masks.grid, np.float32)) for a in self.areas]
            area_weight = AREA_WEIGHT
            for t in range(self.iterations):
                steps = loss_and_gradients(
                    model, pyramid, masks, searches, known, area_weight, flip=t % 2 == 0
                )
                for search, (_, gradient) in zip(searches, steps, strict=True):
                    search.descend(gradient)
                area_weight *= AREA_GROWTH
                part.report(t + 1, self.iterations)
            found = np.mean([s.mask for s in searches if s.mask is not None], axis=0)
            heatmap, notes = to_heatmap(found, masks.size)
            answers.append(Attribution(known, heatmap, notes, {"scores": [s.score for s in searches]}))
        passes = len(questions) * len(self.areas) * self.iterations
        return Attributions(answers, whole, 1 + passes, passes)
