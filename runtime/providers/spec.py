"""What sise-ort must know about an execution provider of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sise_ort.bundle import Manifest


def no_options(phase: str) -> Mapping[str, str]:
    """The options of a provider that has none."""
    return {}


def none_for_bundles(manifest: Manifest, onnxruntime: str) -> Mapping[str, str]:
    """The options for a bundle of a provider that needs none."""
    return {}


@dataclass(frozen=True)
class ProviderSpec:
    """An execution provider.

    Attributes
    ----------
    name : str
        Its name in sise-ort.
    onnxruntime : str
        Its name in onnxruntime.
    device : str
        Where its tensors lie, as onnxruntime names it: "cpu" or "cuda".
    batch_pixels : int
        Pixels of the masks in one batch, unless another size is given or measured.
    pads : bool
        Whether the last batch is filled up, since a new shape makes it plan anew.
    install : str
        What to install where onnxruntime lacks it.
    library : str
        File name of its shared library, "" where it is built in.
    beside : str
        Provider of all phases but predict, "" for itself.
    bounded : bool
        Whether a run is bounded in time; not where the first one compiles for minutes.
    options : callable
        Phase -> onnxruntime's options for it.
    bundle_options : callable
        Manifest and onnxruntime's version -> options of predict.
    after_building : callable
        Called with these options where the provider may have built something that is kept: once predict is open, and
        after every first run of a shape.
    """

    name: str
    onnxruntime: str
    device: str
    batch_pixels: int
    pads: bool
    install: str
    library: str = ""
    beside: str = ""
    bounded: bool = True
    options: Callable[[str], Mapping[str, str]] = no_options
    bundle_options: Callable[[Manifest, str], Mapping[str, str]] = none_for_bundles
    after_building: Callable[[Mapping[str, str]], None] | None = None
