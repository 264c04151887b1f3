"""One graph that is open: its inputs and outputs bound where they lie, checked, and its errors translated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import DTYPES, Shape, Signature
from sise_ort.errors import (
    BundleError,
    OutOfMemoryError,
    ParameterError,
    ProviderError,
    SiseError,
    first_line,
)
from sise_ort.runtime.limits import WATCH

OUT_OF_MEMORY = ("failed to allocate", "out of memory", "bad_alloc", "bad allocation", "bad array new")
"""How onnxruntime, CUDA and the C++ library say it."""
FAILED_DEVICE = ("cuda", "cudnn", "cublas", "tensorrt", "no kernel image")
"""Words of errors that a GPU or its libraries have, not the graph."""


class Tensor(Protocol):
    """A tensor where the provider keeps it: an onnxruntime.OrtValue."""

    def shape(self) -> Sequence[int]:
        """Its lengths."""

    def data_ptr(self) -> int:
        """Where its values begin."""

    def numpy(self) -> NDArray[Any]:
        """Its values on the host."""


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in memory.

    Attributes
    ----------
    phase : str
        Its name, such as "predict".
    content : bytes
        The ONNX file, or its path where it is no phase of a bundle.
    weights : mapping of str to array
        Values of the initializers that stand outside of the file, by name.
    signature : Signature or None
        What it takes and gives; None leaves that to onnxruntime.
    """

    phase: str
    content: bytes | str = field(repr=False)
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    signature: Signature | None = field(default=None, repr=False)


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
        """Its lengths."""
        return [self.count, *self.tensor.shape()[1:]]

    @property
    def pointer(self) -> int:
        """Where its values begin."""
        return int(self.tensor.data_ptr() + self.first * math.prod(self.tensor.shape()[1:]) * 4)


class Session:
    """One open graph.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The graph.
    device : str
        Where its tensors lie, "cpu" or "cuda".
    new_options : callable
        Makes onnxruntime's RunOptions.
    cuda_graphs : bool
        Whether the provider records runs as CUDA graphs; only those that `run` gives a number.
    graph : Graph or None
        What was opened, for its name and signature.
    seconds : float
        How long a run may take.
    """

    def __init__(
        self,
        session: Any,
        device: str,
        new_options: Callable[[], Any],
        *,
        cuda_graphs: bool = False,
        graph: Graph | None = None,
        seconds: float = math.inf,
    ) -> None:
        self._session = session
        self._device = device
        self._new_options = new_options
        self._cuda_graphs = cuda_graphs
        self._seconds = seconds
        self._name = f"{graph.phase}.onnx" if graph else "the model"
        self._expected = graph.signature if graph else None
        dtypes = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
        self.signature = [(i.name, dtypes.get(i.type, np.float32), i.shape) for i in session.get_inputs()]
        self.outputs = [o.name for o in session.get_outputs()]
        self._built: Callable[[], None] | None = None
        self._shapes: set[tuple[tuple[int, ...], ...]] = set()

    def after_new_shapes(self, built: Callable[[], None]) -> None:
        """Call a function now, and after every first run with inputs of other shapes, when something may have been built."""
        self._built = built
        built()

    def run(
        self,
        inputs: Mapping[str, NDArray[Any] | Tensor | Rows],
        *,
        fetch: Sequence[str] = (),
        keep: Sequence[str] = (),
        into: Mapping[str, Rows] | None = None,
        graph: int = -1,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Tensor]]:
        """Run the graph once.

        Parameters
        ----------
        inputs : mapping of str to array, Tensor or Rows
            Arrays are copied to the device, tensors and rows of tensors are used where they lie.
        fetch : sequence of str
            Outputs to bring to the host, as arrays.
        keep : sequence of str
            Outputs to leave on the device, as tensors.
        into : mapping of str to Rows
            Outputs to write into rows of a tensor.
        graph : int
            A number for runs that always use the same tensors, so that they may be recorded as one CUDA graph; -1 for
            all others.

        Returns
        -------
        tuple of dict
            The fetched arrays and the kept tensors, by name.

        Raises
        ------
        ParameterError
            An input has another type or shape than the graph takes.
        BundleError
            The graph fails, takes too long, or gives a tensor of another shape than it declares.
        OutOfMemoryError, ProviderError
            The device fails.
        """
        lengths = self._check_inputs(inputs)
        options = self._run_options(graph)
        try:
            with WATCH.limit(self._seconds, lambda: setattr(options, "terminate", True)) as late:
                binding = self._bind(inputs, fetch, keep, into or {})
                self._session.run_with_iobinding(binding, options)
        except Exception as error:
            if late():
                raise self._too_late() from error
            raise self._translated(error) from error
        if late():  # it could not be stopped: to OpenVINO a whole batch is one operator
            raise self._too_late()
        if self._built is not None:
            shapes = tuple(_shape(value) for value in inputs.values())
            if shapes not in self._shapes:
                self._shapes.add(shapes)
                self._built()
        outputs = binding.get_outputs()[len(into or {}) :]
        kept = dict(zip(keep, outputs[: len(keep)], strict=True))
        fetched = {name: value.numpy() for name, value in zip(fetch, outputs[len(keep) :], strict=True)}
        if self._expected is not None:
            for name, array in fetched.items():
                self._check_output(name, array.shape, lengths)
            for name, tensor in kept.items():
                self._check_output(name, tensor.shape(), lengths)
        return fetched, kept

    def _bind(
        self, inputs: Mapping[str, Any], fetch: Sequence[str], keep: Sequence[str], into: Mapping[str, Rows]
    ) -> Any:
        binding = self._session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.asarray(value, order="C"))
            elif isinstance(value, Rows):
                binding.bind_input(name, self._device, 0, np.float32, value.shape, value.pointer)
            else:
                binding.bind_ortvalue_input(name, value)
        for name, rows in into.items():
            binding.bind_output(name, self._device, 0, np.float32, rows.shape, rows.pointer)
        for name in keep:
            binding.bind_output(name, self._device)
        for name in fetch:
            binding.bind_output(name, "cpu")
        return binding

    def _check_inputs(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        """Compare inputs with what the graph takes; returns the lengths that this run chose, by name."""
        lengths: dict[str, int] = {}
        for name, value in inputs.items() if self._expected is not None else ():
            assert self._expected is not None
            dtype, wanted = self._expected.inputs[name]
            shape = _shape(value)
            wrong = isinstance(value, np.ndarray) and value.dtype != DTYPES[dtype]
            if wrong or not _agree(shape, wanted, lengths):
                kind = f"{value.dtype} " if isinstance(value, np.ndarray) else ""
                raise ParameterError(
                    f"{name} is {kind}{_words(shape)}, but {self._name} takes {DTYPES[dtype]} {_words(wanted)}"
                )
        return lengths

    def _check_output(self, name: str, shape: Sequence[int], lengths: dict[str, int]) -> None:
        assert self._expected is not None
        wanted = self._expected.outputs[name][1]
        if not _agree(shape, wanted, lengths):
            raise BundleError(
                f"{self._name} gave {name} of shape {_words(shape)} instead of {_words(wanted)}: the bundle is damaged, "
                "export it again"
            )

    def _too_late(self) -> BundleError:
        return BundleError(
            f"{self._name} ran for more than {self._seconds:g} s and was stopped; limits=Limits(run_seconds=…) allows more"
        )

    def _translated(self, error: Exception) -> SiseError:
        """Translate an error of onnxruntime into one of ours."""
        words = str(error).lower()
        if isinstance(error, MemoryError) or any(part in words for part in OUT_OF_MEMORY):
            return OutOfMemoryError(f"no memory left on {self._device}: {first_line(error)}")
        if self._expected is None or (self._device != "cpu" and any(part in words for part in FAILED_DEVICE)):
            return ProviderError(f"{self._name} failed on {self._device}: {first_line(error)}")
        return BundleError(f"{self._name} failed, and the bundle may be damaged: {first_line(error)}")

    def _run_options(self, graph: int) -> Any:
        options = self._new_options()
        options.log_severity_level = 4  # errors are raised; nothing is printed beside them
        # -1: not recorded. It is always said: asking for an entry that is missing costs onnxruntime 0.1 ms a run.
        options.add_run_config_entry("gpu_graph_id", str(graph if self._cuda_graphs else -1))
        return options


def _shape(value: NDArray[Any] | Tensor | Rows) -> tuple[int, ...]:
    return tuple(value.shape if isinstance(value, (np.ndarray, Rows)) else value.shape())


def _agree(shape: Sequence[int], wanted: Shape, lengths: dict[str, int]) -> bool:
    """Whether a shape is the wanted one, where a name stands for the same length everywhere."""
    return len(shape) == len(wanted) and all(
        length == (lengths.setdefault(want, length) if isinstance(want, str) else want)
        for length, want in zip(shape, wanted, strict=True)
    )


def _words(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(length).lstrip('~') for length in shape)}]"
