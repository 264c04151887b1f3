"""A model from an .onnx file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import ProviderError, SourceError
from sise_ort.exporter.sources.onnx_proto import read_proto
from sise_ort.exporter.sources.source import Source


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
    return Source(path.stem, proto, _Reference(path, output), origin, words=f"'{path}'")


class _Reference:
    """The file's own scores, by onnxruntime; opened when first asked, one picture at a time."""

    def __init__(self, path: Path, output: str | None) -> None:
        self._path, self._output = path, output

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[Any]:
        from sise_ort.runtime.providers import open_foreign

        try:
            session = open_foreign(str(self._path))
        except ProviderError as error:
            raise SourceError(f"onnxruntime does not run the source model: {error}") from error
        name, dtype, shape = session.signature[0]
        if len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
            inputs = inputs.transpose(0, 2, 3, 1)
        output = self._output or session.outputs[0]
        fixed = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 1
        if fixed > 4096:
            raise SourceError(
                f"the file fixes its batch to {fixed:,} pictures; export the model with a batch of 1"
            )
        rows = []
        for row in inputs.astype(dtype):
            fetched, _ = session.run({name: np.repeat(row[None], fixed, axis=0)}, fetch=[output])
            rows.append(fetched[output][:1])
        return np.concatenate(rows)
