"""Feature maps as masks: what the network answers to the picture through each of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.weights import mask_weights
from sise_ort.readouts import Answers, Question
from sise_ort.runtime.extracted import Pick, Scored
from sise_ort.runtime.methods.call import Progress
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor

Passed = TypeVar("Passed")
Reading = Callable[[Answers], NDArray[np.float64]]
"""Which number of the network's answers to n inputs is wanted, [K, n]: `psi_of` or `score_of`."""

Picks = Sequence[NDArray[np.int64]]
"""Per block, indices of feature maps."""


def psi_of(answers: Answers) -> NDArray[np.float64]:
    """Ψ of K questions, [K, n]."""
    return answers.psi


def score_of(answers: Answers) -> NDArray[np.float64]:
    """The scores of K questions, [K, n]."""
    return answers.score


@dataclass(frozen=True)
class Masks:
    """The feature maps of all blocks that become masks for some question, in one row of M.

    Attributes
    ----------
    block, index : int64, [M]
        Where each lies.
    chosen : bool, [K, M]
        For which questions.
    channels : tuple of int
        Maps per block.
    """

    block: NDArray[np.int64]
    index: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, chosen: Sequence[NDArray[np.bool_]]) -> Masks:
        """The masks of a selection.

        Parameters
        ----------
        chosen : sequence of bool arrays, [K, N_b]
            Per block, which maps are masks for which questions.
        """
        everything = np.concatenate(chosen, axis=1)
        channels = tuple(c.shape[1] for c in chosen)
        wanted = np.flatnonzero(everything.any(axis=0))
        starts = np.cumsum((0, *channels))
        block = np.searchsorted(starts, wanted, side="right") - 1
        return cls(block, wanted - starts[block], everything[:, wanted], channels)

    @property
    def wanted(self) -> list[NDArray[np.int64]]:
        """Per block, the indices of the maps."""
        return [self.index[self.block == b] for b in range(len(self.channels))]

    def gather(self, arrays: Sequence[NDArray[Any]], axis: int = 0) -> NDArray[Any]:
        """Values of these masks in one row, from arrays with a value for every map of a block."""
        parts = [np.take(a, index, axis=axis) for a, index in zip(arrays, self.wanted, strict=True)]
        return np.concatenate(parts, axis=axis)

    def counts(self, numbers: Sequence[int] | NDArray[np.int64] | None = None) -> list[tuple[int, ...]]:
        """Per question, how many of its masks lie in each block; all, or those with the given numbers."""
        among = np.ones(len(self.block), bool)
        if numbers is not None:
            among[:] = False
            among[np.asarray(numbers, np.int64)] = True
        blocks = len(self.channels)
        return [
            tuple(np.bincount(self.block[mine & among], minlength=blocks).tolist()) for mine in self.chosen
        ]

    def weights(self, values: NDArray[np.float64], mass: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        """Weights of the feature maps, w_k = s_k / (range_k · total_k), in each row and block divided by the largest.

        Parameters
        ----------
        values : float, [K, M]
            s, one row per question.
        mass : float, [M]
            range · total of each mask.

        Returns
        -------
        list of float32 arrays, [K, N_b]
            Per block; 0 for maps that are no masks.
        """
        found = []
        for b, (channels, index) in enumerate(zip(self.channels, self.wanted, strict=True)):
            here = self.block == b
            weight = np.zeros((len(values), channels), np.float32)
            if len(index):
                weight[:, index] = mask_weights(NumpyOps(), values[:, here], mass[here])
            found.append(weight)
        return found


class Job:
    """Masks of one picture that are to be scored, and the values found for them.

    Parameters
    ----------
    image : tensor, [1, H, W, C]
        The uploaded frame.
    features : sequence of tensors, [1, N_b, h, w]
        Per block.
    wanted : sequence of int64 arrays
        Per block, indices of the maps that are masks.
    questions : sequence of Question
        What is asked, their classes known.
    read : callable
        Which number of the answers the values are.
    progress : callable or None
        Called with (masks done, masks in all).

    Attributes
    ----------
    values : float64, [K, M]
        Of the masked inputs, blocks one after the other.
    extent, total : float64, [M]
        Range and sum of the masks (see mask.onnx).
    seconds : float
        Share of the time that its batches took.
    """

    def __init__(
        self,
        image: Tensor,
        features: Sequence[Tensor],
        wanted: Picks,
        questions: Sequence[Question],
        read: Reading = psi_of,
        progress: Progress | None = None,
    ) -> None:
        self.image, self.features, self.wanted = image, features, wanted
        self.questions, self.read = tuple(questions), read
        self._progress = progress
        self.size = sum(len(index) for index in wanted)
        self.taken = self._done = 0
        self.values = np.empty((len(self.questions), self.size))
        self.extent, self.total = np.empty(self.size), np.empty(self.size)
        self.seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether all masks are scored."""
        return self._done == self.size

    def take(self, most: int) -> list[Pick]:
        """The next masks to score, at most `most` of them."""
        start, first = self.taken, 0
        self.taken = min(self.taken + most, self.size)
        found = []
        for maps, index in zip(self.features, self.wanted, strict=True):
            part = index[max(start - first, 0) : max(self.taken - first, 0)]
            if len(part):
                found.append(Pick(self.image, maps, part, self.questions))
            first += len(index)
        return found

    def receive(self, scored: Scored) -> None:
        """Take the answers to the next masks, in the order in which they were taken."""
        place = slice(self._done, self._done + scored.count)
        self.values[:, place] = self.read(scored.answers)
        self.extent[place], self.total[place] = scored.extent, scored.total
        self._done = place.stop
        if self._progress is not None:
            self._progress(self._done, self.size)

    def require_finite(self) -> None:
        """Raise FrameError where an answer is not finite."""
        require_finite_answers(self.values)


def score(model: BundleModel, jobs: Iterable[Job | Passed]) -> Iterator[Job | Passed]:
    """Score the masks of many pictures, each batch as full as it can be, also across pictures.

    Parameters
    ----------
    model : BundleModel
        The bundle.
    jobs : iterable
        Jobs; whatever else stands among them is passed on in its place.

    Yields
    ------
    Job
        In their order, each as soon as it is done.
    """
    waiting: deque[Job | Passed] = deque()
    batch: list[tuple[Job, list[Pick]]] = []
    room = model.batch_size

    def flush() -> None:
        nonlocal room
        began = time.perf_counter()
        found = model.score_maps([pick for _, picks in batch for pick in picks])
        seconds = (time.perf_counter() - began) / max(sum(scored.count for scored in found), 1)
        arrived = iter(found)
        for job, picks in batch:
            left = sum(len(pick.index) for pick in picks)
            job.seconds += left * seconds
            parts = []
            while left:
                parts.append(next(arrived))
                left -= parts[-1].count
            job.receive(Scored.joined(parts))
        batch.clear()
        room = model.batch_size

    def finished() -> Iterator[Job | Passed]:
        while waiting and (not isinstance(waiting[0], Job) or waiting[0].done):
            yield waiting.popleft()

    for job in jobs:
        waiting.append(job)
        while isinstance(job, Job) and job.taken < job.size:
            picks = job.take(room)
            batch.append((job, picks))
            room -= sum(len(pick.index) for pick in picks)
            if not room:
                flush()
        yield from finished()
    if batch:
        flush()
    yield from finished()


def score_one(model: BundleModel, job: Job) -> Job:
    """Score the masks of one picture; see `score`."""
    for _ in score(model, [job]):
        pass
    return job


def require_finite_answers(values: NDArray[np.float64]) -> None:
    """Raise FrameError where the network answers masked inputs with NaN or infinity."""
    if not np.isfinite(values).all():
        raise FrameError("the network answers masked copies of this frame with NaN or infinite scores")
