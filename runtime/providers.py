"""The only importer of onnxruntime: choosing an execution provider, checking it, running sessions on it.

A provider that was asked for and is not really in use is an error; ONNX Runtime itself would fall back to the
CPU without a word.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import (
    MissingDependencyError,
    OutOfMemoryError,
    ParameterError,
    ProviderError,
    first_line,
)

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

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CHOICES = ("auto", *PROVIDERS)
CUDA_GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")
"""Options by which a provider records runs."""

OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "bad_alloc", "bad allocation")
"""How onnxruntime, CUDA and the C++ library say it."""

Tensor = Any
"""An onnxruntime.OrtValue: a tensor where the provider keeps it."""


class Provider:
    """An execution provider that is really in use.

    Parameters
    ----------
    name : "auto", "cpu", "cuda" or "tensorrt"; "auto" takes cuda where it works, else cpu.
    threads : CPU threads per session; None takes all cores.
    options : of onnxruntime's provider, by its own names, for `predict`, where the time goes: {"use_tf32": 0},
        {"prefer_nhwc": 1}, {"enable_cuda_graph": 1}, {"trt_builder_optimization_level": 5}.

    Raises
    ------
    ParameterError : an unknown name, no number of threads, or options for the CPU, which has none.
    ProviderError : the provider is not part of the installed onnxruntime, or does not start.
    """

    def __init__(
        self, name: str = "auto", threads: int | None = None, options: Mapping[str, object] | None = None
    ) -> None:
        if name not in CHOICES:
            raise ParameterError(f"provider is {name!r}; it must be one of {', '.join(CHOICES)}")
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ParameterError(f"threads is {threads!r}; it must be a whole number of at least 1")
        self.threads = threads or 0
        self.note = ""
        if name == "auto":
            self.name, self.note = self._choose()
        else:
            self.name = name
            require_working(name)
        self.device = "cpu" if self.name == "cpu" else "cuda"
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
        if PROVIDERS["cuda"] not in ort.get_available_providers():
            return "cpu", "provider auto took cpu"
        try:
            require_working("cuda")
        except ProviderError as error:
            return "cpu", f"provider auto took cpu: {error}"
        return "cuda", "provider auto took cuda"

    def session(self, path: Path, *, phase: str, options: Mapping[str, str] | None = None) -> Session:
        """Open a graph. Only `predict` runs on TensorRT; the other phases stay on CUDA beside it.

        options : further ones for `predict`, under those of the provider.

        Raises
        ------
        ProviderError : the session does not run on this provider.
        """
        if phase != "predict":
            name = "cuda" if self.name == "tensorrt" else self.name
            return Session(_open(str(path), name, phase, self.threads), self.device)
        own = {**(options or {}), **self.options}
        graphs = any(own.get(key, "").lower() in ("1", "true") for key in CUDA_GRAPHS)
        return Session(_open(str(path), self.name, phase, self.threads, own), self.device, graphs)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Copy an array to where the provider keeps its tensors."""
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device, 0)


@dataclass(frozen=True)
class Rows:
    """A stretch of a float32 tensor: `count` rows of it from `first` on."""

    tensor: Tensor
    first: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.first + self.count <= self.tensor.shape()[0]:
            raise ValueError(f"rows {self.first} to {self.first + self.count} of {self.tensor.shape()[0]}")

    @property
    def shape(self) -> list[int]:
        return [self.count, *self.tensor.shape()[1:]]

    @property
    def pointer(self) -> int:
        return int(self.tensor.data_ptr() + self.first * math.prod(self.tensor.shape()[1:]) * 4)


class Session:
    """One graph, with its inputs and outputs bound where they lie.

    cuda_graphs : the provider records runs as CUDA graphs; only those that `run` is told to.
    """

    def __init__(self, session: Any, device: str, cuda_graphs: bool = False) -> None:
        self._session = session
        self._device = device
        self._cuda_graphs = cuda_graphs
        dtypes = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
        self.signature = [(i.name, dtypes.get(i.type, np.float32), i.shape) for i in session.get_inputs()]
        self.outputs = [o.name for o in session.get_outputs()]

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        fetch: Sequence[str] = (),
        keep: Sequence[str] = (),
        into: Mapping[str, Rows] | None = None,
        graph: int = -1,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Tensor]]:
        """Run the graph once.

        Parameters
        ----------
        inputs : arrays (copied to the device), tensors or rows of tensors (used where they lie).
        fetch : outputs to bring to the host, as arrays.
        keep : outputs to leave on the device, as tensors.
        into : outputs to write into rows of a tensor.
        graph : a number for runs that always use the same tensors, so that they may be recorded as one CUDA graph; -1
            for all others.

        Returns
        -------
        The fetched arrays and the kept tensors, by name.

        Raises
        ------
        OutOfMemoryError
        """
        binding = self._session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, ort.OrtValue):
                binding.bind_ortvalue_input(name, value)
            elif isinstance(value, Rows):
                binding.bind_input(name, self._device, 0, np.float32, value.shape, value.pointer)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
        for name, rows in (into or {}).items():
            binding.bind_output(name, self._device, 0, np.float32, rows.shape, rows.pointer)
        for name in keep:
            binding.bind_output(name, self._device)
        for name in fetch:
            binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(binding, self._run_options(graph))
        except Exception as error:
            if any(words in str(error).lower() for words in OUT_OF_MEMORY):
                raise OutOfMemoryError(f"no memory left on {self._device}: {first_line(error)}") from error
            raise
        outputs = binding.get_outputs()[len(into or {}) :]
        kept = dict(zip(keep, outputs[: len(keep)], strict=True))
        fetched = {name: value.numpy() for name, value in zip(fetch, outputs[len(keep) :], strict=True)}
        return fetched, kept

    def _run_options(self, graph: int) -> Any:
        if not self._cuda_graphs:
            return None
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


def require_working(name: str) -> None:
    """Raise ProviderError unless a session really runs on the provider."""
    available = ort.get_available_providers()
    if PROVIDERS[name] not in available:
        extra = "'sise-ort[gpu]' (and uninstall onnxruntime first)" if name != "cpu" else "'sise-ort[cpu]'"
        raise ProviderError(
            f"provider {name} is not part of the installed onnxruntime {ort.__version__} "
            f"(it has {', '.join(available)}): pip install {extra}; `sise-ort doctor` tells more"
        )
    if name != "cpu":
        _open(_probe_graph(), name)


def _open(
    model: str | bytes,
    name: str,
    phase: str = "",
    threads: int = 0,
    own: Mapping[str, str] | None = None,
) -> Any:
    """A session on one provider; `predict` may use TF32. 0 threads: one per core.

    own : options of the provider, over ours.
    """
    if name != "cpu" and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # it prints what is missing; that is said in an error below
            ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Each session has threads of its own. If those of one waited by spinning, they would take the cores from the next
    # one's (measured on 2 cores: explaining took up to twice as long).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if phase in ("mask", "apply", "fuse", "sketch"):
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if name == "cpu":
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    cuda = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "1" if phase == "predict" else "0",
    }
    chains: dict[str, list[Any]] = {
        "cpu": [PROVIDERS["cpu"]],
        "cuda": [(PROVIDERS["cuda"], {**cuda, **(own or {})})],
        "tensorrt": [(PROVIDERS["tensorrt"], dict(own or {})), (PROVIDERS["cuda"], cuda)],
    }
    ort.set_default_logger_severity(
        4 if name != "cpu" else 2
    )  # what does not start is an error of ours, below
    try:
        session = ort.InferenceSession(model, options, providers=chains[name], enable_fallback=0)
    except Exception as error:
        what = "a small test graph" if isinstance(model, bytes) else f"'{model}'"
        raise ProviderError(
            f"onnxruntime cannot open {what} on provider {name}: {first_line(error)}"
        ) from error
    used = session.get_providers()
    if used[0] != PROVIDERS[name]:
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


@cache
def _share_arena() -> None:
    """Give this process's CPU sessions one arena: they run in turn, so that what one of them is done with serves the
    next."""
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
    """Open a model that is no phase of a bundle on the CPU (the exporter compares its work with it)."""
    return Session(_open(model, "cpu"), "cpu")


def version() -> str:
    """The version of the installed onnxruntime."""
    return str(ort.__version__)


def missing_library(name: str) -> str:
    """The shared library that keeps a GPU provider from loading, "" if none does or it is not installed."""
    stem = {"cuda": "cuda", "tensorrt": "tensorrt"}.get(name)
    folder = Path(ort.__file__).parent / "capi"
    library = folder / f"libonnxruntime_providers_{stem}.so"
    if stem is None or not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        words = str(error).split(":")[0]
        return words if ".so" in words else ""
    return ""
