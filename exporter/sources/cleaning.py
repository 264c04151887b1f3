"""Any readable ONNX classifier -> one clean network: x [n, C, H, W] float32 in, class scores out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
import onnx_ir.passes.common as passes

from sise_ort.errors import SourceError, first_line
from sise_ort.exporter.ops import Ops, attribute, constant_array

OPSET, IR_VERSION = 20, 10
OLDEST_OPSET, NEWEST_OPSET = 7, 24
_TO_FLOAT = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class CleanNetwork:
    """A classifier in one known form.

    model : opset 20, IR 10; input "x" [n, C, H, W] float32 with fixed C, H, W; first output as in the file;
        every constant an initializer; shapes inferred; axis 0 is the batch.
    """

    model: ir.Model
    channels: int
    height: int
    width: int


def clean(
    proto: onnx.ModelProto,
    *,
    input_size: tuple[int, int] | None = None,
    output: str | None = None,
    default_size: tuple[int, int] | None = None,
) -> CleanNetwork:
    """Bring a model to the one form that blocks, gradients and phases work on.

    Parameters
    ----------
    proto : the model with its weights loaded.
    input_size : (height, width) asked for; must agree with a fixed size in the file.
    output : name of the output that holds the class scores; needed where there are several.
    default_size : (height, width) where the file leaves it open and nobody asked.

    Raises
    ------
    SourceError : the model is no image classifier of a form that can be read; says what is wrong.
    """
    model = ir.from_proto(_to_opset(proto))
    ir.passes.Sequential(
        passes.RemoveInitializersFromInputsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.IdentityEliminationPass(),
    )(model)
    graph = model.graph
    _choose_output(graph, output)
    passes.RemoveUnusedNodesPass()(model)
    _to_float32(graph)
    image = _image_input(graph)
    batch, channels, size, channels_last = _read_input(image)
    size = _choose_size(size, input_size, default_size)
    image.shape = ir.Shape(["n", *size, channels] if channels_last else ["n", channels, *size])
    if isinstance(batch, int):
        _free_batch(graph, batch)
    if channels_last:
        _put_channels_first(graph, image, channels, size)
    _infer_shapes(model)
    graph.inputs[0].name = "x"
    return CleanNetwork(model, channels, *size)


def _to_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    versions = {o.domain: o.version for o in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        raise SourceError(
            "the model imports no version of the ONNX operators; it may not be a neural network"
        )
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise SourceError(
            f"the model uses opset {version}; {OLDEST_OPSET} to {NEWEST_OPSET} can be read. "
            "Export it anew with opset_version=20."
        )
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
    if version == OPSET:
        return proto
    del proto.graph.value_info[:]  # stale shapes stop the converter
    try:
        return onnx.version_converter.convert_version(proto, OPSET)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        raise SourceError(
            f"the model's opset {version} cannot be converted to opset {OPSET}: {first_line(error)}. "
            "Export it anew with opset_version=20."
        ) from error


def _choose_output(graph: ir.Graph, output: str | None) -> None:
    names = [v.name for v in graph.outputs]
    if output is None and len(names) > 1:
        raise SourceError(
            f"the model has the outputs {', '.join(map(str, names))}: name the class scores with --output"
        )
    if output is not None and output not in names:
        raise SourceError(
            f"--output: there is no output '{output}'; the model has {', '.join(map(str, names))}"
        )
    if not names:
        raise SourceError("the model has no output")
    keep = graph.outputs[names.index(output) if output is not None else 0]
    graph.outputs[:] = [keep]


def _to_float32(graph: ir.Graph) -> None:
    """Read half and double precision as float32: gradients underflow in half."""
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in _TO_FLOAT:
            data = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.tensor(data, name=value.name)
            value.dtype = ir.DataType.FLOAT
    for node in graph:
        if node.op_type == "Cast" and ir.DataType(attribute(node, "to")) in _TO_FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    for value in [*graph.inputs, *graph.outputs]:
        if value.dtype in _TO_FLOAT:
            value.dtype = ir.DataType.FLOAT


def _image_input(graph: ir.Graph) -> ir.Value:
    inputs = [v for v in graph.inputs if v.uses()]
    images = [v for v in inputs if v.dtype == ir.DataType.FLOAT and v.shape is not None and len(v.shape) == 4]
    if len(inputs) != 1 or len(images) != 1:
        listed = ", ".join(f"{v.name} {v.dtype} {v.shape}" for v in inputs) or "none"
        raise SourceError(
            f"the model must have one float input [n, C, H, W] or [n, H, W, C]; it has: {listed}"
        )
    graph.inputs[:] = images
    return images[0]


def _read_input(image: ir.Value) -> tuple[Any, int, tuple[int | None, int | None], bool]:
    assert image.shape is not None
    dims = [d if isinstance(d, int) and d > 0 else None for d in image.shape.dims]
    channels_last = dims[1] not in (1, 3) and dims[3] in (1, 3)
    channels = dims[3] if channels_last else dims[1]
    if channels not in (1, 3):
        raise SourceError(
            f"input '{image.name}' {image.shape} has {channels or 'an unknown number of'} channels; "
            "networks on gray (1) or colour (3) pictures can be explained"
        )
    assert channels is not None
    size = (dims[1], dims[2]) if channels_last else (dims[2], dims[3])
    return dims[0], channels, size, channels_last


def _choose_size(
    fixed: tuple[int | None, int | None], asked: tuple[int, int] | None, default: tuple[int, int] | None
) -> tuple[int, int]:
    wanted = asked or (default if None in fixed else None)
    size = []
    for axis, name in enumerate(("height", "width")):
        length = fixed[axis]
        if length is None:
            if wanted is None:
                raise SourceError("the file leaves the picture's size open: pass --input-size N or HxW")
            length = wanted[axis]
        elif wanted is not None and wanted[axis] != length:
            raise SourceError(
                f"--input-size asks for {name} {wanted[axis]}, but the file fixes it to {length}"
            )
        size.append(length)
    return size[0], size[1]


def _free_batch(graph: ir.Graph, batch: int) -> None:
    """Make a fixed batch dynamic: constant Reshape targets that name it copy it from their input instead."""
    op = Ops(graph, prefix="batch")
    for node in list(graph):
        shape = constant_array(node.inputs[1]) if node.op_type == "Reshape" else None
        if shape is not None and len(shape) and shape[0] == batch and not attribute(node, "allowzero", 0):
            node.replace_input_with(1, op.constant(np.array([0, *shape[1:]])))


def _put_channels_first(graph: ir.Graph, image: ir.Value, channels: int, size: tuple[int, int]) -> None:
    """Give a network that reads [n, H, W, C] an input [n, C, H, W]."""
    op = Ops(graph, prefix="layout")
    first = ir.Value(name="x", type=image.type, shape=ir.Shape(["n", channels, *size]))
    last = op.Transpose(first, perm=[0, 2, 3, 1])
    image.replace_all_uses_with(last)
    graph.inputs[:] = [first]
    graph.sort()


def _infer_shapes(model: ir.Model) -> None:
    """Infer all shapes anew: those in the file may name another batch or precision."""
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
            if value not in outputs:
                value.type = None
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the pass only warns of what is raised below
    try:
        passes.ShapeInferencePass()(model)
    finally:
        logger.setLevel(level)
    if any(value.type is None for node in model.graph for value in node.outputs if value.name):
        try:
            onnx.shape_inference.infer_shapes(
                ir.to_proto(model), check_type=True, strict_mode=True, data_prop=True
            )
        except (RuntimeError, onnx.shape_inference.InferenceError) as error:
            raise SourceError(f"the model's shapes do not fit together: {first_line(error)}") from error
