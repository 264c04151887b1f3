"""The only importer of onnxruntime: choosing an execution provider, checking it, opening graphs on it.

A provider that was asked for and is not really in use is an error; ONNX Runtime itself would fall back to the
CPU without a word.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import (
    BundleError,
    MissingDependencyError,
    OutOfMemoryError,
    ParameterError,
    ProviderError,
    first_line,
    option,
    shown,
)
from sise_ort.runtime.limits import WATCH, Limits
from sise_ort.runtime.providers.registry import AUTOMATIC, CHOICES, SPECS
from sise_ort.runtime.session import OUT_OF_MEMORY, Graph, Session, Tensor

# From 1.29 on onnxruntime reports to its maker unless told not to before it is imported: pictures of a production line are
# nobody's business, and nobody expects a connection. Whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime as ort
except ImportError as error:
    what = (
        "is not installed"
        if isinstance(error, ModuleNotFoundError)
        else f"cannot be imported ({first_line(error)})"
    )
    raise MissingDependencyError(
        f"onnxruntime {what}: pip install 'sise-ort[cpu]', or 'sise-ort[gpu]' for an NVIDIA GPU"
    ) from error

CUDA_GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")
"""Options by which a provider records runs."""
WITHOUT_SPINNING = ("mask", "apply", "fuse", "sketch")
"""Phases that are too short for threads that wait by spinning."""


class Provider:
    """An execution provider that is really in use.

    Parameters
    ----------
    name : str
        "auto" or the name of a provider; "auto" takes cuda where it works, else cpu.
    threads : int or None
        CPU threads per session; None takes all cores.
    options : mapping
        Options of onnxruntime's provider for `predict`, where the time goes, by its own names: {"use_tf32": 0},
        {"prefer_nhwc": 1}, {"enable_cuda_graph": 1}, {"trt_builder_optimization_level": 5}.
    limits : Limits
        Seconds that opening and running a graph may take.

    Attributes
    ----------
    spec : ProviderSpec
        The provider in use.
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
    ) -> None:
        if not isinstance(name, str) or name not in CHOICES:
            raise ParameterError(f"{option('provider')} is {name!r}; it must be one of {', '.join(CHOICES)}")
        self.threads = checked_threads(threads) or 0
        self.note = ""
        if name == "auto":
            name, self.note = self._choose()
        else:
            require_working(name)
        self.spec = SPECS[name]
        self.name = name
        self.device = self.spec.device
        self.limits = limits or Limits()
        if not isinstance({} if options is None else options, Mapping):
            raise ParameterError(
                f"{option('provider_options')} is {options!r}; it must be a mapping of names to values"
            )
        self.options = {
            key: str(int(value) if isinstance(value, bool) else value)
            for key, value in (options or {}).items()
        }
        if self.options and self.device == "cpu":
            raise ParameterError(
                f"the provider options {', '.join(self.options)} are for a GPU, but the provider in use is cpu"
            )

    @staticmethod
    def _choose() -> tuple[str, str]:
        reason = ""
        for name in AUTOMATIC[:-1]:
            if SPECS[name].onnxruntime not in ort.get_available_providers():
                continue
            try:
                require_working(name)
            except ProviderError as error:
                reason = f": {first_line(error)}"
                continue
            return name, f"provider auto took {name}"
        return AUTOMATIC[-1], f"provider auto took {AUTOMATIC[-1]}{reason}"

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
            beside = self.spec.beside or self.name
            return self._session(_open(graph, beside, self.threads, limits=self.limits), graph, seconds)
        own = {**(options or {}), **self.options}
        recorded = any(own.get(key, "").lower() in ("1", "true") for key in CUDA_GRAPHS)
        session = _open(graph, self.name, self.threads, own, self.limits)
        found = self._session(session, graph, seconds if self.spec.bounded else float("inf"), recorded)
        if options and self.spec.after_building is not None:
            found.after_new_shapes(partial(self.spec.after_building, options))
        return found

    def _session(self, session: Any, graph: Graph, seconds: float, recorded: bool = False) -> Session:
        return Session(
            session, self.device, ort.RunOptions, cuda_graphs=recorded, graph=graph, seconds=seconds
        )

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Copy an array to where the provider keeps its tensors.

        Raises
        ------
        OutOfMemoryError
            The device has no memory for it.
        """
        try:
            tensor: Tensor = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device, 0)
        except Exception as error:
            if isinstance(error, MemoryError) or any(part in str(error).lower() for part in OUT_OF_MEMORY):
                raise OutOfMemoryError(f"no memory left on {self.device}: {first_line(error)}") from error
            raise ProviderError(f"cannot put a tensor on {self.device}: {first_line(error)}") from error
        return tensor


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


def require_working(name: str) -> None:
    """Raise ProviderError unless a session really runs on the provider."""
    available, spec = ort.get_available_providers(), SPECS[name]
    if spec.onnxruntime not in available:
        raise ProviderError(
            f"provider {name} is not part of the installed onnxruntime {ort.__version__} "
            f"(it has {', '.join(available)}): pip install {spec.install}; `sise-ort doctor` tells more"
        )
    if name != "cpu":
        _open(Graph("", _probe_graph()), name)


def _open(
    graph: Graph,
    name: str,
    threads: int = 0,
    own: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Any:
    """A session on one provider. threads : 0 for one per core. own : options of the provider, over ours."""
    spec = SPECS[name]
    if name != "cpu" and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # it prints what is missing; that is said in an error below
            ort.preload_dlls()
    options = _session_options(graph, threads, name)
    chain: list[Any] = [
        (spec.onnxruntime, {**spec.options(graph.phase), **(own or {})})
        if name != "cpu"
        else spec.onnxruntime
    ]
    if spec.beside:
        beside = SPECS[spec.beside]
        chain.append((beside.onnxruntime, dict(beside.options(graph.phase))))
    ort.set_default_logger_severity(
        4 if name != "cpu" else 2
    )  # what does not start is an error of ours, below
    seconds = limits.load_seconds if limits and spec.bounded else float("inf")
    try:
        with WATCH.limit(seconds, lambda: _cancel(options)) as late:
            session = ort.InferenceSession(graph.content, options, providers=chain, enable_fallback=0)
    except Exception as error:
        if late():
            raise _opened_too_late(graph, seconds) from error
        raise _not_opened(graph, name, error) from error
    if late():  # it could not be stopped
        raise _opened_too_late(graph, seconds)
    used = session.get_providers()
    if used[0] != spec.onnxruntime:
        library = missing_library(name)
        reason = (
            f"the library {library} is missing"
            if library
            else "no GPU or driver, or they do not fit its build"
        )
        raise ProviderError(
            f"provider {name} was asked for, but onnxruntime runs on {', '.join(used)}: {reason}"
        )
    return session


def _session_options(graph: Graph, threads: int, name: str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised; nothing is printed beside them
    options.intra_op_num_threads = threads
    # What was checked is an ONNX file; bytes that are an ORT file as well must not be read as one.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Each session has threads of its own. If those of one waited by spinning, they would take the cores from the next
    # one's (measured on 2 cores: explaining took up to twice as long).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if graph.phase in WITHOUT_SPINNING:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if name == "cpu":
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    if graph.weights:  # onnxruntime copies them while it opens the graph
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), values)
    return options


def _cancel(options: Any) -> None:
    if hasattr(options, "set_load_cancellation_flag"):  # the oldest cannot be stopped
        options.set_load_cancellation_flag(True)


def _opened_too_late(graph: Graph, seconds: float) -> BundleError:
    return BundleError(
        f"opening {graph.phase}.onnx took more than {seconds:g} s; limits=Limits(load_seconds=…) allows more"
    )


def _not_opened(graph: Graph, name: str, error: Exception) -> BundleError | ProviderError:
    if isinstance(error, MemoryError) or any(part in str(error).lower() for part in OUT_OF_MEMORY):
        return OutOfMemoryError(f"no memory left to open {graph.phase}.onnx: {first_line(error)}")
    if name == "cpu":
        what = f"{graph.phase}.onnx" if graph.phase else "a small test graph"
        return BundleError(
            f"onnxruntime cannot open {what}, which is damaged or foreign: {first_line(error)}"
        )
    what = f"{graph.phase}.onnx" if graph.phase else "a small test graph"
    return ProviderError(f"onnxruntime cannot open {what} on provider {name}: {first_line(error)}")


@cache
def _share_arena() -> None:
    """Give all CPU sessions of this process one arena of memory.

    They run in turn, so that the memory that one has finished with serves the next.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(memory, None)
    except RuntimeError as error:  # the program that we are part of has one already
        if "already been registered" not in str(error):
            raise


def _probe_graph() -> bytes:
    """y = Relu(x) on one float, as an ONNX file: written out here, since the runtime has no onnx package.

    Field by field: ir_version 8; graph {node {x -> y, Relu}, name "g", input x, output y: float [1]}; opset 13.
    """

    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    shape = field(2, field(1, bytes([1 << 3, 1])))
    float_1 = field(2, field(1, bytes([1 << 3, 1]) + shape))
    node = field(1, b"x") + field(2, b"y") + field(4, b"Relu")
    graph = field(1, node) + field(2, b"g")
    graph += field(11, field(1, b"x") + float_1) + field(12, field(1, b"y") + float_1)
    return bytes([1 << 3, 8]) + field(7, graph) + field(8, bytes([2 << 3, 13]))


def open_foreign(model: str | bytes) -> Session:
    """Open a model that is no phase of a bundle on the CPU (the exporter compares its work with it).

    Raises
    ------
    ProviderError
        onnxruntime does not take it.
    """
    try:
        return Session(_open(Graph("", model), "cpu"), "cpu", ort.RunOptions)
    except BundleError as error:
        raise ProviderError(first_line(error.__cause__ or error)) from error


def version() -> str:
    """The version of the installed onnxruntime."""
    return str(ort.__version__)


def missing_library(name: str) -> str:
    """The shared library that keeps a GPU provider from loading, "" if none does or it is not installed."""
    folder = Path(ort.__file__).parent / "capi"
    library = folder / (SPECS[name].library if name in SPECS else "")
    if not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        words = str(error).split(":")[0]
        return words if ".so" in words else ""
    return ""
