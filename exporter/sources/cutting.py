"""Changes to a file before it is cleaned: any tensor as its output, constants for its other inputs."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import ParameterError, SourceError, option, shown
from sise_ort.exporter.sources.onnx_proto import LARGEST_FILE

_WHOLE = frozenset(
    {onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.UINT8,
     onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64, onnx.TensorProto.BOOL}
)  # fmt: skip
_REAL = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16})


def declare_output(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Make a tensor of the graph an output, where it is none.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed in place.
    name : str
        An output, or any tensor that a node of the main graph computes.

    Returns
    -------
    onnx.ModelProto
        The same, or one without local functions where the tensor lies inside of one.

    Raises
    ------
    SourceError
        There is no such tensor; names that are close are proposed.
    """
    found, declared = _with(proto, name)
    if name not in {v.name for v in found.graph.output}:
        found.graph.output.append(declared)
    return found


def _with(proto: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, onnx.ValueInfoProto]:
    """The model with a tensor in its main graph, and that tensor as an output."""
    for value in (*proto.graph.output, *proto.graph.value_info):
        if value.name == name:
            return proto, value
    if not _computes(proto, name) and proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    if not _computes(proto, name):
        raise SourceError(unknown_tensor(proto, name))
    return proto, onnx.ValueInfoProto(name=name)


def unknown_tensor(proto: onnx.ModelProto, name: str) -> str:
    """The error for a name that no node computes.

    Parameters
    ----------
    proto : onnx.ModelProto
    name : str

    Returns
    -------
    str
        With the outputs, and names that are close.
    """
    declared = [v.name for v in proto.graph.output]
    tensors = [tensor for node in proto.graph.node for tensor in node.output if tensor]
    close = difflib.get_close_matches(name, dict.fromkeys([*declared, *tensors]), n=3, cutoff=0.5)
    hint = f"; close names are {', '.join(close)}" if close else ""
    what = f"there is no tensor '{name}'"
    for kind, values in (("an input", proto.graph.input), ("a weight", proto.graph.initializer)):
        if name in {v.name for v in values}:
            what = f"'{name}' is {kind}, not computed from the picture"
    return (
        f"{option('output')}: {what}; the model has the outputs {', '.join(declared[:8])}{hint}. Any tensor of the graph can be "
        "taken"
    )


def _computes(proto: onnx.ModelProto, name: str) -> bool:
    return bool(name) and any(name in node.output for node in proto.graph.node)


def forget_dictionaries(proto: onnx.ModelProto) -> None:
    """Leave the types of outputs that hold dictionaries open: onnx_ir does not read them.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed in place.
    """
    for value in (*proto.graph.output, *proto.graph.value_info):
        kind = value.type
        while kind.HasField("sequence_type") or kind.HasField("optional_type"):
            kind = (
                kind.sequence_type.elem_type
                if kind.HasField("sequence_type")
                else kind.optional_type.elem_type
            )
        if kind.HasField("map_type"):
            value.ClearField("type")


def needed_for(proto: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """A copy of a model that computes one tensor, without the nodes and weights that it does not need.

    Parameters
    ----------
    proto : onnx.ModelProto
    output : str
        A tensor that a node of the main graph computes.

    Returns
    -------
    onnx.ModelProto
    """
    proto, declared = _with(proto, output)
    needed = {output}
    kept = []
    for node in reversed(proto.graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(_reads(node))
    copy = onnx.ModelProto(
        ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions
    )
    graph = copy.graph
    graph.name = proto.graph.name or "source"
    graph.node.extend(reversed(kept))
    graph.initializer.extend(t for t in proto.graph.initializer if t.name in needed)
    weights = {t.name for t in proto.graph.initializer}
    graph.input.extend(v for v in proto.graph.input if v.name in needed or v.name not in weights)
    graph.output.append(declared)
    return copy


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also inside its branches and loops."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from (v.name for v in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


@contextmanager
def openable(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    """What onnxruntime opens: the model's bytes, or the path of a passing file where it is too large for them.

    Parameters
    ----------
    proto : onnx.ModelProto
        With its weights inside; changed where it is too large.

    Yields
    ------
    str or bytes
    """
    if proto.ByteSize() < LARGEST_FILE:
        yield proto.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="sise-ort-") as folder:
        path = Path(folder) / "source.onnx"
        onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin")
        yield str(path)


def fix_inputs(proto: onnx.ModelProto, values: Mapping[str, Any]) -> None:
    """Make constants of inputs.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed in place.
    values : mapping
        Per input a number, (nested) numbers, an array, or the path of an .npy file. A number fills the input's shape, in
        which open lengths count as 1.

    Raises
    ------
    ParameterError
        There is no such input, or its value does not fit.
    """
    if not isinstance(values, Mapping):
        raise ParameterError(
            f"{option('inputs')} is {shown(values)}; a mapping of the inputs' names to values is needed"
        )
    weights = {t.name for t in proto.graph.initializer}
    inputs = {v.name: v for v in proto.graph.input if v.name not in weights}
    for name, value in values.items():
        if name not in inputs:
            raise ParameterError(
                f"{option('inputs')}: there is no input '{name}'; the model has {', '.join(map(shape_words, inputs.values()))}"
            )
        array = _array_for(inputs[name], value)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        if proto.ir_version >= 4:  # before, weights were inputs, too
            proto.graph.input.remove(inputs[name])


def _array_for(declared: onnx.ValueInfoProto, value: Any) -> NDArray[Any]:
    tensor = declared.type.tensor_type
    where = f"{option('inputs')}: {shape_words(declared)}"
    if not declared.type.HasField("tensor_type") or tensor.elem_type not in _WHOLE | _REAL:
        raise ParameterError(f"{where} cannot be given a value; only numbers can be constants")
    given = _read(value, where)
    if given.dtype.kind not in "biuf" or not np.isfinite(given).all():
        raise ParameterError(f"{where} is given {shown(value)}; finite numbers are needed")
    array = given.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if tensor.elem_type in _WHOLE and not np.array_equal(array, given):
        raise ParameterError(f"{where} is given {shown(value)}, which its type cannot hold")
    if not tensor.HasField("shape"):
        return array
    dims = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
    if array.ndim == 0:
        return np.full([d or 1 for d in dims], array)
    if array.ndim != len(dims) or any(
        d not in (None, length) for d, length in zip(dims, array.shape, strict=True)
    ):
        raise ParameterError(f"{where} is given a value of shape {list(array.shape)}, which does not fit")
    return array


def _read(value: Any, where: str) -> NDArray[Any]:
    if isinstance(value, (str, Path)):
        try:
            found = np.load(value, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ParameterError(
                f"{where} is given '{value}', which cannot be read: a number, a list of numbers such as [0,1], or an .npy file "
                "is needed"
            ) from error
    else:
        found = value
    try:
        return np.asarray(found)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"{where} is given {shown(value)}; numbers in rows of one length are needed"
        ) from error


def describe_value(value: Any) -> Any:
    """A constant as the manifest's origin records it: numbers as they are, else what it is.

    Parameters
    ----------
    value : number, list, array or path

    Returns
    -------
    number, list or str
    """
    if isinstance(value, (bool, int, float, str, list, tuple)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return f"[{','.join(map(str, value.shape))}] {value.dtype}"
    return str(value)


def require_one_input(picture: ir.Value, others: Sequence[ir.Value]) -> None:
    """Refuse inputs besides the picture, with what to do about them.

    Parameters
    ----------
    picture : ir.Value
    others : sequence of ir.Value

    Raises
    ------
    SourceError
    """
    if not others:
        return
    listed = ", ".join(shape_words(ir.to_proto(v)) for v in others)
    example = {v.name or "": 0 for v in others}
    raise SourceError(
        f"besides the picture '{picture.name}' the model has the inputs {listed}: give each of them a constant value, such as "
        f"{option('inputs', example)}"
    )


def shape_words(declared: onnx.ValueInfoProto) -> str:
    """An input or output as errors name it: "state float32 [2,?,128]"."""
    if not declared.type.HasField("tensor_type"):
        return f"{declared.name} ({declared.type.WhichOneof('value') or 'of unknown type'})"
    tensor = declared.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dims = [str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim]
    return f"{declared.name} {'float32' if kind == 'float' else kind} [{','.join(dims)}]"
