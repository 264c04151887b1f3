"""Where channels, height and width lie in a tensor: [n, c, h, w] and [n, h, w, c] have the same rank.

The image's axes are known; operators keep, move or define them. Nothing is told from sizes alone, except behind
a Reshape, whose result is read by where the two spatial lengths of its input stand.
"""

from __future__ import annotations

import onnx_ir as ir

Axes = tuple[int, int, int]
"""The axes of channels, height and width."""

CHANNELS_FIRST: Axes = (1, 2, 3)
CHANNELS_LAST: Axes = (3, 1, 2)
# By definition [n, c, h, w] in and out.
_CHANNELS_FIRST_OPERATORS = frozenset(
    """AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalLpPool GlobalMaxPool
    GroupNormalization InstanceNormalization LRN LpPool MaxPool SpaceToDepth""".split()
)
_RESHAPING = frozenset("Flatten Reshape Squeeze Unsqueeze".split())


def feature_axes(graph: ir.Graph) -> dict[ir.Value, Axes]:
    """The axes of every tensor of rank 4 that holds feature maps of the image."""
    image = graph.inputs[0]
    axes: dict[ir.Value, Axes] = {image: CHANNELS_FIRST}
    sizes: dict[ir.Value, tuple[int, int]] = {}  # height and width, also of tensors that have lost the axes
    if (size := _size(image, CHANNELS_FIRST)) is not None:
        sizes[image] = size
    for node in graph:
        source = next((v for v in node.inputs if v in axes), None)
        origin = source or next((v for v in node.inputs if v in sizes), None)
        if origin is None:
            continue
        for value in node.outputs:
            if origin in sizes:
                sizes[value] = sizes[origin]
            found = _result_axes(node, value, axes.get(source) if source else None, sizes.get(origin))
            if found is not None:
                axes[value] = found
                if (size := _size(value, found)) is not None:
                    sizes[value] = size
    return axes


def _result_axes(
    node: ir.Node, value: ir.Value, before: Axes | None, size: tuple[int, int] | None
) -> Axes | None:
    if value.shape is None or len(value.shape) != 4:
        return None
    if node.op_type in _CHANNELS_FIRST_OPERATORS:
        return CHANNELS_FIRST
    if node.op_type in _RESHAPING or before is None:
        dims = list(value.shape.dims)
        if size is not None and tuple(dims[2:]) == size:
            return CHANNELS_FIRST
        if size is not None and tuple(dims[1:3]) == size:
            return CHANNELS_LAST
        return None
    if node.op_type == "Transpose":
        perm = list(node.attributes["perm"].value) if "perm" in node.attributes else [3, 2, 1, 0]
        moved = tuple(perm.index(axis) for axis in before)
        return moved if perm[0] == 0 else None  # type: ignore[return-value]
    return before


def _size(value: ir.Value, axes: Axes) -> tuple[int, int] | None:
    assert value.shape is not None
    height, width = value.shape[axes[1]], value.shape[axes[2]]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None
