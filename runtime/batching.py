"""Scoring masks in batches: the tensors that a batch lies in, and the turns that threads take at them."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from sise_ort.bundle import Manifest
from sise_ort.runtime.providers import Provider, Tensor


class Turns:
    """A lock that is handed on in the order in which threads asked for it.

    `threading.Lock` promises no order: a thread that scores hundreds of batches would take it again and again before a
    thread that waits for a single one.

    Notes
    -----
    Use it as a context manager. It must not be entered twice by one thread.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    @property
    def contended(self) -> bool:
        """Whether a thread has its turn or waits for one."""
        return self._taken

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        try:
            gate.acquire()
        except BaseException:  # such as Ctrl-C: the turn goes to the next in line
            with self._guard:
                mine = gate not in self._waiting
                if not mine:
                    self._waiting.remove(gate)
            if mine:
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class Batching:
    """The tensors that one batch of masks lies in, from the masks to the network's answers.

    All runs of `predict` over feature maps write to these tensors, so that a GPU allocates once and can record the run.
    Whoever uses them must hold a turn.

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
        """Make the tensors anew for batches of another size; 1 where the bundle takes no more."""
        spec = self._manifest.input
        size = spec.batch or size
        height, width = spec.height, spec.width

        def empty(*shape: int) -> Tensor:
            return self._provider.tensor(np.zeros((size, *shape), np.float32))

        self.masks = empty(1, height, width)
        self.masked = empty(spec.channels, height, width)
        self.answers = {name: empty(self._manifest.head.classes) for name in ("scores", "confidence")}
        self.recording += 1
        self.size = size

    def free(self) -> None:
        """Give the tensors back."""
        del self.masks, self.masked
        self.answers = {}
