"""Choosing an execution provider for a bundle, and opening its graphs on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import OutOfMemoryError, ParameterError, ProviderError, first_line, option, shown
from sise_ort.runtime.limits import Limits
from sise_ort.runtime.providers.opening import (
    copied_to,
    is_part,
    new_run_options,
    open_session,
    openvino_devices,
    require_installed,
    require_working,
    version,
)
from sise_ort.runtime.providers.registry import AUTOMATIC, SPECS, spec_named
from sise_ort.runtime.providers.spec import PRECISIONS, ProviderSpec, Wishes
from sise_ort.runtime.session import OUT_OF_MEMORY, Graph, Session, Tensor

CUDA_GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")
"""Options by which a provider records runs."""


class Provider:
    """An execution provider that is really in use.

    Parameters
    ----------
    name : str
        "auto" or the name of a provider ("cuda", "openvino:GPU", "plugin:webgpu"); "auto" takes cuda where it works, else
        cpu; openvino where bf16 is wished.
    threads : int or None
        CPU threads per session; None takes all cores.
    options : mapping
        Options of onnxruntime's provider for `predict`, where the time goes, by its own names: {"use_tf32": 0},
        {"prefer_nhwc": 1}, {"enable_cuda_graph": 1}, {"trt_builder_optimization_level": 5}.
    limits : Limits
        Seconds that opening and running a graph may take.
    precision : str
        "auto", "fp32", "bf16" or "fp16": what `predict` computes in.

    Attributes
    ----------
    spec : ProviderSpec
        The provider in use.
    precision : str
        What `predict` computes in, as measured; "" where the provider is believed to compute as the bundle was exported.
    note : str
        What "auto" chose, "" without it.

    Raises
    ------
    ParameterError
        An unknown name, no sensible number of threads, or options for the CPU, which has none.
    ProviderError
        The provider is not part of the installed onnxruntime, or does not start.
    """

    def __init__(
        self,
        name: str = "auto",
        threads: int | None = None,
        options: Mapping[str, object] | None = None,
        limits: Limits | None = None,
        precision: str = "auto",
    ) -> None:
        if not isinstance(precision, str) or precision not in PRECISIONS:
            raise ParameterError(
                f"{option('precision')} is {shown(precision)}; it must be one of {', '.join(PRECISIONS)}"
            )
        spec = None if name == "auto" else spec_named(name)
        self.threads = checked_threads(threads) or 0
        self.note = ""
        if not isinstance({} if options is None else options, Mapping):
            raise ParameterError(
                f"{option('provider_options')} is {options!r}; it must be a mapping of names to values"
            )
        if spec is None:
            spec, self.note = self._choose(precision)
        self.spec = spec
        self.name = spec.name
        self.device = spec.device
        self.limits = limits or Limits()
        wishes = Wishes(precision, self.threads, options or {}, openvino_devices())
        if spec.computes is None:
            self.precision = require_working(spec)
            self.options = dict(spec.wished(wishes))
        else:
            wanted = spec.computes(precision)
            require_installed(spec)
            self.options = dict(spec.wished(wishes))
            self.precision = require_working(spec, self.options)
            self._require_precision(wanted)

    def _require_precision(self, wanted: str) -> None:
        """Raise ProviderError where the provider does not compute in the precision that is wanted."""
        if self.precision == wanted:
            return
        lower = wanted == "fp32"
        way = (
            f"{option('precision', self.precision)} accepts that"
            if lower
            else f"leave {option('precision')} out"
        )
        raise ProviderError(
            f"provider {self.name} computes in {self.precision} here, though {wanted} is asked of it: {way}"
        )

    def require_precision_of(self, manifest: Manifest, precision: str) -> None:
        """Raise ParameterError where a precision is asked for that a bundle cannot be run in: it was exported in a lower one."""
        if precision != "auto" and manifest.precision not in ("fp32", precision):
            raise ParameterError(
                f"{option('precision')} is '{precision}', but the bundle was exported in {manifest.precision}: leave it out, or "
                "export the bundle again without it"
            )

    def precision_of(self, manifest: Manifest) -> str:
        """What `predict` of a bundle computes in: the bundle's precision, or the lower one that was asked for."""
        return (self.precision or "fp32") if manifest.precision == "fp32" else manifest.precision

    def bundle_options(self, manifest: Manifest) -> Mapping[str, str]:
        """The options of predict that depend on the bundle, such as where compiled networks are kept."""
        return self.spec.bundle_options(manifest, "\n".join(filter(None, (version(), self.precision))))

    @staticmethod
    def _choose(precision: str) -> tuple[ProviderSpec, str]:
        if precision == "bf16":
            return SPECS["openvino"], "provider auto took openvino, which computes in bf16"
        if precision == "fp16":
            raise ParameterError(
                f"{option('precision')} is 'fp16', which needs {option('provider', 'openvino:GPU')} or another that is named"
            )
        reason = ""
        for name in AUTOMATIC[:-1]:
            if not is_part(SPECS[name]):
                continue
            try:
                require_working(SPECS[name])
            except ProviderError as error:
                reason = f": {first_line(error)}"
                continue
            return SPECS[name], f"provider auto took {name}"
        return SPECS[AUTOMATIC[-1]], f"provider auto took {AUTOMATIC[-1]}{reason}"

    def session(self, graph: Graph, options: Mapping[str, str] | None = None) -> Session:
        """Open a graph; phases other than `predict` may run on another provider beside this one.

        Parameters
        ----------
        graph : Graph
            What to open.
        options : mapping
            Further options for `predict`; the user's own stand over them.

        Raises
        ------
        BundleError
            onnxruntime does not take the graph, or takes too long.
        ProviderError
            The session does not run on this provider.
        """
        seconds = self.limits.run_seconds
        if graph.phase != "predict":
            beside = SPECS[self.spec.beside] if self.spec.beside else self.spec
            opened = open_session(graph, beside, self.threads, limits=self.limits)
            return self._session(opened, graph, seconds)
        own = {**(options or {}), **self.options}
        recorded = any(own.get(key, "").lower() in ("1", "true") for key in CUDA_GRAPHS)
        session = open_session(graph, self.spec, self.threads, own, self.limits)
        found = self._session(session, graph, seconds if self.spec.bounded else float("inf"), recorded)
        if options and self.spec.after_building is not None:
            found.after_new_shapes(partial(self.spec.after_building, options))
        return found

    def _session(self, session: Any, graph: Graph, seconds: float, recorded: bool = False) -> Session:
        return Session(
            session, self.device, new_run_options, cuda_graphs=recorded, graph=graph, seconds=seconds
        )

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Copy an array to where the provider keeps its tensors.

        Raises
        ------
        OutOfMemoryError
            The device has no memory for it.
        """
        try:
            return copied_to(self.device, array)
        except Exception as error:
            if isinstance(error, MemoryError) or any(part in str(error).lower() for part in OUT_OF_MEMORY):
                raise OutOfMemoryError(f"no memory left on {self.device}: {first_line(error)}") from error
            raise ProviderError(f"cannot put a tensor on {self.device}: {first_line(error)}") from error


def checked_threads(threads: int | None) -> int | None:
    """A number of threads, refused where it is none or more than this machine can use."""
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ParameterError(
            f"{option('threads')} is {shown(threads)}; it must be a whole number of at least 1"
        )
    cores = os.cpu_count() or 1
    most = max(16, 4 * cores)
    if threads > most:
        raise ParameterError(
            f"{option('threads')} is {shown(threads)}; this machine has {cores} cores, and {most} is the most that is taken"
        )
    return threads
