"""A model from an .onnx file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import ProviderError, SourceError
from sise_ort.exporter.sources.inputs import PICTURES, FileInput
from sise_ort.exporter.sources.numbers import to_float32
from sise_ort.exporter.sources.onnx_proto import read_proto
from sise_ort.exporter.sources.source import Source

if TYPE_CHECKING:
    from sise_ort.runtime.session import Session


def load_onnx(path: str | Path, output: str | None = None) -> Source:
    """Read an .onnx file, its external weights included.

    Parameters
    ----------
    path : str or Path
    output : str, optional
        The output that holds the class scores, where there are several.

    Raises
    ------
    SourceError
        See `read_proto`.
    """
    path = Path(path)
    proto, digest = read_proto(path)
    opsets = {o.domain or "ai.onnx": o.version for o in proto.opset_import}
    origin = {
        "kind": "onnx",
        "file": path.name,
        "sha256": digest,
        "opsets": opsets,
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
    }
    return Source(path.stem, proto, _Reference(path, output, _to_mend(proto)), origin, words=f"'{path}'")


class _Reference:
    """The file's own scores, by onnxruntime; opened when first asked, one picture at a time."""

    def __init__(self, path: Path, output: str | None, to_mend: bool) -> None:
        self._path, self._output, self._to_mend = path, output, to_mend

    def __call__(self, inputs: NDArray[np.float32], file_input: FileInput) -> NDArray[Any]:
        session = self._open()
        output = self._output or session.outputs[0]
        if (file_input.batch or 1) > 4096:
            raise SourceError(
                f"the file fixes its batch to {file_input.batch:,} pictures; export the model with a batch of 1"
            )
        rows = []
        for picture in inputs:
            array = file_input.arrange(picture)
            if self._to_mend and array.dtype == np.float64:
                array = array.astype(np.float32)
            fetched, _ = session.run({file_input.name: array}, fetch=[output])
            scores = fetched[output]
            alone = file_input.axes[PICTURES] is None
            rows.append(scores.reshape(1, -1) if alone else scores[:1])
        return np.concatenate(rows)

    def _open(self) -> Session:
        from sise_ort.runtime.providers import open_foreign

        try:
            return open_foreign(_mended(self._path) if self._to_mend else str(self._path))
        except ProviderError as error:
            raise SourceError(f"onnxruntime does not run the source model: {error}") from error


def _to_mend(proto: onnx.ModelProto) -> bool:
    """Whether onnxruntime does not run a file as it is: it computes in double precision, or declares axes of length 0."""
    kinds = [v.type.tensor_type for v in proto.graph.input]
    double = any(t.data_type == onnx.TensorProto.DOUBLE and len(t.dims) > 1 for t in proto.graph.initializer)
    return double or any(d.HasField("dim_value") and d.dim_value == 0 for k in kinds for d in k.shape.dim)


def _mended(path: Path) -> bytes:
    """The file with weights of single precision, for onnxruntime has no other convolutions, and with open axes."""
    proto, _ = read_proto(path)
    for value in proto.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 0:
                dim.dim_param = f"{value.name}/{axis}"
    model = ir.from_proto(proto)
    to_float32(model.graph)
    return ir.to_proto(model).SerializeToString()
