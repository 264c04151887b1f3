"""Class scores at every place, as segmentations and fully convolutional classifiers give them, and their mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.errors import SourceError, option
from sise_ort.exporter.layout import CHANNELS_FIRST, CHANNELS_LAST, Axes, feature_axes
from sise_ort.exporter.ops import Ops, attribute, input_of

_ACTIVATIONS = frozenset("LogSoftmax Sigmoid Softmax".split())
_PASSING = frozenset("Cast Dropout Identity Transpose".split())


@dataclass(frozen=True)
class PlaceScores:
    """Class scores at every place, as the file computes them.

    Attributes
    ----------
    value : ir.Value
        The file's tensor of scores, before the final activation.
    axes : (int, int, int)
        Its axes of classes, height and width.
    classes, height, width : int
        Their lengths.
    activation : str
        The operator that ends the file's graph (Softmax, LogSoftmax, Sigmoid), "" if none of them does.
    perms : tuple of tuple of int
        The Transposes behind the activation, in their order.
    """

    value: ir.Value
    axes: Axes
    classes: int
    height: int
    width: int
    activation: str
    perms: tuple[tuple[int, ...], ...] = ()

    @property
    def tensor(self) -> str:
        """Name of the file's tensor of scores."""
        return self.value.name or ""

    @property
    def shape(self) -> ir.Shape:
        """[n, classes, height, width]."""
        assert self.value.shape is not None
        return ir.Shape([self.value.shape[0], self.classes, self.height, self.width])

    def channels_first(self, op: Ops) -> ir.Value:
        """The scores as [n, classes, height, width], appended to the graph of `op` where they are not."""
        first: ir.Value = (
            self.value if self.axes == CHANNELS_FIRST else op.Transpose(self.value, perm=[0, *self.axes])
        )
        first.shape, first.type = self.shape, ir.TensorType(ir.DataType.FLOAT)
        return first

    @property
    def note(self) -> str:
        """What a user should know about the mean; "" where there is one place only."""
        if self.height * self.width == 1:
            return ""
        return (
            f"the network scores its classes at {self.height} x {self.width} places: the mean of the scores over all places is "
            f"explained; {option('task', 'segmentation')} explains regions of them instead"
        )

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """The means over the places, from the file's tensor.

        Parameters
        ----------
        values : numpy.ndarray, float, rank 4

        Returns
        -------
        numpy.ndarray, float [n, classes]
        """
        found: NDArray[np.floating] = values.mean(axis=self.axes[1:], dtype=np.float64)
        return found


def mean_over_places(graph: ir.Graph) -> PlaceScores | None:
    """Make the mean of the class scores over all places, as [n, classes], the only output.

    Parameters
    ----------
    graph : ir.Graph
        With one output and known shapes; changed in place where that output has scores at places.

    Returns
    -------
    PlaceScores or None
        None where the output is none of [n, classes, height, width] or [n, height, width, classes], or has one row of scores
        already, [n, classes, 1, 1].

    Raises
    ------
    SourceError
        The final softmax runs over places, or the size of the output is only known while running.

    Notes
    -----
    The scores are averaged before the activation, Ψ = act(mean z), as fully convolutional classifiers are evaluated
    (Simonyan and Zisserman, arXiv 1409.1556, section 3.2).
    """
    output = graph.outputs[0]
    if output.shape is not None and list(output.shape.dims[2:]) == [1, 1]:
        return None
    found = scores_at_places(graph)
    if found is None:
        return None
    op = Ops(graph, prefix="places")
    mean: ir.Value = op.GlobalAveragePool(found.channels_first(op))
    flat: ir.Value = op.Flatten(mean, axis=1)
    batch = found.shape[0]
    for made, shape in ((mean, [batch, found.classes, 1, 1]), (flat, [batch, found.classes])):
        made.shape, made.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [flat]
    return found


def scores_at_places(graph: ir.Graph) -> PlaceScores | None:
    """Find the class scores at every place that the only output of a graph comes from.

    Parameters
    ----------
    graph : ir.Graph
        With one output and known shapes.

    Returns
    -------
    PlaceScores or None
        None where the output is none of [n, classes, height, width] or [n, height, width, classes].

    Raises
    ------
    SourceError
        The final softmax runs over places, or the size of the output is only known while running.
    """
    value = output = graph.outputs[0]
    perms: list[tuple[int, ...]] = []
    while (node := value.producer()) is not None and node.op_type in _PASSING:
        if node.op_type == "Transpose":
            perms.insert(0, tuple(attribute(node, "perm")))
        value = input_of(node)
    activation = node.op_type if node is not None and node.op_type in _ACTIVATIONS else ""
    scores = input_of(node) if node is not None and activation else output
    if scores.shape is None or len(scores.shape) != 4:
        return None
    axes = _axes_of(graph, scores)
    if node is not None and activation in ("Softmax", "LogSoftmax"):
        axis = int(attribute(node, "axis", -1)) % 4
        if axis != axes[0]:
            raise SourceError(
                f"the final {activation} runs over axis {axis} of {scores.shape}, not over classes"
            )
    classes, height, width = (scores.shape[axis] for axis in axes)
    if not (isinstance(classes, int) and isinstance(height, int) and isinstance(width, int)):
        raise SourceError(
            f"the size of output '{output.name}' {scores.shape} is only known while running; export with a fixed "
            f"{option('input_size')}"
        )
    return PlaceScores(scores, axes, classes, height, width, activation, tuple(perms) if activation else ())


def _axes_of(graph: ir.Graph, scores: ir.Value) -> Axes:
    """The axes of classes, height and width; of a single place the axis that is longer than 1 is the classes'."""
    found = feature_axes(graph).get(scores)
    if found is not None:
        return found
    assert scores.shape is not None
    return CHANNELS_LAST if scores.shape[1] == scores.shape[2] == 1 != scores.shape[3] else CHANNELS_FIRST
