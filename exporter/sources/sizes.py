"""The size of the picture: what the file fixes, what was asked for, or what a fully connected layer tells."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir
import onnx_ir.passes.common as passes

from sise_ort.bundle.format import LARGEST_PICTURE, LONGEST_SIDE
from sise_ort.errors import SourceError, option
from sise_ort.exporter.ops import attribute, constant_array
from sise_ort.exporter.sources.shapes import BATCH, ShapesDoNotFit, infer_shapes

LARGEST_TRIED = 2048
"""Side of the largest square that is tried."""
_KEEPING = frozenset("Cast Dropout Flatten Identity Relu Reshape Squeeze Transpose".split())
Size = tuple[int | None, int | None]


def choose_size(
    fixed: Size, asked: tuple[int, int] | None, default: tuple[int, int] | None, fitting: range | None = None
) -> tuple[int, int]:
    """Height and width of the network's input.

    Parameters
    ----------
    fixed : (int or None, int or None)
        What the file says.
    asked, default : (int, int), optional
        What the user says, and what holds where the file leaves the size open and nobody asks.
    fitting : range, optional
        Sides of the squares that a fully connected layer admits; one alone is taken.

    Raises
    ------
    SourceError
        Nobody says, these contradict each other, or it is too large.
    """
    only = (fitting[0],) * 2 if fitting is not None and len(fitting) == 1 else None
    wanted = asked or ((default or only) if None in fixed else None)
    size = []
    for axis, name in enumerate(("height", "width")):
        length = fixed[axis]
        if length is None:
            if wanted is None:
                squares = "" if fitting is None else (
                    f" (squares of {fitting[0]} to {fitting[-1]} pixels fit its fully connected layer)"
                )  # fmt: skip
                raise SourceError(
                    f"the file leaves the picture's size open{squares}: pass {option('input_size')} N, or height x width "
                    "such as 256x1600"
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


def fitting_squares(model: ir.Model, channels: int, opset: int) -> range | None:
    """Sides of the squares that fit the first fully connected layer behind flattened feature maps; None if there is none.

    Parameters
    ----------
    model : onnx_ir.Model
        With an input "x" [n, C, H, W] of open size; it is not changed.
    channels : int
    opset : int
        The version of its operators.
    """
    place = _first_fully_connected(model.graph)
    if place is None:
        return None
    maps, wanted = place
    cut = model.clone()
    values = {v.name: v for node in cut.graph for v in node.outputs}
    cut.graph.outputs[:] = [values[maps.name]]
    passes.RemoveUnusedNodesPass()(cut)

    def length(side: int) -> int:
        tried = cut.clone()
        tried.graph.inputs[0].shape = ir.Shape([BATCH, channels, side, side])
        try:
            infer_shapes(tried, opset)
        except ShapesDoNotFit:
            return 0
        shape = tried.graph.outputs[0].shape
        dims = (
            [d if isinstance(d, int) and d > 0 else 0 for d in shape.dims[1:]] if shape is not None else [0]
        )
        return math.prod(dims)

    least, most = _first(length, wanted), _first(length, wanted + 1)
    return range(least, most) if least < most <= LARGEST_TRIED else None


def _first(length: Callable[[int], int], wanted: int) -> int:
    """The smallest side whose features are at least as many as wanted, by bisection."""
    low, high = 1, LARGEST_TRIED + 1
    while low < high:
        middle = (low + high) // 2
        if length(middle) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


def _first_fully_connected(graph: ir.Graph) -> tuple[ir.Value, int] | None:
    """The feature maps that are flattened for the first fully connected layer, and how many features it takes."""
    for node in graph:
        weights = constant_array(node.inputs[1]) if node.op_type in ("Gemm", "MatMul") else None
        if weights is None or weights.ndim != 2:
            continue
        value, flattened = node.inputs[0], False
        while value is not None and (before := value.producer()) is not None and before.op_type in _KEEPING:
            flattened = flattened or before.op_type in ("Flatten", "Reshape")
            value = before.inputs[0]
        if value is None or value.producer() is None or not flattened:
            continue
        return value, int(weights.shape[1 if attribute(node, "transB", 0) else 0])
    return None
