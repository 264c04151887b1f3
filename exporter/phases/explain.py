"""explain.onnx: the whole method in one graph, from frame, class, μ and passes to the heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sise_ort.bundle import Layer, Manifest
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.apply import hidden_value
from sise_ort.exporter.phases.fit import fitted_frame, placed_back
from sise_ort.exporter.phases.graph import FLOAT, INT64, UINT8, network_input, new_graph, tensor_input
from sise_ort.exporter.sources.cleaning import IR_VERSION
from sise_ort.formulas.fusion import fuse, visualization_map
from sise_ort.formulas.masks import attribution_masks, see_through
from sise_ort.formulas.seed import NO_OTHER
from sise_ort.formulas.selection import is_selected, largest_first, share_one
from sise_ort.formulas.weights import mask_weights

DOUBLE = ir.DataType.DOUBLE


@dataclass(frozen=True)
class Block:
    """The feature maps of one block, and which of them may become masks.

    Attributes
    ----------
    layer : Layer
    features : value, float32 [1, N, h, w]
    alpha : value, float64 [1, N]
        Pooled gradients.
    selected : value, bool [1, N]
    ranked : value, int64 [N]
        All maps, those with the largest pooled gradients first.
    """

    layer: Layer
    features: ir.Value
    alpha: ir.Value
    selected: ir.Value
    ranked: ir.Value


def build_explain(
    manifest: Manifest,
    extract: ir.Model,
    predict: ir.Model,
    batch_size: int,
    any_size: bool = False,
    scalar: Sequence[int] = (),
) -> ir.Model:
    """Build explain.onnx from two graphs of a bundle of class scores and the formulas of the others.

    Parameters
    ----------
    manifest : Manifest
        The bundle's.
    extract, predict : onnx_ir.Model
        The bundle's graphs, their weights in memory. They become parts of the answer and cannot be used again.
    batch_size : int
        Masks scored at once; the last batch is padded.
    any_size : bool
        Whether the frame may have any size, and is brought to the network's inside.
    scalar : sequence of int
        Shape of inputs and outputs that are single numbers: [1] for servers that know no scalars.

    Returns
    -------
    onnx_ir.Model

    Notes
    -----
    Inputs: image [H, W, C], of the frame's type; target, int64 scalar, negative for the top class; mu, float32 scalar; passes,
    int64 scalar: how many masks are scored at most, negative for all.

    Outputs: heatmap [H, W] in [0, 1]; scores and confidence [classes]; class, int64 scalar, the one
    explained; masks, int64 [B], scored per block; with `any_size` frame_heatmap [H0, W0], at the frame's own size.
    """
    spec, head = manifest.input, manifest.head
    size: tuple[int | str, int | str] = ("height", "width") if any_size else (spec.height, spec.width)
    image = tensor_input("image", UINT8 if spec.frame_dtype == "uint8" else FLOAT, [*size, spec.channels])
    numbers = [
        tensor_input(name, dtype, scalar)
        for name, dtype in (("target", INT64), ("mu", FLOAT), ("passes", INT64))
    ]
    graph = extract.graph
    op, exact = Ops(graph, prefix="explain"), Ops(graph, DOUBLE, prefix="explain64")
    target, mu, passes = (op.Squeeze(number, op.constant([0])) if scalar else number for number in numbers)
    found = {value.name: value for value in graph.outputs}
    given = {value.name: value for value in graph.inputs}
    frame = fitted_frame(op, exact, image, manifest) if any_size else image
    frame = op.Unsqueeze(frame, op.constant([0]))
    frame.dtype = image.dtype
    given["image"].replace_all_uses_with(frame)
    given["class"].replace_all_uses_with(op.Reshape(target, op.constant([1])))
    given["other"].replace_all_uses_with(op.constant([NO_OTHER]))
    given["contrast"].replace_all_uses_with(op.constant(manifest.contrast))
    scores = found["scores"]
    top = op.Squeeze(op.ArgMax(scores, axis=1, keepdims=0), op.constant([0]))
    chosen = op.Where(op.Less(target, op.constant(0)), top, target)

    blocks = _blocks(exact, manifest, found, mu)
    shares = _shares(exact, blocks, passes)
    picks = Picks.of(op, blocks, shares, batch_size)
    seen = network_input(op, frame, manifest.preprocessing)
    answers = _answers(op, Body(predict.graph, manifest, batch_size), picks, seen, chosen)
    none = exact.Equal(passes, exact.constant(0))
    weights = [
        exact.Cast(exact.Where(none, weights_without_passes(exact, block), own), to=FLOAT)
        for block, own in zip(blocks, _weights(exact, picks, answers), strict=True)
    ]
    maps = [
        visualization_map(
            op, b.features, w, (b.layer.channels, b.layer.height, b.layer.width), (spec.height, spec.width)
        )
        for b, w in zip(blocks, weights, strict=True)
    ]
    outputs: dict[str, tuple[ir.Value, ir.DataType, Sequence[int | str]]] = {
        "heatmap": (op.Squeeze(fuse(op, maps), op.constant([0, 1])), FLOAT, [spec.height, spec.width]),
        "scores": (op.Squeeze(scores, op.constant([0])), FLOAT, [head.classes]),
        "confidence": (op.Squeeze(head.confidence(op, scores), op.constant([0])), FLOAT, [head.classes]),
        "class": (op.Reshape(chosen, op.constant(np.array(scalar, np.int64))), INT64, scalar),
        "masks": (op.Identity(shares), INT64, [len(blocks)]),
    }
    if any_size:
        heatmap = outputs["heatmap"][0]
        outputs["frame_heatmap"] = (placed_back(op, exact, image, heatmap, manifest), FLOAT, list(size))
    graph.inputs[:] = [image, *numbers]
    return _closed(graph, outputs)


def _blocks(
    exact: Ops, manifest: Manifest, found: Mapping[str | None, ir.Value], mu: ir.Value
) -> list[Block]:
    """Which maps of each block may become masks, in float64 as the runtime computes it."""
    threshold, blocks = exact.Cast(mu, to=DOUBLE), []
    for b, layer in enumerate(manifest.layers, 1):
        alpha, span = (exact.Cast(found[f"{name}_{b}"], to=DOUBLE) for name in ("alpha", "span"))
        selected = is_selected(exact, alpha, span, threshold)
        ranked = largest_first(exact, alpha, selected, layer.channels)
        blocks.append(Block(layer, found[f"features_{b}"], alpha, selected, ranked))
    return blocks


def _shares(exact: Ops, blocks: Sequence[Block], passes: ir.Value) -> ir.Value:
    """How many masks of each block are scored, int64 [B]."""
    counts = [exact.ReduceSum(exact.Cast(b.selected, to=INT64), [1], keepdims=0) for b in blocks]
    available = exact.Concat(*counts, axis=0) if len(counts) > 1 else counts[0]
    total = exact.ReduceSum(available, [0], keepdims=0)
    few = exact.And(exact.Less(passes, total), exact.Greater(passes, exact.constant(-1)))
    none = exact.constant(np.zeros(len(blocks)))

    turn, going = tensor_input("share/turn", INT64, []), tensor_input("share/going", ir.DataType.BOOL, [])
    counted = tensor_input("share/counted", DOUBLE, [len(blocks)])
    body = new_graph("share", [turn, going, counted])
    inside = Ops(body, DOUBLE, prefix="share")
    more = share_one(inside, counted, exact.Cast(available, to=DOUBLE), len(blocks))
    more.type, more.shape = ir.TensorType(DOUBLE), ir.Shape([len(blocks)])
    onward = inside.Identity(going)
    onward.type, onward.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
    body.outputs[:] = [onward, more]
    rounds = exact.Where(few, passes, exact.constant(0))
    shared = exact.Loop(rounds, None, none, body=body)
    return exact.Where(few, exact.Cast(shared, to=INT64), available)


@dataclass(frozen=True)
class Picks:
    """The masks that are scored, those of all blocks in one row, divided into batches.

    Attributes
    ----------
    blocks : sequence of Block
    index : sequence of value, int64 [n_b]
        Per block, the maps that become masks; those of the last block are padded to full batches.
    first, count : sequence of value, int64 [1]
        Per block, the place of its first mask in the row, and how many it has without padding.
    starts : value, int64 [batches]
        Place of each batch's first mask in the row.
    """

    blocks: Sequence[Block]
    index: Sequence[ir.Value]
    first: Sequence[ir.Value]
    count: Sequence[ir.Value]
    starts: ir.Value

    @classmethod
    def of(cls, op: Ops, blocks: Sequence[Block], shares: ir.Value, batch_size: int) -> Picks:
        """The masks with the largest pooled gradients, as many of each block as `shares` [B] says."""
        axis, ends = op.constant([0]), op.CumSum(shares, op.constant(0))
        count = [op.Slice(shares, op.constant([b]), op.constant([b + 1]), axis) for b in range(len(blocks))]
        last = [op.Slice(ends, op.constant([b]), op.constant([b + 1]), axis) for b in range(len(blocks))]
        first = [op.Sub(end, own) for end, own in zip(last, count, strict=True)]
        index = [
            op.Slice(b.ranked, op.constant([0]), own, axis) for b, own in zip(blocks, count, strict=True)
        ]
        batches = op.Div(op.Add(last[-1], op.constant([batch_size - 1])), op.constant([batch_size]))
        padding = op.Sub(op.Mul(batches, op.constant([batch_size])), last[-1])
        index[-1] = op.Concat(index[-1], op.Expand(op.constant([0]), padding), axis=0)
        numbers = op.Range(op.constant(0), op.Squeeze(batches, axis), op.constant(1))
        return cls(blocks, index, first, count, op.Mul(numbers, op.constant(batch_size)))


@dataclass(frozen=True)
class Body:
    """The network that scores masks: predict.onnx, and how many at once."""

    graph: ir.Graph
    manifest: Manifest
    batch_size: int


def _answers(op: Ops, network: Body, picks: Picks, seen: ir.Value, target: ir.Value) -> list[ir.Value]:
    """Confidence of the class, range and total of every mask, [batches · n] each; one batch after the other in a Scan.

    The network's weights stand inside of the Scan: onnxruntime prepares weights of an outer graph less well.
    """
    body, spec, n = network.graph, network.manifest.input, network.batch_size
    _rename(body, "masked/")
    start = tensor_input("scan/start", INT64, [])
    (given,), found = body.inputs, {value.name: value for value in body.outputs}
    inside = Ops(body, prefix="scan")
    parts = []
    axis, zero = inside.constant([0]), inside.constant([0])
    for block, index, first in zip(picks.blocks, picks.index, picks.first, strict=True):
        begin = inside.Sub(start, first)
        ends = (inside.Max(v, zero) for v in (begin, inside.Add(begin, inside.constant([n]))))
        here = inside.Slice(index, *ends, axis)
        maps = inside.Gather(inside.Squeeze(block.features, axis), here, axis=0)
        parts.append(
            attribution_masks(inside, inside.Unsqueeze(maps, inside.constant([1])), spec.height, spec.width)
        )
    masks, extent, total = (
        inside.Concat(*values, axis=0) if len(values) > 1 else values[0]
        for values in zip(*parts, strict=True)
    )
    masks = inside.Reshape(masks, inside.constant([n, 1, spec.height, spec.width]))
    masked = see_through(inside, seen, masks, hidden_value(inside, network.manifest.preprocessing))
    given.replace_all_uses_with(masked)
    psi = inside.Gather(found["masked/confidence"], target, axis=1)
    outputs = [psi, *(inside.Reshape(value, inside.constant([n])) for value in (extent, total))]
    for value in outputs:
        value.type, value.shape = ir.TensorType(FLOAT), ir.Shape([n])
    body.inputs[:] = [start]
    body.outputs[:] = outputs
    some, none = new_graph("some", []), new_graph("none", [])
    rows = Ops(some, prefix="some").Scan(picks.starts, outputs=len(outputs), body=body, num_scan_inputs=1)
    empty = Ops(none, prefix="none")
    for graph, found_rows in (
        (some, rows),
        (none, [empty.Identity(empty.constant(np.zeros((0, n)))) for _ in rows]),
    ):
        for row in found_rows:
            row.type, row.shape = ir.TensorType(FLOAT), ir.Shape(["batches", n])
        graph.outputs[:] = found_rows
    any_batch = op.Greater(op.Squeeze(op.Shape(picks.starts), op.constant([0])), op.constant(0))
    answers = op.If(
        any_batch, outputs=len(outputs), then_branch=some, else_branch=none
    )  # a Scan takes one round at least
    return [op.Reshape(row, op.constant([-1])) for row in answers]


def _rename(graph: ir.Graph, prefix: str) -> None:
    """Give all of a graph's values and nodes names of their own, so that it can stand inside another one."""
    for value in (*graph.inputs, *graph.initializers.values()):
        value.name = f"{prefix}{value.name}"
    for node in graph:
        node.name = f"{prefix}{node.name}" if node.name else None
        for value in node.outputs:
            if value.name:
                value.name = f"{prefix}{value.name}"


def _weights(exact: Ops, picks: Picks, answers: Sequence[ir.Value]) -> list[ir.Value]:
    """Per block, the weights [1, N] of its feature maps by the scores of the masks, 0 for maps that were not scored."""
    psi, extent, total = (exact.Cast(row, to=DOUBLE) for row in answers)
    rows = (psi, exact.Mul(extent, total))
    found, axis = [], exact.constant([0])
    for block, first, count in zip(picks.blocks, picks.first, picks.count, strict=True):
        index = exact.Slice(block.ranked, axis, count, axis)
        values, mass = (
            exact.ScatterElements(
                exact.constant(np.full(block.layer.channels, float(rest))),
                index,
                exact.Slice(row, first, exact.Add(first, count), axis),
                axis=0,
            )
            for row, rest in zip(rows, (0, 1), strict=True)
        )
        found.append(mask_weights(exact, exact.Unsqueeze(values, axis), mass))
    return found


def weights_without_passes(exact: Ops, block: Block) -> ir.Value:
    """Weights [1, N] of a block's feature maps where no mask is scored: the pooled gradients, as a budget of no passes has it."""
    none = exact.constant(np.ones(block.layer.channels))
    return mask_weights(exact, exact.Where(block.selected, block.alpha, 0.0), none)


def _closed(
    graph: ir.Graph, outputs: Mapping[str, tuple[ir.Value, ir.DataType, Sequence[int | str]]]
) -> ir.Model:
    """Name a graph's outputs and remove what none of them needs."""
    ours = {*outputs, *(value.name for value in graph.inputs)}
    for value in (*graph.initializers.values(), *(v for node in graph for v in node.outputs)):
        if value.name in ours:
            value.name = f"inside/{value.name}"
    for name, (value, dtype, shape) in outputs.items():
        value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(list(shape))
    graph.outputs[:] = [value for value, _, _ in outputs.values()]
    graph.name = "explain"
    graph.sort()
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="sise-ort")
    RemoveUnusedNodesPass()(model)
    return model
