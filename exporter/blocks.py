"""The convolutional blocks of a network, found on the graph alone (docs/method.md, Blocks).

A *bottleneck* is a tensor that every path from the image to the output crosses; where outputs have places, every path
through a deepest map (`bottlenecks`). Bottlenecks belong to one block while each side shrinks by a factor under 1.5 from
one to the next; the block's output is its last.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from sise_ort.errors import ExportError, GradientError, NoBlocksError, option
from sise_ort.exporter.attention import SELF_ATTENTION, mixings
from sise_ort.exporter.bottlenecks import behind_layers, bottlenecks, deep_bottlenecks
from sise_ort.exporter.gradients import nodes_between, without_rule
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.layout import CHANNELS_FIRST, Axes, feature_axes

SHRINK = 1.5
POOLING = frozenset(
    "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool ReduceMax ReduceMean".split()
)
UNCHANGING = frozenset(
    "Cast DequantizeLinear Dropout Identity Pad QuantizeLinear Reshape Squeeze Transpose Unsqueeze".split()
)
LINEAR = frozenset(
    """Add BatchNormalization Cast Concat Conv Flatten Gemm Identity MatMul Neg Pad Reshape Slice Split Squeeze Sub
    Unsqueeze""".split()
)
"""Operators whose gradient reads no forward tensor: they may work on pictures and places in one axis, as Keras's
Dense layers do on feature maps."""


@dataclass(frozen=True)
class Candidate:
    """A tensor that may serve as a block's output.

    Attributes
    ----------
    tensor : str
        Its name in the graph.
    module : str
        Path of the module that computes it, "" where the file does not say.
    channels, height, width : int
        Number and size of its feature maps.
    why_not : str
        Why it is never chosen, "" if it may be.
    axes : (int, int, int)
        Where channels, height and width lie in it.
    """

    tensor: str
    module: str
    channels: int
    height: int
    width: int
    why_not: str = ""
    axes: Axes = CHANNELS_FIRST


def candidates(graph: ir.Graph, places: bool = False) -> list[Candidate]:
    """List all bottlenecks that are feature maps, each with the reason why it cannot be a block's output.

    Parameters
    ----------
    graph : ir.Graph
    places : bool
        The output has places, as a segmentation's and a detector's: `bottlenecks.deep_bottlenecks` are taken.

    Returns
    -------
    list of Candidate
        Shallow to deep.
    """
    result = []
    axes = feature_axes(graph)
    learned = behind_layers(graph)
    for value in deep_bottlenecks(graph) if places else bottlenecks(graph):
        size = feature_size(value, axes.get(value))
        if size is None:
            continue
        why_not = ""
        if value not in learned:
            why_not = "before the first layer"
        elif size[1:] == (1, 1):
            why_not = "pooled to 1×1"
        elif _only_pooled(value):
            why_not = "only pooled"
        result.append(Candidate(value.name or "", module_path(value), *size, why_not, axes[value]))
    return result


def find_blocks(graph: ir.Graph, places: bool = False) -> list[Candidate]:
    """Find the last eligible bottleneck of every block, shallow to deep.

    Parameters
    ----------
    graph : ir.Graph
    places : bool
        See `candidates`.

    Raises
    ------
    NoBlocksError
        No bottleneck is a feature map, or the network mixes all places of the picture (see `attention`).
    """
    _refuse_mixing(graph)
    found = candidates(graph, places)
    blocks: list[list[Candidate]] = []
    for index, candidate in enumerate(found):
        before = found[index - 1] if index else candidate
        shrunk = before.height >= SHRINK * candidate.height or before.width >= SHRINK * candidate.width
        if shrunk or not blocks:
            blocks.append([])
        blocks[-1].append(candidate)
    chosen = [eligible[-1] for block in blocks if (eligible := [c for c in block if not c.why_not])]
    if not chosen:
        where = (
            "through the deepest maps before the first upsampling"
            if places
            else "from the image to the output"
        )
        raise NoBlocksError(
            "no spatial block found: no feature maps [n, channels, height, width] lie on every path "
            f"{where} after a convolution. Name tensors yourself with "
            f"{option('layers')} (`sise-ort layers` lists them); "
            "networks without feature maps (MLPs) cannot be explained by SISE."
        )
    return chosen


def _refuse_mixing(graph: ir.Graph) -> None:
    found = mixings(graph)
    if not found:
        return
    kinds: dict[str, list[ir.Node]] = {}
    for mixing in found:
        kinds.setdefault(mixing.kind, []).append(mixing.node)
    what = ", ".join(
        f"{kind} ({len(nodes)} times, first in {describe(nodes[0])})" for kind, nodes in kinds.items()
    )
    family = "a transformer" if SELF_ATTENTION in kinds else "no CNN"
    raise NoBlocksError(
        f"the network is {family}: it mixes all places of the picture by {what}, so a place in its feature maps is no "
        "longer a place in the picture, which SISE's masks rely on. In a hybrid, name feature maps in front of the first "
        f"such layer with {option('layers')}"
    )


def choose_blocks(
    graph: ir.Graph, layers: Sequence[str] | None = None, places: bool = False
) -> list[Candidate]:
    """The blocks to explain with: the rule's (docs/method.md, Blocks), or the tensors or module paths named in `layers`.

    Parameters
    ----------
    graph : ir.Graph
    layers : sequence of str, optional
    places : bool
        See `candidates`.

    Raises
    ------
    NoBlocksError : see `find_blocks`.
    ExportError : a named layer is not in the graph, is no feature map, or does not lead to the output.
    """
    chosen = [_named(graph, name) for name in layers] if layers else find_blocks(graph, places)
    order = {v.name: i for i, node in enumerate(graph) for v in node.outputs}
    return sorted({c.tensor: c for c in chosen}.values(), key=lambda c: order[c.tensor])


def _named(graph: ir.Graph, name: str) -> Candidate:
    values = [v for node in graph for v in node.outputs]
    matches = [v for v in values if v.name == name] or [v for v in values if module_path(v) == name][-1:]
    if not matches:
        raise ExportError(
            f"{option('layers')}: there is no tensor or module '{name}'; see `sise-ort layers MODEL`"
        )
    value = matches[0]
    axes = feature_axes(graph).get(value)
    size = feature_size(value, axes)
    if size is None or axes is None:
        raise ExportError(
            f"{option('layers')}: '{name}' has shape {value.shape}, not [n, channels, height, width]"
        )
    if not nodes_between(graph.outputs[0], [value]):
        raise ExportError(
            f"{option('layers')}: the output '{graph.outputs[0].name}' does not depend on '{name}'"
        )
    return Candidate(value.name or "", module_path(value), *size, axes=axes)


def feature_maps(graph: ir.Graph) -> list[Candidate]:
    """All feature maps above 1×1 behind a learned layer that lead to the first output: those that can be named as layers."""
    learned, axes = behind_layers(graph), feature_axes(graph)
    path = [v for node in nodes_between(graph.outputs[0], [graph.inputs[0]]) for v in node.outputs]
    return [
        Candidate(v.name or "", module_path(v), *size, axes=axes[v])
        for v in path
        if v in learned
        and v not in graph.outputs
        and (size := feature_size(v, axes.get(v)))
        and size[1:] != (1, 1)
    ]


def require_rules(graph: ir.Graph, chosen: Sequence[Candidate]) -> None:
    """Check that the first output can be differentiated to the chosen blocks.

    Raises
    ------
    GradientError
        An operator on the way has no rule; names it, its node and the blocks that can be reached.
    """
    values = {v.name: v for node in graph for v in node.outputs}
    scores = graph.outputs[0]
    _require_pictures_apart(graph, values[chosen[0].tensor], f"name deeper tensors with {option('layers')}")
    unknown = without_rule(scores, [values[chosen[0].tensor]])
    if not unknown:
        return
    reachable = [c for c in chosen if not without_rule(scores, [values[c.tensor]])]
    if reachable:
        size = f"{reachable[0].channels} × {reachable[0].height} × {reachable[0].width}"
        names = option("layers", [c.tensor for c in reachable])
        way_out = f"the shallowest block that can be reached without is '{reachable[0].tensor}' ({size}): pass {names}"
    else:
        way_out = "no block can be reached without"
    raise _no_rule(unknown, way_out)


def require_rules_to_image(graph: ir.Graph) -> None:
    """Check that the first output can be differentiated to the image itself.

    Raises
    ------
    GradientError
        An operator on the way has no rule; names it and its node.
    """
    way_out = f"leave out image-gradient and full-gradient of {option('graphs')}"
    _require_pictures_apart(graph, graph.inputs[0], way_out)
    unknown = without_rule(graph.outputs[0], [graph.inputs[0]])
    if unknown:
        raise _no_rule(unknown, way_out)


def _require_pictures_apart(graph: ir.Graph, root: ir.Value, way_out: str) -> None:
    path = nodes_between(graph.outputs[0], [root])
    pictures = graph.inputs[0].shape[0] if graph.inputs[0].shape is not None else None
    merged = {v for node in path for v in node.outputs if not _first_axis_is(v, pictures)}
    for node in path:
        if node.op_type not in LINEAR and not merged.isdisjoint({*node.inputs, *node.outputs}):
            raise GradientError(
                f"{describe(node)} works on a tensor whose first axis is not the pictures' alone; the gradients of "
                f"several questions would mix there; {way_out}"
            )


def _no_rule(unknown: Sequence[ir.Node], way_out: str) -> GradientError:
    first: dict[str, tuple[str, int]] = {}
    for node in reversed(unknown):
        _, count = first.get(node.op_type, ("", 0))
        first[node.op_type] = (describe(node), count + 1)
    operators = ", ".join(f"{words}{f' and {n - 1} more' if n > 1 else ''}" for words, n in first.values())
    return GradientError(
        f"there is no gradient rule for {operators}; {way_out}; or register a rule with "
        "sise_ort.exporter.gradients.register (see CONTRIBUTING.md)"
    )


def _first_axis_is(value: ir.Value, pictures: int | ir.SymbolicDim | None) -> bool:
    return value.shape is None or (len(value.shape) > 0 and value.shape[0] == pictures)


def feature_size(value: ir.Value, axes: Axes | None) -> tuple[int, int, int] | None:
    """(channels, height, width) of a float tensor of feature maps of fixed size, else None."""
    if axes is None or value.shape is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return None
    channels, height, width = (value.shape[axis] for axis in axes)
    if isinstance(channels, int) and isinstance(height, int) and isinstance(width, int):
        return channels, height, width
    return None


def _only_pooled(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in UNCHANGING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type in POOLING


def module_path(value: ir.Value) -> str:
    """The module that computed a tensor, as torch's exporters note it; "" where the file does not say."""
    node = value.producer()
    if node is None:
        return ""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if scopes:
        names = [s for s in _listed(scopes)[:-1] if s]
        return str(names[-1]) if names else ""
    parts = [p for p in (node.name or "").split("/") if p][:-1]
    if not (node.name or "").startswith("/") or not parts:
        return ""
    path = last = parts[0]  # TorchScript: /layer1/layer1.0/relu/Relu is layer1.0.relu
    for part in parts[1:]:
        path = path.removesuffix(last) + part if part.startswith(last + ".") else f"{path}.{part}"
        last = part
    return path


def _listed(text: str) -> list[object]:
    """A list as Python writes it; empty where the text is anything else."""
    try:
        found = ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):  # what literal_eval raises
        return []
    return found if isinstance(found, list) else []
