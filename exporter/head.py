"""What stands at the network's end: how class scores become confidences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import onnx_ir as ir

from sise_ort.errors import SourceError
from sise_ort.exporter.ops import Ops, attribute
from sise_ort.heads import Head, HeadKind

_PASSING = frozenset("Cast Dropout Flatten Identity Reshape Squeeze Unsqueeze".split())
_ACTIVATIONS: dict[str, HeadKind] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class FoundHead:
    """head : for the manifest; activation : the operator that ends the file's graph, "" if none does."""

    head: Head
    activation: str


def cut_head(model: ir.Model, asked: str = "auto") -> FoundHead:
    """Make the class scores (logits), as [n, classes], the model's only output.

    A final Softmax, LogSoftmax or Sigmoid is cut off, since confidences are computed from the scores.

    Parameters
    ----------
    model : changed in place; shapes inferred.
    asked : "auto", "softmax", "sigmoid" or "none".

    Raises
    ------
    SourceError : the output is no vector of class scores, or contradicts `asked`.
    """
    graph = model.graph
    output = graph.outputs[0]
    activation = _final_activation(output)
    scores = output if activation is None else activation.inputs[0]
    assert scores is not None
    if scores.shape is None:
        raise SourceError(
            f"the shape of output '{output.name}' cannot be inferred; export with a fixed --input-size"
        )
    dims = list(scores.shape.dims[1:])
    if len(dims) == 0:
        dims = [1]
    classes = dims[0]
    if not isinstance(classes, int) or any(d != 1 for d in dims[1:]):
        raise SourceError(
            f"output '{output.name}' has shape {scores.shape}, not [n, classes]: only image classifiers can be explained"
        )
    batch = scores.shape[0] if scores.shape.rank() else "n"
    if scores.shape.rank() != 2:
        op = Ops(graph, prefix="head")
        flat: ir.Value = op.Reshape(scores, op.constant([-1, classes]))
        scores = flat
    scores.shape = ir.Shape([batch, classes])
    scores.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [scores]
    found = _ACTIVATIONS[activation.op_type] if activation is not None else None
    return FoundHead(_decide(asked, found, classes), activation.op_type if activation is not None else "")


def _final_activation(output: ir.Value) -> ir.Node | None:
    node = output.producer()
    while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in _ACTIVATIONS:
        return None
    if node.op_type != "Sigmoid" and node.inputs[0] is not None and node.inputs[0].shape is not None:
        axis, rank = attribute(node, "axis", -1), len(node.inputs[0].shape)
        if axis % rank != 1:
            raise SourceError(
                f"the final {node.op_type} runs over axis {axis} of {node.inputs[0].shape}, not over classes"
            )
    return node


def _decide(asked: str, found: HeadKind | None, classes: int) -> Head:
    if asked == "none":
        return Head("none", classes)
    if asked != "auto":
        if found is not None and found != asked:
            raise SourceError(f"--head {asked}: the graph ends with a {found} of its own")
        if asked == "softmax" and classes == 1:
            raise SourceError(
                "--head softmax: the network has one output, whose softmax is always 1; use sigmoid"
            )
        return Head(cast(HeadKind, asked), classes)
    if found is not None:
        if found == "softmax" and classes == 1:
            raise SourceError("the graph ends with a softmax over one class, which is always 1")
        return Head(found, classes)
    if classes == 1:
        return Head("sigmoid", classes)
    return Head("softmax", classes, assumed=True)
