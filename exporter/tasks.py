"""What a network's outputs are, and the network cut so that they have the form that its task asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import SourceError, option
from sise_ort.exporter.detectors import detector
from sise_ort.exporter.head import ACTIVATIONS, cut_head, decide_head, is_embedding
from sise_ort.exporter.layout import CHANNELS_FIRST, feature_axes
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.places import PlaceScores, mean_over_places, scores_at_places
from sise_ort.heads import Head
from sise_ort.tasks import Classes, Detector, Embedding, Segmentation, Task, Values

_PASSING = frozenset("Cast Dropout Identity Transpose".split())

Answer = Mapping[str, NDArray[np.floating]]
Restore = Callable[[Answer], NDArray[np.floating]]
"""From predict's outputs to the source's own output, so that like is compared with like."""


@dataclass(frozen=True)
class FoundTask:
    """The task of a network, and how its file's output follows from the outputs that were cut.

    Attributes
    ----------
    task : Task
        For the manifest.
    head : Head
        For the manifest.
    restore : callable or None
        See `Restore`; None where the file's outputs are compared before they are cut.
    said : tuple of str
        What was decided, and how to overrule it.
    scored : PlaceScores or None
        The file's scores at every place, where their mean is explained: what the source is compared at.
    """

    task: Task
    head: Head
    restore: Restore | None
    said: tuple[str, ...] = ()
    scored: PlaceScores | None = None

    @property
    def places(self) -> bool:
        """Whether the explained output has places of the picture (`blocks.find_blocks`)."""
        if isinstance(self.task, Values):
            return len(self.task.shape) > 2
        return self.task.name in ("segmentation", "detection")


def cut_task(
    model: ir.Model, asked: str = "auto", head: str = "auto", siblings: Sequence[str] = ()
) -> FoundTask:
    """Bring a network with one output to the form of its task: its scores become the only output.

    Parameters
    ----------
    model : ir.Model
        Changed in place; shapes inferred.
    asked : str
        "auto", "classes", "segmentation", "embedding" or "value".
    head : str
        "auto", "softmax", "sigmoid" or "none".
    siblings : sequence of str
        See `cut_head`.

    Returns
    -------
    FoundTask

    Raises
    ------
    SourceError
        The output does not fit the task.
    """
    said: tuple[str, ...] = ()
    if asked == "auto":
        asked, said = _decide(model.graph, head)
    if asked == "segmentation":
        return _segmentation(model, head, said)
    if asked == "embedding":
        return _embedding(model, said)
    if asked == "value":
        return _values(model, said)
    if scored := mean_over_places(model.graph):
        kind = decide_head(head, ACTIVATIONS.get(scored.activation), scored.classes)
        note = (scored.note,) if scored.note else ()
        return FoundTask(Classes(), kind, lambda answer: answer["scores"], (*said, *note), scored)
    found = cut_head(model, head, siblings)
    activation, classes = found.activation, found.head
    return FoundTask(Classes(), classes, lambda answer: _activated(answer["scores"], activation), said)


def cut_detector(model: ir.Model) -> FoundTask:
    """Bring a network with all its outputs to scores and boxes of its candidates.

    Parameters
    ----------
    model : ir.Model
        Changed in place, unless it is refused; shapes inferred.

    Raises
    ------
    SourceError
        No known layout of detection heads fits; says what was found.
    """
    found = detector(model)
    task = Detector(found.candidates, found.has_objectness, found.layout)
    others = f"if it is none, pass {option('task')} classes, segmentation, embedding or value"
    said = f"the outputs are laid out as a detector's (layout {found.layout.name}): {found.candidates} candidates; {others}"
    return FoundTask(task, Head(found.kind, found.classes), None, (said,))


def may_detect(model: onnx.ModelProto | ir.Model) -> bool:
    """Whether a model's outputs could be those of a detector: several, a table of three axes, or what a suppression chose."""
    if isinstance(model, onnx.ModelProto):
        ranks = [len(v.type.tensor_type.shape.dim) for v in model.graph.output]
    else:
        ranks = [len(v.shape) if v.shape is not None else 0 for v in model.graph.outputs]
    nodes = model.graph.node if isinstance(model, onnx.ModelProto) else model.graph
    suppressed = any(node.op_type == "NonMaxSuppression" for node in nodes)
    return len(ranks) > 1 or any(rank == 3 for rank in ranks) or suppressed


def _decide(graph: ir.Graph, head: str) -> tuple[str, tuple[str, ...]]:
    """The task that an output's form shows, and a sentence about it."""
    output = graph.outputs[0]
    others = f"if it is none, pass {option('task')} classes, segmentation, detection, embedding or value"
    if output.shape is not None and len(output.shape) == 4:
        sides = [output.shape[axis] for axis in feature_axes(graph).get(output, CHANNELS_FIRST)[1:]]
        if any(side != 1 for side in sides):
            words = (
                f"output '{output.name}' {output.shape} has places: it is taken for a segmentation; {others}"
            )
            return "segmentation", (words,)
    if head == "auto" and is_embedding(output):
        words = f"output '{output.name}' is scaled to length 1: it is taken for an embedding; {others}"
        return "embedding", (words,)
    return "classes", ()


def _segmentation(model: ir.Model, head: str, said: tuple[str, ...]) -> FoundTask:
    graph = model.graph
    output = graph.outputs[0]
    places = scores_at_places(graph)
    if places is None:
        raise SourceError(
            f"output '{output.name}' has shape {output.shape}; a segmentation gives [n, classes, height, width]"
        )
    _require_pictures(graph, output, places.value)
    graph.outputs[:] = [places.channels_first(Ops(graph, prefix="task"))]
    order = [int(i) for i in np.argsort([0, *places.axes])]

    def restore(answer: Answer) -> NDArray[np.floating]:
        values = _activated(answer["scores"], places.activation).transpose(order)
        for perm in places.perms:
            values = values.transpose(perm)
        return values

    head_found = decide_head(head, ACTIVATIONS.get(places.activation), places.classes)
    return FoundTask(Segmentation(places.height, places.width), head_found, restore, said)


def _embedding(model: ir.Model, said: tuple[str, ...]) -> FoundTask:
    graph = model.graph
    output = graph.outputs[0]
    lengths = _lengths(graph, output)
    size = int(np.prod(lengths))
    if size < 2 or max(lengths, default=1) != size:
        raise SourceError(
            f"output '{output.name}' has shape {output.shape}; an embedding is one vector per picture, [n, length]"
        )
    flat = _reshaped(graph, output, [size])
    graph.outputs[:] = [flat]
    return FoundTask(Embedding(), Head("none", size), lambda answer: answer["scores"], said)


def _values(model: ir.Model, said: tuple[str, ...]) -> FoundTask:
    graph = model.graph
    output = graph.outputs[0]
    lengths = _lengths(graph, output)
    task = Values(tuple(lengths), output.name or "")
    return FoundTask(task, Head("none", task.size), lambda answer: answer["scores"], said)


def _lengths(graph: ir.Graph, output: ir.Value) -> list[int]:
    """The lengths of an output behind the axis of the pictures."""
    _require_pictures(graph, output, output)
    assert output.shape is not None
    lengths = [d for d in output.shape.dims[1:] if isinstance(d, int)]
    if len(lengths) < len(output.shape) - 1:
        raise SourceError(
            f"the size of output '{output.name}' {output.shape} is only known while running; export with a fixed "
            f"{option('input_size')}, or name another output with {option('output')}"
        )
    return lengths


def _require_pictures(graph: ir.Graph, output: ir.Value, value: ir.Value) -> None:
    """Refuse an output whose first axis is not the pictures."""
    image = graph.inputs[0]
    pictures = image.shape[0] if image.shape is not None else None
    if value.shape is None or not len(value.shape) or value.shape[0] != pictures:
        raise SourceError(
            f"output '{output.name}' has shape {value.shape}: its first axis is not the pictures (values per box?). Name "
            f"another output, or a tensor in front of it, with {option('output')}"
        )


def _reshaped(graph: ir.Graph, value: ir.Value, lengths: Sequence[int]) -> ir.Value:
    assert value.shape is not None
    if len(value.shape) == 1 + len(lengths):
        return value
    op = Ops(graph, prefix="task")
    flat: ir.Value = op.Reshape(value, op.constant([-1, *lengths]))
    flat.shape = ir.Shape([value.shape[0], *lengths])
    flat.type = ir.TensorType(ir.DataType.FLOAT)
    return flat


def _activated(scores: NDArray[np.floating], activation: str) -> NDArray[np.float64]:
    """What the operator that ended the file makes of scores [n, classes, …]."""
    z = scores.astype(np.float64)
    if activation == "Sigmoid":
        return np.exp(-np.logaddexp(0, -z))
    if activation in ("Softmax", "LogSoftmax"):
        z = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return np.exp(z) if activation == "Softmax" else z
