"""How each operator carries the labels of axes on: see `axes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.exporter.axes import (
    ANYTHING,
    BATCH,
    CHANNELS,
    HEIGHT,
    PLACES,
    WIDTH,
    Known,
    Label,
    Labels,
    cut_out,
    handed_out,
    join,
    kinds_of,
    labels_of,
    length_of,
    lengths_of,
    pieces_of,
    resized,
    side_by_side,
    unknown_axis,
    whole_axis,
)
from sise_ort.exporter.ops import attribute, constant_array
from sise_ort.exporter.products import letters_of, product_of

_KEPT = 0.75
"""An axis of places that loses or wins less than a quarter at its ends (Slice, Pad) still spans the picture."""
_WITHOUT_VALUES = frozenset("ArgMax ArgMin ConstantOfShape EyeLike NonZero Shape Size".split())
# They may put any place's value anywhere.
_SCATTERING = frozenset(
    """Attention Col2Im Compress DFT GRU GatherElements GatherND GridSample GroupQueryAttention LSTM Loop MaxRoiPool
    MaxUnpool MultiHeadAttention RNN ReverseSequence RoiAlign Scan ScatterElements ScatterND TopK Unique""".split()
)
_WINDOWS = frozenset("AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool".split())


def label_axes(graph: ir.Graph) -> dict[ir.Value, Labels | None]:
    """Label the axes of every tensor that depends on the image.

    Parameters
    ----------
    graph : ir.Graph
        In topological order, with shapes; its first input is the image [n, c, h, w].

    Returns
    -------
    dict
        Value to labels, one per axis; None where not even the rank is known. Tensors that are missing do not depend
        on the image's values.
    """
    image = graph.inputs[0]
    lengths = lengths_of(image)
    start = None
    if lengths is not None and len(lengths) == 4:
        start = tuple(
            whole_axis([kind], n) for kind, n in zip((BATCH, CHANNELS, HEIGHT, WIDTH), lengths, strict=True)
        )
    labels: dict[ir.Value, Labels | None] = {image: start}
    for node in graph:
        if node.op_type in _WITHOUT_VALUES or not any(v in labels for v in node.inputs):
            continue
        for value in node.outputs:
            labels[value] = _result(node, value, labels)
    return labels


def _result(node: ir.Node, value: ir.Value, labels: Known) -> Labels | None:
    lengths = lengths_of(value)
    if lengths is None:
        return None
    rule = _RULES.get(node.op_type)
    if node.op_type.startswith("Reduce"):
        rule = _reduce
    if node.op_type in _SCATTERING:
        return _unknown(node, lengths, labels)
    found = (rule or _broadcast)(node, lengths, labels)
    if node.op_type in ("Slice", "Split"):
        found = _pieces(node, value, lengths, labels, found)
    if found is None or [length_of(label) for label in found] != lengths:
        return _unknown(node, lengths, labels)
    return found


def _unknown(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels:
    kinds: set[str] = set()
    for value in node.inputs:
        if value in labels:
            found = labels[value]
            kinds |= ANYTHING if found is None else {k for label in found for k in kinds_of(label)}
    return tuple(unknown_axis(kinds, n) for n in lengths)


def _broadcast(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    """Operators that work on each element: the default."""
    inputs = [labels[v] for v in node.inputs if v in labels]
    if any(found is None or len(found) > len(lengths) for found in inputs):
        return None
    padded = [((),) * (len(lengths) - len(found)) + found for found in inputs if found is not None]
    for found in padded:
        if any(length_of(label) not in (1, n) for label, n in zip(found, lengths, strict=True)):
            return None
    return tuple(join([found[axis] for found in padded], n) for axis, n in enumerate(lengths))


def _first(node: ir.Node, labels: Known) -> Labels | None:
    return labels_of(node.inputs[0], labels)


def _windows(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    """Pooling: channels as they are, places at another size."""
    source = _first(node, labels)
    if source is None or len(source) != len(lengths):
        return None
    places = [
        unknown_axis(kinds_of(label), length_of(label)) if pieces_of(label) else label for label in source[2:]
    ]
    return (*source[:2], *_strided(places, lengths[2:]))


def _strided(source: Sequence[Label], lengths: Sequence[int]) -> list[Label]:
    """Axes that a window slides over."""
    return [
        label if length_of(label) == n and len(label) < 2 else resized(label, n)
        for label, n in zip(source, lengths, strict=True)
    ]


def _convolve(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    source = _first(node, labels)
    if source is None or len(source) != len(lengths):
        return None
    weights = node.inputs[3 if node.op_type == "QLinearConv" else 1]
    sides = lengths_of(weights) if weights is not None else None
    places = list(source[2:])
    for axis, label in enumerate(places):
        if pieces_of(label) and (sides is None or sides[axis + 2] != 1):  # windows over the seam
            places[axis] = unknown_axis(kinds_of(label), length_of(label))
    return (source[0], _learned(source[1], lengths[1]), *_strided(places, lengths[2:]))


def _learned(summed: Label, length: int) -> Label:
    """What a learned layer makes of the axis that it sums over."""
    kinds = kinds_of(summed)
    if kinds and CHANNELS not in kinds and kinds & PLACES:
        return unknown_axis(kinds, length)
    return whole_axis([CHANNELS], length)


def _rearrange(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    """DepthToSpace and SpaceToDepth, as the Reshape, Transpose and Reshape that define them."""
    source, size = _first(node, labels), int(attribute(node, "blocksize", 1))
    if source is None or len(source) != 4:
        return None
    n, c, h, w = (length_of(label) for label in source)
    if node.op_type == "SpaceToDepth":
        split, order = [n, c, h // size, size, w // size, size], [0, 3, 5, 1, 2, 4]
    elif attribute(node, "mode", b"DCR") in (b"CRD", "CRD"):
        split, order = [n, c // size**2, size, size, h, w], [0, 1, 4, 2, 5, 3]
    else:
        split, order = [n, size, size, c // size**2, h, w], [0, 3, 4, 1, 5, 2]
    parts = handed_out(source, split)
    return None if parts is None else handed_out([parts[i] for i in order], lengths)


def _transpose(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    source = _first(node, labels)
    order = attribute(node, "perm", list(range(len(lengths)))[::-1])
    return None if source is None else tuple(source[axis] for axis in order)


def _reshape(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    source = _first(node, labels)
    if source is None:
        return None
    return source if [length_of(label) for label in source] == list(lengths) else handed_out(source, lengths)


def _cut(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    """Slice, Split and Pad: an axis that keeps most of its length still spans the picture."""
    source = _first(node, labels)
    if source is None or len(source) != len(lengths):
        return None
    steps: dict[int, int] = {}
    if node.op_type == "Slice" and len(node.inputs) > 4:
        axes, given = constant_array(node.inputs[3]), constant_array(node.inputs[4])
        if axes is None or given is None:
            return None
        steps = {int(a) % len(source): int(s) for a, s in zip(axes.ravel(), given.ravel(), strict=True)}
    found = []
    for axis, (label, length) in enumerate(zip(source, lengths, strict=True)):
        step, before = steps.get(axis, 1), length_of(label)
        kept = length * abs(step) / before if before else 0.0
        found.append(resized(label, length, moved=step < 0 or not _KEPT <= kept <= 1 / _KEPT))
    return tuple(found)


def _pieces(
    node: ir.Node, value: ir.Value, lengths: Sequence[int], labels: Known, found: Labels | None
) -> Labels | None:
    """What Slice and Split cut out of tensors that a Concat has put side by side, as it was before."""
    source = _first(node, labels)
    if source is None or found is None or len(source) != len(lengths):
        return found
    starts = _starts(node, value, len(source))
    pieces = list(found)
    for axis, start in starts.items():
        start = start + length_of(source[axis]) if start < 0 else start
        pieces[axis] = cut_out(source[axis], start, lengths[axis]) or found[axis]
    return tuple(pieces)


def _starts(node: ir.Node, value: ir.Value, rank: int) -> dict[int, int]:
    """Where an output of Split or Slice begins, by axis; empty where that is not known or places are left out."""
    if node.op_type == "Split":
        axis = int(attribute(node, "axis", 0)) % rank
        before = [lengths_of(other) for other in node.outputs[: list(node.outputs).index(value)]]
        return {} if None in before else {axis: sum(found[axis] for found in before if found is not None)}
    given = [constant_array(v) if v is not None else None for v in node.inputs[1:]]
    starts, axes = given[0], given[2] if len(given) > 2 else None
    steps = given[3] if len(given) > 3 else np.ones(1)
    if starts is None or steps is None or np.any(steps != 1):
        return {}
    order = range(starts.size) if axes is None else [int(a) % rank for a in axes.ravel()]
    return dict(zip(order, map(int, starts.ravel()), strict=True))


def _resize(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    source = _first(node, labels)
    if source is None or len(source) != len(lengths):
        return None
    tiled = node.op_type == "Tile"
    return tuple(
        resized(label, n, moved=tiled and length_of(label) not in (1, n))
        for label, n in zip(source, lengths, strict=True)
    )


def _concat(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    axis = int(attribute(node, "axis", 0)) % max(len(lengths), 1)
    moving = [labels[v] for v in node.inputs if v in labels]
    if any(found is None or len(found) != len(lengths) for found in moving):
        return None
    known = [found for found in moving if found is not None]
    found = [join([one[i] for one in known], n) for i, n in enumerate(lengths)]
    if len(known) == 1:
        kept = length_of(known[0][axis]) / max(lengths[axis], 1)
        found[axis] = resized(known[0][axis], lengths[axis], moved=kept < _KEPT)
    else:
        kinds = {kind for one in known for kind in kinds_of(one[axis])}
        if kinds <= {CHANNELS} or kinds == {BATCH}:
            found[axis] = whole_axis(kinds, lengths[axis])
        else:
            parts = [labels_of(v, labels) for v in node.inputs]
            found[axis] = side_by_side([part[axis] for part in parts if part is not None])
    return tuple(found)


def _gather(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    source, index = _first(node, labels), constant_array(node.inputs[1])
    if source is None or index is None or node.inputs[0] not in labels:
        return None
    axis = int(attribute(node, "axis", 0)) % len(source)
    if index.ndim == 0:
        return (*source[:axis], *source[axis + 1 :])
    before = length_of(source[axis])
    if index.ndim != 1:
        split = _unfolded(source[axis], index)
        return None if split is None else (*source[:axis], *split, *source[axis + 1 :])
    steps = np.unique(np.diff(np.where(index < 0, index + before, index)))
    even = len(steps) == 0 or (len(steps) == 1 and steps[0] > 0)
    moved = not even or len(index) * (int(steps[0]) if len(steps) else 1) < _KEPT * before
    return (*source[:axis], resized(source[axis], len(index), moved=moved), *source[axis + 1 :])


def _unfolded(label: Label, index: NDArray[np.int64]) -> Sequence[Label] | None:
    """An axis that is read as several: patches and the places in them (torch's unfold)."""
    steps = [int(np.diff(index, axis=axis).flat[0]) if n > 1 else 0 for axis, n in enumerate(index.shape)]
    order = sorted(range(index.ndim), key=lambda axis: -steps[axis])
    sides = [index.shape[axis] for axis in order]
    if not np.array_equal(index.transpose(order).ravel(), np.arange(length_of(label))):
        return None
    found = handed_out([label], sides)
    return None if found is None else [found[order.index(axis)] for axis in range(index.ndim)]


def _reduce(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    source = _first(node, labels)
    if source is None:
        return None
    axes = attribute(node, "axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant_array(node.inputs[1])
        if array is None:
            return None
        axes = array.ravel().tolist()
    if axes is None or len(axes) == 0:
        axes = [] if attribute(node, "noop_with_empty_axes", 0) else range(len(source))
    gone = {int(a) % len(source) for a in axes}
    if attribute(node, "keepdims", 1):
        return tuple(resized(label, 1) if i in gone else label for i, label in enumerate(source))
    return tuple(label for i, label in enumerate(source) if i not in gone)


def _multiply(node: ir.Node, lengths: Sequence[int], labels: Known) -> Labels | None:
    """MatMul, Gemm and Einsum of two tensors."""
    letters, product = letters_of(node), product_of(node, labels)
    if letters is None or product is None or len(letters[-1]) != len(lengths):
        return None
    sides = [
        dict(zip(names, labels_of(value, labels) or (), strict=True))
        for value, names in zip(node.inputs[:2], letters[:2], strict=True)
    ]
    found = []
    for name, length in zip(letters[-1], lengths, strict=True):
        label = join([side[name] for side in sides if name in side], length)
        if product.learned and not kinds_of(label) and length > 1:
            label = _learned(product.summed, length)
        found.append(label)
    return tuple(found)


_RULES: dict[str, Callable[[ir.Node, Sequence[int], Known], Labels | None]] = {
    **dict.fromkeys(_WINDOWS, _windows),
    **dict.fromkeys(["Conv", "ConvInteger", "ConvTranspose", "QLinearConv"], _convolve),
    **dict.fromkeys(["DepthToSpace", "SpaceToDepth"], _rearrange),
    **dict.fromkeys(["Flatten", "Reshape", "Squeeze", "Unsqueeze"], _reshape),
    **dict.fromkeys(["Pad", "Slice", "Split"], _cut),
    **dict.fromkeys(["Resize", "Tile", "Upsample"], _resize),
    **dict.fromkeys(["Einsum", "Gemm", "MatMul"], _multiply),
    "Concat": _concat,
    "Gather": _gather,
    "Transpose": _transpose,
}
