"""Scoring masks in batches: the tensors that a batch lies in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import READOUT, Manifest
from sise_ort.readouts import Answers
from sise_ort.runtime.answers import from_outputs, read_on_device
from sise_ort.runtime.extracted import Pick, Scored
from sise_ort.runtime.providers import Provider, Rows, Session, Tensor


class Batching:
    """The tensors that one batch of masks lies in, from the masks to the network's answers.

    All runs of `predict` over feature maps write to these tensors, so that a GPU allocates once and can record the run.
    Whoever uses them must have a turn (`Turns`).

    Parameters
    ----------
    manifest : Manifest
        Bundle whose `predict` is run.
    provider : Provider
        Where the tensors are kept.
    size : int
        Masks scored at once; 1 where the bundle takes no more.

    Attributes
    ----------
    size : int
        Masks scored at once.
    masks, masked : tensors
        Masks [size, 1, H, W] and the network inputs [size, C, H, W] that they leave.
    answers : dict of tensors
        The outputs of `predict`, [size, …] each.
    recording : int
        Number of these tensors among all that there were: a CUDA graph is good for one set of tensors only.
    """

    def __init__(self, manifest: Manifest, provider: Provider, size: int) -> None:
        self._manifest, self._provider = manifest, provider
        self.recording = 0
        self.resize(size)

    def resize(self, size: int) -> None:
        """Make the tensors anew for batches of another size; 1 where the bundle takes no more.

        Where the device has no memory for them, the old ones stay.
        """
        spec = self._manifest.input
        size = spec.batch or size
        height, width = spec.height, spec.width

        def empty(*shape: int) -> Tensor:
            return self._provider.tensor(np.zeros((size, *shape), np.float32))

        masks, masked = empty(1, height, width), empty(spec.channels, height, width)
        wanted = self._manifest.task.outputs(self._manifest.head)
        answers = {name: empty(*shape) for name, shape in wanted.items()}
        self.masks, self.masked, self.answers = masks, masked, answers
        self.recording += 1
        self.size = size

    def score(self, picks: Sequence[Pick], session: Callable[[str], Session]) -> list[Scored]:
        """Score at most `size` masks; only the thread whose turn it is may call this.

        Parameters
        ----------
        picks : sequence of Pick
            Feature maps as masks, those of one picture together.
        session : callable
            Gives the session of a phase by its name.

        Returns
        -------
        list of Scored
            For each pick, in order.
        """
        extent, total, filled = [], [], 0
        pictures: list[list[Pick]] = []
        for image, own in groupby(
            picks, key=lambda pick: pick.image
        ):  # one picture's masks are put on together
            first = filled
            pictures.append(list(own))
            for pick in pictures[-1]:
                rows = Rows(self.masks, filled, len(pick.index))
                fetched, _ = session("mask").run(
                    {"maps": pick.maps, "index": pick.index}, fetch=["range", "total"], into={"masks": rows}
                )
                extent.append(fetched["range"])
                total.append(fetched["total"])
                filled += len(pick.index)
            count = filled - first
            session("apply").run(
                {"image": image, "masks": Rows(self.masks, first, count)},
                into={"masked": Rows(self.masked, first, count)},
            )
        count = self.size if self._provider.spec.pads else filled
        session("predict").run(
            {"input": Rows(self.masked, 0, count)},
            into={name: Rows(tensor, 0, count) for name, tensor in self.answers.items()},
            graph=self.recording,
        )
        answers = [part for picture in self._read(pictures, count, session) for part in picture]
        return [Scored(*parts) for parts in zip(answers, extent, total, strict=True)]

    def _read(
        self, pictures: Sequence[Sequence[Pick]], count: int, session: Callable[[str], Session]
    ) -> Iterator[list[Answers]]:
        """Per picture, the answers to the masks of each pick, from the first `count` rows of the answers' tensors."""
        on_host: dict[str, NDArray[np.float32]] = {}
        if not self._manifest.task.on_device:
            # onnxruntime may give a view of memory that the next batch overwrites
            on_host = {name: tensor.numpy()[:count].copy() for name, tensor in self.answers.items()}
        start = 0
        for picture in pictures:
            asked, stop = picture[0].questions, start + sum(len(pick.index) for pick in picture)
            if on_host:
                own = {name: array[start:stop] for name, array in on_host.items()}
                read = from_outputs(self._manifest, asked, own)
            else:
                rows = {name: Rows(tensor, 0, count) for name, tensor in self.answers.items()}
                read = read_on_device(self._manifest, asked, rows, session(READOUT)).among(start, stop)
            ends = np.cumsum([len(pick.index) for pick in picture]).tolist()
            yield [read.among(end - len(pick.index), end) for pick, end in zip(picture, ends, strict=True)]
            start = stop

    def free(self) -> None:
        """Give the tensors back."""
        del self.masks, self.masked
        self.answers = {}


def portions(picks: Sequence[Pick], size: int) -> Iterator[list[Pick]]:
    """Yield the same masks, at most `size` at a time."""
    part: list[Pick] = []
    room = size
    for pick in picks:
        start = 0
        while start < len(pick.index):
            index = pick.index[start : start + room]
            part.append(replace(pick, index=index))
            start, room = start + len(index), room - len(index)
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part
