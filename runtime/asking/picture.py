"""One picture that is asked about: its upload, and the network's answer where a question needs it first."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.preparing import Prepared
from sise_ort.runtime.providers import Tensor


class Asking:
    """A picture and the bundle that is asked about it.

    Parameters
    ----------
    model : BundleModel
        The bundle's phases.
    prepared : Prepared
        The frame.

    Attributes
    ----------
    image : tensor, [1, H, W, C]
        The uploaded frame.
    passes : int
        Network passes that finding the questions took.
    """

    def __init__(self, model: BundleModel, prepared: Prepared) -> None:
        self.model, self.prepared = model, prepared
        self.manifest: Manifest = model.manifest
        self.image: Tensor = model.upload(prepared.fitted)
        self.passes = 0

    @cached_property
    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """The network's outputs for the whole picture."""
        self.passes += 1
        return self.model.whole(self.image)
