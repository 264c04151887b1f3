"""Reads what can be read of an .onnx file whose weights are missing, for looking at it only."""

from __future__ import annotations

import math
from pathlib import Path

import google.protobuf.message
import onnx

from sise_ort.errors import SiseError
from sise_ort.exporter.sources.onnx_proto import LARGEST_FILE, regular_file, tensors_of

LARGEST_STAND_IN = 1 << 30
"""Bytes of zeros at most that stand in for missing weights."""


def is_file(path: str | Path) -> bool:
    """Whether a regular file of this name is there."""
    try:
        return regular_file(Path(path), "model file") is not None
    except SiseError:
        return False


def read_leniently(path: str | Path) -> onnx.ModelProto | None:
    """Read an .onnx file, with zeros in the place of weights outside of it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    onnx.ModelProto or None
        None where there is no such file, or no network in it.
    """
    proto = onnx.ModelProto()
    try:
        facts = regular_file(Path(path), "model file")
        if facts is None or facts.st_size >= LARGEST_FILE:
            return None
        proto.ParseFromString(Path(path).read_bytes())
        outside = [t for t in tensors_of(proto) if t.data_location == onnx.TensorProto.EXTERNAL]
        sizes = [
            math.prod(t.dims) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in outside
        ]
    except (SiseError, OSError, KeyError, TypeError, google.protobuf.message.DecodeError):
        return None
    if not proto.graph.node or any(size < 0 for size in sizes) or sum(sizes) > LARGEST_STAND_IN:
        return None
    for tensor, size in zip(outside, sizes, strict=True):
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = bytes(size)
    return proto
