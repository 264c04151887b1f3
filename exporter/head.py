"""What stands at the network's end: whether it gives class scores, and how they become confidences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import onnx_ir as ir

from sise_ort.errors import SourceError, option
from sise_ort.exporter.ops import Ops, attribute
from sise_ort.heads import Head, HeadKind

_PASSING = frozenset("Cast Dropout Flatten Identity Reshape Squeeze Unsqueeze".split())
_NORMS = frozenset("LpNormalization ReduceL2 ReduceSumSquare".split())
_OTHER_NAMES = frozenset(
    """bbox bboxes box boxes descriptor embedding embeddings keypoint keypoints landmark landmarks loc offset offsets
    pose""".split()
)
ACTIVATIONS: dict[str, HeadKind] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class FoundHead:
    """The head of a network, and how its file computes it.

    Attributes
    ----------
    head : Head
        For the manifest.
    activation : str
        The operator that ends the file's graph (Softmax, LogSoftmax, Sigmoid), "" if none of them does.
    """

    head: Head
    activation: str


def cut_head(model: ir.Model, asked: str = "auto", siblings: Sequence[str] = ()) -> FoundHead:
    """Make the class scores (logits), as [n, classes], the model's only output.

    A final Softmax, LogSoftmax or Sigmoid is cut off, since confidences are computed from the scores.

    Parameters
    ----------
    model : ir.Model
        Changed in place; shapes inferred.
    asked : str
        "auto", "softmax", "sigmoid" or "none".
    siblings : sequence of str
        The file's other outputs that end with a Softmax or Sigmoid: the class scores are probably there.

    Returns
    -------
    FoundHead

    Raises
    ------
    SourceError
        The output is no vector of class scores, looks like something else while nobody said what it is, or contradicts
        `asked`.
    """
    graph = model.graph
    output = graph.outputs[0]
    activation = final_activation(output)
    if activation is None and asked == "auto" and (what := _something_else(output, siblings)):
        vector = f"if it is an embedding, pass {option('task', 'embedding')}; " if "embedding" in what else ""
        raise SourceError(
            f"output '{output.name}' {what}, so its values are probably no class scores; {vector}if each of them shall be "
            f"explained as it is, pass {option('task', 'value')} (or {option('head')} softmax or sigmoid where they are class scores)"
        )
    scores = output if activation is None else activation.inputs[0]
    assert scores is not None
    classes = _classes_of(output, scores, activation, graph.inputs[0])
    batch = scores.shape[0] if scores.shape is not None and scores.shape.rank() else "n"
    if scores.shape is None or scores.shape.rank() != 2:
        op = Ops(graph, prefix="head")
        flat: ir.Value = op.Reshape(scores, op.constant([-1, classes]))
        scores = flat
    scores.shape = ir.Shape([batch, classes])
    scores.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [scores]
    found = ACTIVATIONS[activation.op_type] if activation is not None else None
    return FoundHead(decide_head(asked, found, classes), activation.op_type if activation is not None else "")


def _classes_of(output: ir.Value, scores: ir.Value, activation: ir.Node | None, image: ir.Value) -> int:
    if scores.shape is None:
        raise SourceError(
            f"the shape of output '{output.name}' cannot be inferred; export with a fixed {option('input_size')}"
        )
    if activation is not None and activation.op_type != "Sigmoid":
        axis, rank = attribute(activation, "axis", -1), len(scores.shape)
        if axis % max(rank, 1) != 1:
            raise SourceError(
                f"the final {activation.op_type} runs over axis {axis} of {scores.shape}, not over classes"
            )
    dims = list(scores.shape.dims[1:]) or [1]
    classes = dims[0]
    if not isinstance(classes, int) or any(d != 1 for d in dims[1:]):
        raise SourceError(
            f"output '{output.name}' has shape {scores.shape}, not [n, classes], so it holds no class scores; with "
            f"{option('task', 'value')} any of its numbers can be explained"
        )
    pictures = image.shape[0] if image.shape is not None else None
    if scores.shape.rank() and scores.shape[0] != pictures:
        raise SourceError(
            f"output '{output.name}' has shape {scores.shape}: its first axis is not the pictures (values per box?); one "
            f"row of class scores per picture, [n, classes], is needed. Name another output with {option('output')}"
        )
    return classes


def _something_else(output: ir.Value, siblings: Sequence[str]) -> str:
    """What the graph says that speaks against class scores, "" for nothing."""
    node = _last_node(output)
    if node is not None and _is_unit_vector(node):
        return "is scaled to length 1 (an embedding)"
    if node is not None and node.op_type == "Tanh":
        return "ends with Tanh"
    words = set(re.split(r"[^a-z]+", (output.name or "").lower()))
    if named := sorted(words & _OTHER_NAMES):
        return f"is called '{named[0]}'"
    if siblings:
        return f"has no Softmax or Sigmoid, but the output {', '.join(siblings[:3])} has one"
    return ""


def is_embedding(output: ir.Value) -> bool:
    """Whether an output is scaled to length 1."""
    node = _last_node(output)
    return node is not None and _is_unit_vector(node)


def _last_node(output: ir.Value) -> ir.Node | None:
    node = output.producer()
    while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _is_unit_vector(node: ir.Node) -> bool:
    """LpNormalization, or x divided by (times what came of) its own norm."""
    if node.op_type == "LpNormalization":
        return True
    if node.op_type not in ("Div", "Mul"):
        return False
    for value, other in (node.inputs, node.inputs[::-1]):
        source = other.producer() if other is not None else None
        for _ in range(6):  # Sqrt, Clip, Expand, Add of an epsilon, Reciprocal
            if source is None:
                break
            if source.op_type in _NORMS:
                return _stems_from(source.inputs[0], value)
            if source.op_type == "ReduceSum" and (square := _square_of(source.inputs[0])) is not None:
                return _stems_from(square, value)
            source = next((v.producer() for v in source.inputs if v is not None and v.producer()), None)
    return False


def _square_of(value: ir.Value | None) -> ir.Value | None:
    node = value.producer() if value is not None else None
    squares = node is not None and (
        node.op_type == "Pow" or (node.op_type == "Mul" and node.inputs[0] is node.inputs[1])
    )
    return node.inputs[0] if node is not None and squares else None


def _stems_from(inner: ir.Value | None, value: ir.Value | None) -> bool:
    """Whether a norm is of the very tensor, or of its absolute values."""
    node = inner.producer() if inner is not None else None
    return inner is value or (node is not None and node.op_type == "Abs" and node.inputs[0] is value)


def final_activation(output: ir.Value) -> ir.Node | None:
    """The Softmax, LogSoftmax or Sigmoid that an output ends with."""
    node = _last_node(output)
    return node if node is not None and node.op_type in ACTIVATIONS else None


def decide_head(asked: str, found: HeadKind | None, classes: int) -> Head:
    """The head of a network, from what was asked for and the activation that ends its file.

    Raises
    ------
    SourceError
        They contradict one another.
    """
    if asked == "none":
        return Head("none", classes)
    if asked != "auto":
        if found is not None and found != asked:
            raise SourceError(f"{option('head', asked)}: the graph ends with a {found} of its own")
        if asked == "softmax" and classes == 1:
            raise SourceError(
                f"{option('head', 'softmax')}: the network has one output, whose softmax is always 1; use sigmoid"
            )
        return Head(cast(HeadKind, asked), classes)
    if found is not None:
        if found == "softmax" and classes == 1:
            raise SourceError("the graph ends with a softmax over one class, which is always 1")
        return Head(found, classes)
    if classes == 1:
        return Head("sigmoid", classes, assumed=True)
    return Head("softmax", classes, assumed=True)
