"""Scoring masks in batches: the tensors that a batch lies in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.runtime.extracted import Pick
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
        "scores" and "confidence", [size, classes] each.
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
        answers = {name: empty(self._manifest.head.classes) for name in ("scores", "confidence")}
        self.masks, self.masked, self.answers = masks, masked, answers
        self.recording += 1
        self.size = size

    def score(
        self, picks: Sequence[Pick], session: Callable[[str], Session]
    ) -> tuple[NDArray[np.float32], ...]:
        """Score at most `size` masks; only the thread whose turn it is may call this.

        Parameters
        ----------
        picks : sequence of Pick
            Feature maps as masks, those of one picture together.
        session : callable
            Gives the session of a phase by its name.

        Returns
        -------
        scores, confidence : float32, [n, classes]
            The network's answers, in order.
        range, total : float32, [n]
            Of the masks, before they were scaled and after it (see mask.onnx).
        """
        extent, total, filled = [], [], 0
        for image, own in groupby(
            picks, key=lambda pick: pick.image
        ):  # one picture's masks are put on together
            first = filled
            for pick in own:
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
        # onnxruntime may give a view of memory that the next batch overwrites
        scores, confidence = (self.answers[name].numpy()[:filled].copy() for name in ("scores", "confidence"))
        return scores, confidence, np.concatenate(extent), np.concatenate(total)

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
            part.append(Pick(pick.image, pick.maps, index))
            start, room = start + len(index), room - len(index)
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part
