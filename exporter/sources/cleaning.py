"""Any readable ONNX classifier -> one clean network: x [n, C, H, W] float32 in, class scores out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from sise_ort.errors import SourceError, option
from sise_ort.exporter.detectors.suppression import before_suppression
from sise_ort.exporter.gradients import RULES
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.sources.batch import keep_pictures_at_the_end, put_pictures_in_front, with_free_batch
from sise_ort.exporter.sources.endings import Chosen, choose_output
from sise_ort.exporter.sources.inputs import (
    PICTURES,
    Axes,
    FileInput,
    find_input,
    put_input,
    read_input,
    require_picture,
)
from sise_ort.exporter.sources.numbers import take_floats, to_float32
from sise_ort.exporter.sources.opsets import IR_VERSION as IR_VERSION
from sise_ort.exporter.sources.opsets import OPSET as OPSET
from sise_ort.exporter.sources.opsets import rewrite_newer, to_opset
from sise_ort.exporter.sources.quantized import as_real_numbers
from sise_ort.exporter.sources.shapes import BATCH, infer_shapes
from sise_ort.exporter.sources.sizes import choose_size, fitting_squares
from sise_ort.exporter.sources.unbinding import keep_pictures_first

KNOWN_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Domains of operators that ONNX or onnxruntime bring along."""


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
    chosen : Chosen
        Which output it is, and what was found out about it.
    file_input : FileInput
        The picture as the file itself takes it.
    notes : tuple of str
        What was decided that the user should know.
    rounds_otherwise : bool
        The file has quantised operators that were rewritten: scores differ by where they round.
    """

    model: ir.Model
    channels: int
    height: int
    width: int
    one_at_a_time: bool = False
    chosen: Chosen = field(default_factory=Chosen)
    file_input: FileInput = field(default_factory=FileInput)
    notes: tuple[str, ...] = ()
    rounds_otherwise: bool = False


def clean(
    source: onnx.ModelProto | ir.Model,
    *,
    input_size: tuple[int, int] | None = None,
    output: str | None = None,
    default_size: tuple[int, int] | None = None,
    every_output: bool = False,
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
    every_output : bool
        Keep all outputs, also those whose first axis counts the boxes of all pictures, as detectors have them. Where they
        depend on a NonMaxSuppression, its boxes and scores are the outputs.

    Raises
    ------
    SourceError
        The model is no image classifier of a form that can be read; says what is wrong.
    """
    if isinstance(source, ir.Model):
        model = source
        rewrite_newer(model)
    else:
        model = to_opset(source)
    ir.passes.Sequential(
        passes.RemoveInitializersFromInputsPass(),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    )(model)
    # it fails where a branch gives an Identity of another graph's tensor, which then stays
    with contextlib.suppress(ir.passes.PassError, ValueError):
        passes.IdentityEliminationPass()(model)
    passes.TopologicalSortPass()(model)
    graph = model.graph
    require_picture(graph)
    chosen = Chosen() if every_output else choose_output(graph, output)
    if every_output:
        before_suppression(graph)
    passes.RemoveUnusedNodesPass()(model)
    _require_domains(model)
    rounds_otherwise = as_real_numbers(graph)
    image = find_input(graph)
    file_input, channels, fixed = read_input(image)
    to_float32(graph)
    take_floats(graph, image)
    alone = file_input.axes[PICTURES] is None
    batch = 1 if alone else file_input.batch
    axes = _with_pictures(graph, image, file_input.axes) if alone else file_input.axes
    put_input(graph, image, axes, [BATCH, channels, *fixed])
    open_size = fixed == (None, None) and input_size is None and default_size is None
    squares = fitting_squares(model, channels, OPSET) if open_size else None
    size = choose_size(fixed, input_size, default_size, squares)
    graph.inputs[0].shape = ir.Shape([BATCH, channels, *size])
    notes = (*chosen.notes, *([_guessed(size)] if open_size else []))

    cleaned, one_at_a_time = _with_shapes(model, batch, every_output)
    return CleanNetwork(
        _tidy(cleaned), channels, *size, one_at_a_time, chosen, file_input, notes, rounds_otherwise
    )


def _with_shapes(model: ir.Model, batch: int | None, rows: bool) -> tuple[ir.Model, bool]:
    """The model with shapes and a dynamic batch where that can be had, and whether it takes one picture at a time."""
    free = with_free_batch(model, batch, OPSET, rows) if batch is not None else None
    if free is not None:
        return free, False
    if batch not in (None, 1):
        raise SourceError(
            f"the file fixes its batch to {batch} in a way that cannot be made dynamic; export it with a dynamic "
            "batch, or a batch of 1"
        )
    image = model.graph.inputs[0]
    if batch == 1 and image.shape is not None:
        image.shape = ir.Shape([1, *image.shape.dims[1:]])
    infer_shapes(model, OPSET)
    return model, batch == 1


def _with_pictures(graph: ir.Graph, image: ir.Value, axes: Axes) -> Axes:
    """The axes of an input without an axis of pictures, after one was put in front where that can be done."""
    keep_pictures_at_the_end(graph)
    if not put_pictures_in_front(graph, image):
        return axes
    channels, rows, columns = (None if at is None else at + 1 for at in axes[1:])
    return 0, channels, rows, columns


def _guessed(size: tuple[int, int]) -> str:
    return (
        f"the file leaves the picture's size open; {size[0]} x {size[1]} is the only square that fits its fully connected "
        f"layer; {option('input_size')} takes another size"
    )


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


def _tidy(model: ir.Model) -> ir.Model:
    """Put the pictures in front, and drop what folding left over."""
    keep_pictures_first(model.graph)
    passes.RemoveUnusedNodesPass()(model)
    return model
