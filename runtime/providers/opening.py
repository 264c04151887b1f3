"""The only importer of onnxruntime: opening graphs on an execution provider, and checking that it is really used.

A provider that was asked for and is not really in use is an error; ONNX Runtime itself would fall back to the
CPU without a word.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import (
    BundleError,
    MissingDependencyError,
    OutOfMemoryError,
    ProviderError,
    first_line,
)
from sise_ort.runtime.limits import WATCH, Limits
from sise_ort.runtime.providers.plugins import installed, library_module
from sise_ort.runtime.providers.registry import SPECS
from sise_ort.runtime.providers.spec import ProviderSpec
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

WITHOUT_SPINNING = ("mask", "apply", "fuse", "sketch")
"""Phases that are too short for threads that wait by spinning."""


def require_working(spec: ProviderSpec, own: Mapping[str, str] | None = None) -> str:
    """Raise ProviderError unless a session really runs on the provider.

    Parameters
    ----------
    spec : ProviderSpec
        The provider.
    own : mapping
        Options of predict.

    Returns
    -------
    str
        The precision that it computes in, "fp32", "bf16" or "fp16"; "" where it is believed.
    """
    require_installed(spec)
    if spec.computes is not None:
        return _measured_precision(spec, own or {})
    if spec.name != "cpu":
        open_session(Graph("", _probe_graph("Relu", 1)), spec)
    return ""


def is_part(spec: ProviderSpec) -> bool:
    """Whether the installed onnxruntime was built with a provider."""
    return spec.onnxruntime in ort.get_available_providers()


def new_run_options() -> Any:
    """onnxruntime's options of a run."""
    return ort.RunOptions()


def copied_to(device: str, array: NDArray[Any]) -> Tensor:
    """A copy of an array on a device, "cpu" or "cuda"."""
    tensor: Tensor = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, 0)
    return tensor


def require_installed(spec: ProviderSpec) -> None:
    """Raise ProviderError unless the installed onnxruntime has the provider, or loads its plug-in."""
    if spec.plugin:
        _plugin_devices(spec.name, spec.plugin, spec.onnxruntime)
    elif not is_part(spec):
        available = ort.get_available_providers()
        raise ProviderError(
            f"provider {spec.name} is not part of the installed onnxruntime {ort.__version__} "
            f"(it has {', '.join(available)}): pip install {spec.install}; `sise-ort doctor` tells more"
        )


_MEASURED: dict[tuple[str, str], str] = {}
"""Precisions by provider and options: measured once in a process."""


def _measured_precision(spec: ProviderSpec, own: Mapping[str, str]) -> str:
    """The precision in which a provider multiplies matrices.

    Notes
    -----
    The square of (1 + e)·I is (1 + 2e + e²)·I. For e = 2⁻¹⁰ it is more than 1 in float32 and float16, whose fractions have
    23 and 10 bits, but not in bfloat16, whose fraction has 7; for e = 2⁻¹⁴ in float32 only.
    """
    key = spec.name, json.dumps(own, sort_keys=True)
    if key in _MEASURED:
        return _MEASURED[key]
    session = open_session(Graph("", _probe_graph("MatMul", 4)), spec, own=own)
    seen = []
    for bits in (10, 14):
        x = np.eye(4, dtype=np.float32) * np.float32(1 + 2.0**-bits)
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu")
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            raise ProviderError(
                f"provider {spec.name} cannot run a small test graph: {first_line(error)}"
            ) from error
        seen.append(float(binding.get_outputs()[0].numpy()[0, 0]) > 1)
    return _MEASURED.setdefault(key, "fp32" if seen[1] else "fp16" if seen[0] else "bf16")


def openvino_devices() -> tuple[str, ...]:
    """Devices that OpenVINO finds here, such as "CPU" and "GPU.0"; none where it is not part of the installed onnxruntime."""
    native = getattr(getattr(ort, "capi", None), "_pybind_state", None)
    find = getattr(native, "get_available_openvino_device_ids", None)
    if find is None:
        return ()
    with contextlib.suppress(Exception):
        return tuple(map(str, find()))
    return ()


@cache
def _plugin_devices(name: str, module: str, ep_name: str) -> tuple[Any, ...]:
    """The devices that a plug-in finds here; its library is loaded at the first call.

    Raises
    ------
    ProviderError
        onnxruntime is too old, the library cannot be loaded, or there is no device for it.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        raise ProviderError(
            f"provider {name} is a plug-in, which onnxruntime {ort.__version__} cannot load: pip install 'onnxruntime>=1.23'"
        )
    package = module.replace("_", "-")
    own = library_module(module, name.partition(":")[2])
    try:
        _preload()
        ort.register_execution_provider_library(ep_name, own.get_library_path())
    except Exception as error:
        raise ProviderError(
            f"provider {name}: the library of the package {package} cannot be loaded: {first_line(error)}"
        ) from error
    seen = ort.get_ep_devices()
    found = tuple(device for device in seen if device.ep_name == ep_name)
    if not found:
        there = ", ".join(sorted({f"{d.device.type.name} of {d.device.vendor}" for d in seen}))
        raise ProviderError(
            f"provider {name}: the package {package} is installed, but finds no device that it supports; onnxruntime sees "
            f"{there}. Such a device and its driver are needed"
        )
    return found


def _preload() -> None:
    """Load CUDA's libraries from their Python packages, where onnxruntime can."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing; errors say that
            ort.preload_dlls()


def open_session(
    graph: Graph,
    spec: ProviderSpec,
    threads: int = 0,
    own: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Any:
    """A session on one provider. threads : 0 for one per core. own : options of the provider, over ours."""
    if spec.name != "cpu":
        _preload()
    options = _session_options(graph, threads, spec)
    chain: list[Any] = [
        (spec.onnxruntime, {**spec.options(graph.phase), **(own or {})})
        if spec.name != "cpu"
        else spec.onnxruntime
    ]
    if spec.beside and not (spec.placed and not _lists_nodes()):
        beside = SPECS[spec.beside]
        chain.append((beside.onnxruntime, dict(beside.options(graph.phase))))
    ort.set_default_logger_severity(
        4 if spec.name != "cpu" else 2
    )  # what does not start is an error of ours, below
    seconds = limits.load_seconds if limits and spec.bounded else float("inf")
    try:
        with WATCH.limit(seconds, lambda: _cancel(options)) as late:
            if spec.plugin:
                devices = _plugin_devices(spec.name, spec.plugin, spec.onnxruntime)
                options.add_provider_for_devices(list(devices), chain[0][1])
                session = ort.InferenceSession(graph.content, options, enable_fallback=0)
            else:
                session = ort.InferenceSession(graph.content, options, providers=chain, enable_fallback=0)
    except ProviderError:
        raise
    except Exception as error:
        if late():
            raise _opened_too_late(graph, seconds) from error
        raise _not_opened(graph, spec.name, error) from error
    if late():  # it could not be stopped
        raise _opened_too_late(graph, seconds)
    _require_used(session, graph, spec)
    return session


def _require_used(session: Any, graph: Graph, spec: ProviderSpec) -> None:
    """Raise ProviderError where a session does not run on the provider that it was opened for."""
    used = session.get_providers()
    if used[0] != spec.onnxruntime:
        library = missing_library(spec)
        if library:
            reason = f"the library {library} is missing"
        elif spec.device == "cuda":
            reason = "no GPU or driver, or they do not fit its build"
        else:
            reason = "its device or an option is not taken"
        raise ProviderError(
            f"provider {spec.name} was asked for, but onnxruntime runs on {', '.join(used)}: {reason}"
        )
    if spec.placed and (elsewhere := placed_elsewhere(session, spec)):
        there = sum(elsewhere.values())
        kinds = ", ".join(sorted(elsewhere)[:5])
        whole = f"{graph.phase}.onnx" if graph.phase else "a small test graph"
        fixed = "; some devices need a bundle whose batch is fixed to 1" if spec.pads else ""
        raise ProviderError(
            f"provider {spec.name} was asked for, but does not take {there} node{'s' * (there > 1)} of {whole}, which onnxruntime would run on the CPU: "
            f"{kinds}{fixed}; take another provider"
        )


def _lists_nodes() -> bool:
    """Whether the installed onnxruntime tells which provider runs which node."""
    return hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")


def placed_elsewhere(session: Any, spec: ProviderSpec) -> Counter[str]:
    """Operators of the nodes that a session does not run on the provider, with their numbers.

    Before onnxruntime 1.24 there is no list of nodes; opening such a session fails there.
    """
    if not _lists_nodes():
        return Counter()
    return Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != spec.onnxruntime
        for node in part.get_nodes()
    )


def _session_options(graph: Graph, threads: int, spec: ProviderSpec) -> Any:
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
    if spec.placed:
        record, refuse = "session.record_ep_graph_assignment_info", "session.disable_cpu_ep_fallback"
        entry = record if _lists_nodes() else refuse
        options.add_session_config_entry(entry, "1")
    if spec.name == "cpu":
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


def _probe_graph(operator: str, side: int) -> bytes:
    """y = Relu(x) or MatMul(x, x) on floats [side, side], as an ONNX file: the runtime has no onnx package to write it.

    Field by field: ir_version 8; graph {node {x (, x) -> y, operator}, name "g", input x, output y}; opset 13.
    """

    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    shape = field(2, 2 * field(1, bytes([1 << 3, side])))
    floats = field(2, field(1, bytes([1 << 3, 1]) + shape))
    inputs = (2 if operator == "MatMul" else 1) * field(1, b"x")
    node = inputs + field(2, b"y") + field(4, operator.encode())
    graph = field(1, node) + field(2, b"g")
    graph += field(11, field(1, b"x") + floats) + field(12, field(1, b"y") + floats)
    return bytes([1 << 3, 8]) + field(7, graph) + field(8, bytes([2 << 3, 13]))


def open_foreign(model: str | bytes) -> Session:
    """Open a model that is no phase of a bundle on the CPU (the exporter compares its work with it).

    Raises
    ------
    ProviderError
        onnxruntime does not take it.
    """
    try:
        return Session(open_session(Graph("", model), SPECS["cpu"]), "cpu", new_run_options)
    except BundleError as error:
        raise ProviderError(first_line(error.__cause__ or error)) from error


def listed() -> list[tuple[str, str]]:
    """Names and precisions of all providers that may be tried here: ours, OpenVINO's devices, installed plug-ins."""
    found = [(name, "auto") for name in SPECS]
    for device in openvino_devices():
        kind = device.split(".")[0]
        if kind == "CPU":
            found.append(("openvino", "bf16"))
            continue
        found += [(f"openvino:{device}", p) for p in ("auto", "fp16") if kind == "GPU" or p == "fp16"]
    return found + [(f"plugin:{name}", "auto") for name in installed()]


def version() -> str:
    """The version of the installed onnxruntime."""
    return str(ort.__version__)


def missing_library(spec: ProviderSpec) -> str:
    """The shared library that keeps a provider from loading, "" if none does or it is not installed."""
    folder = Path(ort.__file__).parent / "capi"
    library = folder / spec.library
    if not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        words = str(error).split(":")[0]
        return words if ".so" in words else ""
    return ""
