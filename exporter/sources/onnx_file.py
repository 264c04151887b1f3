"""A model from an .onnx file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import ProviderError, SourceError
from sise_ort.exporter.sources.cutting import (
    declare_output,
    describe_value,
    fix_inputs,
    forget_dictionaries,
    needed_for,
    openable,
)
from sise_ort.exporter.sources.inputs import PICTURES, FileInput
from sise_ort.exporter.sources.numbers import to_float32
from sise_ort.exporter.sources.onnx_proto import read_proto
from sise_ort.exporter.sources.opsets import OLDEST_RUN, opset_of, to_opset
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.translation import translated


def load_onnx(path: str | Path, output: str | None = None, inputs: Mapping[str, Any] | None = None) -> Source:
    """Read an .onnx file, its external weights included.

    Parameters
    ----------
    path : str or Path
    output : str, optional
        The output that is explained, where there are several; or any other tensor of the graph.
    inputs : mapping, optional
        Constants for inputs other than the picture, by name; see `cutting.fix_inputs`.

    Raises
    ------
    SourceError
        See `read_proto`; or there is no tensor `output`.
    ParameterError
        A value does not fit an input.
    """
    path = Path(path)
    proto, digest = read_proto(path)
    opsets = {o.domain or "ai.onnx": o.version for o in proto.opset_import}
    origin: dict[str, Any] = {
        "kind": "onnx",
        "file": path.name,
        "sha256": digest,
        "opsets": opsets,
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
    }
    changed = bool(inputs) or (output is not None and output not in {v.name for v in proto.graph.output})
    with translated(f"'{path}' cannot be read as an ONNX model", SourceError):
        forget_dictionaries(proto)
        if inputs:
            fix_inputs(proto, inputs)
            origin["inputs"] = {name: describe_value(value) for name, value in inputs.items()}
        if output is not None:
            proto = declare_output(proto, output)
            origin["output"] = output
    to_mend = _to_mend(proto)
    first = output or next((v.name for v in proto.graph.output), "")

    def reference_at(tensor: str) -> Reference:
        def model() -> onnx.ModelProto:
            needed = needed_for(proto, tensor)
            return _mended(needed) if to_mend else needed

        return Reference(model, tensor, to_mend)

    reference = reference_at(first) if changed or to_mend else Reference(path, first)
    return Source(path.stem, proto, reference, origin, words=f"'{path}'", reference_at=reference_at)


def references_of(model: ir.Model) -> Callable[[str], Reference]:
    """What computes tensors of a traced network, where others than its first output are compared.

    Parameters
    ----------
    model : ir.Model
        It may be changed afterwards: a copy of its nodes is kept.

    Returns
    -------
    callable
    """
    kept = model.clone()
    return lambda tensor: Reference(lambda: needed_for(ir.to_proto(kept), tensor), tensor)


class Reference:
    """A tensor of a file, by onnxruntime; opened when first asked, one picture at a time.

    Parameters
    ----------
    model : Path or callable
        The file, or what gives a model that holds all its weights.
    tensor : str
        The output to compute.
    mended : bool
        Whether the model takes single precision where the file takes double.
    """

    def __init__(
        self, model: Path | Callable[[], onnx.ModelProto], tensor: str, mended: bool = False
    ) -> None:
        self._model, self._tensor, self._mended = model, tensor, mended

    def __call__(self, inputs: NDArray[np.float32], file_input: FileInput) -> NDArray[Any]:
        if isinstance(self._model, Path):
            return self._run(str(self._model), inputs, file_input)
        with openable(self._model()) as opened:
            return self._run(opened, inputs, file_input)

    def _run(self, model: str | bytes, inputs: NDArray[np.float32], file_input: FileInput) -> NDArray[Any]:
        from sise_ort.runtime.providers import open_foreign

        try:
            session = open_foreign(model)
        except ProviderError as error:
            raise SourceError(f"onnxruntime does not run the source model: {error}") from error
        if (file_input.batch or 1) > 4096:
            raise SourceError(
                f"the file fixes its batch to {file_input.batch:,} pictures; export the model with a batch of 1"
            )
        rows = []
        for picture in inputs:
            array = file_input.arrange(picture)
            if self._mended and array.dtype == np.float64:
                array = array.astype(np.float32)
            fetched, _ = session.run({file_input.name: array}, fetch=[self._tensor])
            scores = fetched[self._tensor]
            alone = file_input.axes[PICTURES] is None
            rows.append(scores.reshape(1, -1) if alone else scores[:1])
        return np.concatenate(rows)


def _to_mend(proto: onnx.ModelProto) -> bool:
    """Whether onnxruntime does not run a file as it is: it is of an opset before 7, computes in double precision, or declares
    axes of length 0."""
    kinds = [v.type.tensor_type for v in proto.graph.input]
    double = any(t.data_type == onnx.TensorProto.DOUBLE and len(t.dims) > 1 for t in proto.graph.initializer)
    return (
        double
        or opset_of(proto) < OLDEST_RUN
        or any(d.HasField("dim_value") and d.dim_value == 0 for k in kinds for d in k.shape.dim)
    )


def _mended(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights of single precision, for onnxruntime has no other convolutions, of a newer opset, and with open
    axes."""
    for value in proto.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 0:
                dim.dim_param = f"{value.name}/{axis}"
    model = to_opset(proto) if opset_of(proto) < OLDEST_RUN else ir.from_proto(proto)
    to_float32(model.graph)
    return ir.to_proto(model)
