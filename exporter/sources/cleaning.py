"""Any readable ONNX classifier -> one clean network: x [n, C, H, W] float32 in, class scores out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
import onnx_ir.passes.common as passes

from sise_ort.bundle.format import LARGEST_PICTURE, LONGEST_SIDE
from sise_ort.errors import SourceError, first_line, option
from sise_ort.exporter.gradients import RULES
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.head import final_activation
from sise_ort.exporter.ops import Ops, attribute, constant_array
from sise_ort.exporter.sources.rewriting import needs_rewriting, rewrite
from sise_ort.exporter.sources.shapes import BATCH, ShapesDoNotFit, infer_shapes
from sise_ort.exporter.sources.unbinding import keep_pictures_first

OPSET, IR_VERSION = 20, 10
OLDEST_OPSET, NEWEST_OPSET = 7, 24
KNOWN_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Domains of operators that ONNX or onnxruntime bring along."""
_TO_FLOAT = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class CleanNetwork:
    """A classifier in one known form.

    Attributes
    ----------
    model : ir.Model
        Opset 20, IR 10; input "x" [n, C, H, W] float32 with fixed C, H, W; one output, as in the file; every constant
        an initializer; shapes inferred; axis 0 is the batch, called "n".
    channels, height, width : int
        Size of the input.
    one_at_a_time : bool
        The file's batch of 1 could not be made dynamic; the input is [1, C, H, W].
    siblings : tuple of str
        Names of the file's other outputs that end with a Softmax or Sigmoid.
    """

    model: ir.Model
    channels: int
    height: int
    width: int
    one_at_a_time: bool = False
    siblings: tuple[str, ...] = ()


def clean(
    source: onnx.ModelProto | ir.Model,
    *,
    input_size: tuple[int, int] | None = None,
    output: str | None = None,
    default_size: tuple[int, int] | None = None,
) -> CleanNetwork:
    """Bring a model to the one form that blocks, gradients and phases work on.

    Parameters
    ----------
    source : onnx.ModelProto or ir.Model
        With its weights loaded; an ir.Model must have opset 20, and is changed in place.
    input_size : (int, int), optional
        Height and width that were asked for; must agree with a fixed size in the file.
    output : str, optional
        Name of the output that holds the class scores; needed where there are several.
    default_size : (int, int), optional
        Height and width where the file leaves them open and nobody asked.

    Raises
    ------
    SourceError
        The model is no image classifier of a form that can be read; says what is wrong.
    """
    if isinstance(source, ir.Model):
        model = source
        _rewrite(model)
    else:
        model = ir.from_proto(_to_opset(source))
    ir.passes.Sequential(
        passes.RemoveInitializersFromInputsPass(),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.IdentityEliminationPass(),
        passes.TopologicalSortPass(),
    )(model)
    graph = model.graph
    _require_domains(model)
    siblings = _choose_output(graph, output)
    passes.RemoveUnusedNodesPass()(model)
    _to_float32(graph)
    image = _image_input(graph)
    batch, channels, size, channels_last = _read_input(image)
    size = _choose_size(size, input_size, default_size)
    image.shape = ir.Shape(["n", *size, channels] if channels_last else ["n", channels, *size])
    if channels_last:
        _put_channels_first(graph, image, channels, size)
    graph.inputs[0].name = "x"
    if batch is None:
        infer_shapes(model, OPSET)
        return CleanNetwork(_tidy(model), channels, *size, siblings=siblings)
    free = _with_free_batch(model, batch)
    if free is not None:
        return CleanNetwork(_tidy(free), channels, *size, siblings=siblings)
    if batch != 1:
        raise SourceError(
            f"the file fixes its batch to {batch} in a way that cannot be made dynamic; export it with a dynamic "
            "batch, or a batch of 1"
        )
    graph.inputs[0].shape = ir.Shape([1, channels, *size])
    infer_shapes(model, OPSET)
    return CleanNetwork(_tidy(model), channels, *size, one_at_a_time=True, siblings=siblings)


def _require_domains(model: ir.Model) -> None:
    """Refuse operators of domains that nobody knows, and forget domains that no operator uses."""
    used = {node.domain for node in model.graph.all_nodes()}
    for domain in set(model.opset_imports) - used - {""}:
        del model.opset_imports[domain]
    for node in model.graph.all_nodes():
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in RULES:
            raise SourceError(
                f"{describe(node)}: neither ONNX nor onnxruntime knows the domain '{node.domain}'. Export the model with "
                "standard operators, or with this one as a function of the model"
            )


def _require_operators(proto: onnx.ModelProto, version: int) -> None:
    functions = {(f.domain, f.name) for f in proto.functions}
    for node in proto.graph.node:
        if node.domain in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            try:
                onnx.defs.get_schema(node.op_type, version, "")
            except onnx.defs.SchemaError as error:
                raise SourceError(
                    f"operator {node.op_type} (node '{node.name or ', '.join(node.output)}') is not in ONNX's opset {version}, "
                    "which the model says that it uses. Export it anew with opset_version=20"
                ) from error


def _tidy(model: ir.Model) -> ir.Model:
    """Put the pictures in front, and drop what folding left over."""
    keep_pictures_first(model.graph)
    passes.RemoveUnusedNodesPass()(model)
    return model


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
    _require_operators(proto, version)
    if needs_rewriting(proto):
        model = ir.from_proto(proto)
        _rewrite(model)
        proto = ir.to_proto(model)
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


def _rewrite(model: ir.Model) -> None:
    try:
        rewrite(model)
    except ValueError as error:
        raise SourceError(f"the model cannot be brought to opset {OPSET}: {error}") from error


def _choose_output(graph: ir.Graph, output: str | None) -> tuple[str, ...]:
    """Leave one output; return the names of the others that end with a Softmax or Sigmoid."""
    names = [v.name for v in graph.outputs]
    if output is None and len(names) > 1:
        raise SourceError(
            f"the model has the outputs {', '.join(map(str, names))}: name the class scores with {option('output')}"
        )
    if output is not None and output not in names:
        raise SourceError(
            f"{option('output')}: there is no output '{output}'; the model has {', '.join(map(str, names))}"
        )
    if not names:
        raise SourceError("the model has no output")
    keep = graph.outputs[names.index(output) if output is not None else 0]
    siblings = [v.name or "" for v in graph.outputs if v is not keep and final_activation(v) is not None]
    graph.outputs[:] = [keep]
    return tuple(siblings)


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
                raise SourceError(
                    f"the file leaves the picture's size open: pass {option('input_size')} N, or height x width such as 256x1600"
                )
            length = wanted[axis]
        elif wanted is not None and wanted[axis] != length:
            raise SourceError(
                f"{option('input_size')} asks for {name} {wanted[axis]}, but the file fixes it to {length}"
            )
        size.append(length)
    if size[0] * size[1] > LARGEST_PICTURE or max(size) > LONGEST_SIDE:
        raise SourceError(
            f"pictures of {size[0]} x {size[1]} have more than {LARGEST_PICTURE:,} pixels, or a side over {LONGEST_SIDE:,}; pass a smaller "
            f"{option('input_size')}, or export the model for one"
        )
    return size[0], size[1]


def _with_free_batch(model: ir.Model, batch: int) -> ir.Model | None:
    """A copy with a dynamic batch in place of a fixed one; None where the graph does not allow it.

    Constant Reshape and Expand targets that name the batch take it from their input instead.
    """
    free = model.clone()
    op = Ops(free.graph, prefix="batch")
    depends: set[ir.Value | None] = set(free.graph.inputs)
    for node in list(free.graph):
        if depends.isdisjoint(node.inputs):
            continue
        depends.update(node.outputs)
        if node.op_type not in ("Reshape", "Expand"):
            continue
        target = constant_array(node.inputs[1])
        if target is None or len(target) == 0 or target[0] != batch or attribute(node, "allowzero", 0):
            continue
        node.replace_input_with(
            1, op.constant(np.array([0 if node.op_type == "Reshape" else 1, *target[1:]]))
        )
    try:
        infer_shapes(free, OPSET)
    except ShapesDoNotFit:
        return None
    scores = free.graph.outputs[0].shape
    return free if scores is not None and len(scores) and scores[0] == BATCH else None


def _put_channels_first(graph: ir.Graph, image: ir.Value, channels: int, size: tuple[int, int]) -> None:
    """Give a network that reads [n, H, W, C] an input [n, C, H, W]."""
    op = Ops(graph, prefix="layout")
    first = ir.Value(name="x", type=image.type, shape=ir.Shape(["n", channels, *size]))
    last = op.Transpose(first, perm=[0, 2, 3, 1])
    image.replace_all_uses_with(last)
    graph.inputs[:] = [first]
    graph.sort()
