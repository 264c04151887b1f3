"""What sise-ort must know about an execution provider of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sise_ort.bundle import Manifest
from sise_ort.errors import ParameterError, option

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
"""What `precision` may be; auto is the bundle's own."""


@dataclass(frozen=True)
class Wishes:
    """What a user wants of the session that scores masks.

    Attributes
    ----------
    precision : str
        One of `PRECISIONS`.
    threads : int
        CPU threads, 0 for all cores.
    options : mapping
        Options of onnxruntime's provider, by its own names.
    devices : tuple of str
        Devices that OpenVINO finds here, such as "CPU" and "GPU.0".
    """

    precision: str = "auto"
    threads: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    devices: tuple[str, ...] = ()

    def texts(self) -> dict[str, str]:
        """The options as onnxruntime takes them."""
        return {
            key: str(int(value) if isinstance(value, bool) else value) for key, value in self.options.items()
        }


def no_options(phase: str) -> Mapping[str, str]:
    """The options of a provider that has none."""
    return {}


def none_for_bundles(manifest: Manifest, build: str) -> Mapping[str, str]:
    """The options for a bundle of a provider that needs none."""
    return {}


def in_full_precision(wishes: Wishes) -> Mapping[str, str]:
    """The options of a provider that computes as the bundle was exported.

    Raises
    ------
    ParameterError
        A lower precision is wanted.
    """
    if wishes.precision not in ("auto", "fp32"):
        raise ParameterError(
            f"{option('precision')} is '{wishes.precision}', but this provider computes as the bundle was exported: "
            "provider openvino has bf16 (pip install 'sise-ort[openvino]'); sise-ort export --precision makes bundles "
            "in fp16 and int8"
        )
    return wishes.texts()


@dataclass(frozen=True)
class ProviderSpec:
    """An execution provider.

    Attributes
    ----------
    name : str
        Its name in sise-ort, with what stands behind a colon: "openvino:GPU".
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
    placed : bool
        Whether onnxruntime is asked, node by node, if they run here. Without, its list of providers is believed.
    plugin : str
        Python module of the plug-in that holds it, "" where it is part of onnxruntime.
    opens_side_by_side : bool
        Whether two graphs may be opened at the same time, in two threads.
    options : callable
        Phase -> onnxruntime's options for it.
    bundle_options : callable
        Manifest and what compiled files depend on besides (onnxruntime's version, the precision) -> options of predict.
    wished : callable
        What a user wants of predict -> onnxruntime's options for it, over those above.
    computes : callable or None
        Wished precision -> the one in which predict must compute, "fp32", "bf16" or "fp16", which is measured. None
        believes the provider.
    after_building : callable
        Called with these options where the provider may have built something that is kept: once predict is open, and
        after every first run of a shape.
    named : callable or None
        From the words behind the colon of a name to its spec; None where there is nothing to name.
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
    placed: bool = False
    plugin: str = ""
    opens_side_by_side: bool = False
    options: Callable[[str], Mapping[str, str]] = no_options
    bundle_options: Callable[[Manifest, str], Mapping[str, str]] = none_for_bundles
    wished: Callable[[Wishes], Mapping[str, str]] = in_full_precision
    computes: Callable[[str], str] | None = None
    after_building: Callable[[Mapping[str, str]], None] | None = None
    named: Callable[[str], ProviderSpec] | None = None
