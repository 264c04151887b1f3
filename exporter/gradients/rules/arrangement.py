"""Gradients of operators that reshape, move, cut, join and repeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.exporter.gradients.engine import Gradient, along_axis, batched_shape, register
from sise_ort.exporter.ops import (
    FIXED_SIZE,
    Ops,
    attribute,
    axis_after_batch,
    constant_input,
    input_of,
    static_shape,
)


@register("Reshape")
@register("Flatten")
@register("Squeeze")
@register("Unsqueeze")
def reshape(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g in the shape of x."""
    return op.Reshape(g, batched_shape(op, input_of(node)))


@register("Transpose")
def transpose(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g with the axes put back; the batch stays in front."""
    perm = attribute(node, "perm", None) or list(range(len(static_shape(input_of(node)))))[::-1]
    if perm[0] != 0:
        raise ValueError(f"perm {list(perm)} moves the batch")
    return op.Transpose(g, perm=[int(i) for i in np.argsort(perm)])


@register("Expand", broadcasts=True)
def expand(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """The sum of g over the repetitions."""
    return g


@register("Tile")
def tile(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """The sum of g over the repetitions; constant repeats, 1 for the batch."""
    x = input_of(node)
    repeats = constant_input(node, 1, "its repeats are")
    dims = static_shape(x)
    if repeats is None or repeats[0] != 1 or None in dims[1:]:
        raise ValueError(f"it repeats the batch, or an axis of unknown length; {FIXED_SIZE}")
    opened, summed = [-1], []
    for repeat, length in zip(repeats[1:], dims[1:], strict=True):
        if repeat != 1:
            summed.append(len(opened))
            opened.append(int(repeat))
        opened.append(int(length or 0))
    return op.ReduceSum(op.Reshape(g, op.constant(opened)), summed, keepdims=0) if summed else g


@register("Concat")
def concat(op: Ops, node: ir.Node, g: ir.Value) -> list[Gradient]:
    """The parts of g."""
    axis = axis_after_batch(node)
    lengths = [static_shape(input_of(node, i))[axis] for i in range(len(node.inputs))]
    if any(n is None for n in lengths):
        raise ValueError(f"the lengths of the parts along axis {axis} are unknown; {FIXED_SIZE}")
    if len(lengths) == 1:
        return [g]
    parts = op.Split(
        g, op.constant([int(n) for n in lengths if n is not None]), axis=axis, outputs=len(lengths)
    )
    return list(parts)


@register("Split")
def split(op: Ops, node: ir.Node, *gradients: Gradient) -> Gradient:
    """The gradients of the parts, joined; zeros for parts that lead nowhere."""
    axis = axis_after_batch(node, 0)
    any_gradient = next(g for g in gradients if g is not None)
    parts = [
        g if g is not None else _zeros(op, y, any_gradient)
        for g, y in zip(gradients, node.outputs, strict=True)
    ]
    return op.Concat(*parts, axis=axis) if len(parts) > 1 else parts[0]


def _zeros(op: Ops, value: ir.Value, like: ir.Value) -> ir.Value:
    """Zeros of the shape of `value` with the batch of `like`."""
    dims = static_shape(value)[1:]
    if None in dims:
        return op.Expand(0.0, op.Concat(op.Shape(like, end=1), op.Shape(value, start=1), axis=0))
    return op.Expand(0.0, op.Concat(op.Shape(like, end=1), op.constant([int(d or 0) for d in dims]), axis=0))


@register("Gather")
def gather(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """Each slice of g added at its index; constant indices along an axis after the batch."""
    x = input_of(node)
    indices = constant_input(node, 1, "its indices are")
    axis = axis_after_batch(node, 0)
    length = static_shape(x)[axis]
    if indices is None or length is None:
        raise ValueError(f"the length of axis {axis} is unknown; {FIXED_SIZE}")
    if indices.ndim != 1:
        dims = static_shape(x)
        if any(d is None for i, d in enumerate(dims[1:], 1) if i != axis):
            raise ValueError(f"its input has a dynamic size; {FIXED_SIZE}")
        flat = [-1, *[int(d or 0) for d in dims[1:]]]
        flat[axis] = indices.size
        g = op.Reshape(g, op.constant(flat))
    return _put_back(op, g, indices.reshape(-1) % length, axis, length, len(static_shape(x)))


def _put_back(op: Ops, g: ir.Value, places: NDArray[np.int64], axis: int, length: int, rank: int) -> ir.Value:
    """Slice i of g along `axis` added at places[i] of `length` zeros."""
    m = len(places)
    if m and (np.diff(places) == 1).all():
        first = int(places[0])
        if (first, m) == (0, length):
            return g
        pads = op.constant([first, length - first - m])
        return op.Pad(g, pads, None, op.constant([axis]))
    if len(np.unique(places)) == m:  # gather each place's slice, or the zeros put behind the last
        source = np.full(length, m)
        source[places] = np.arange(m)
        return op.Gather(
            op.Pad(g, op.constant([0, 1]), None, op.constant([axis])), op.constant(source), axis=axis
        )
    one_hot = np.zeros((m, length))
    one_hot[np.arange(m), places] = 1
    return along_axis(op, g, one_hot, axis, rank)


@register("Slice")
def slice_(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g among zeros; constant bounds, any step, not along the batch."""
    x = input_of(node)
    dims = static_shape(x)
    starts, ends, axes, steps = (
        constant_input(node, i, f"its {what} are")
        for i, what in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    if starts is None or ends is None:
        raise ValueError("its bounds are missing")
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    for axis, start, end, step in zip(axes % len(dims), starts, ends, steps, strict=True):
        length = dims[axis]
        begin, stop = int(start), int(end)
        if (begin, step) == (0, 1) and stop >= np.iinfo(np.int32).max:
            continue  # x[:] of any axis, as torch writes it for the batch
        if length is None or axis == 0:
            raise ValueError(f"it cuts the batch or an axis of unknown length; {FIXED_SIZE}")
        if step < 0 and stop < -length:
            kept = range(length)[begin :: int(step)]
        else:
            kept = range(length)[begin : stop : int(step)]
        g = _put_back(op, g, np.array(kept, np.int64), int(axis), length, len(dims))
    return g


@register("Pad")
def pad(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g without the border; in the modes reflect, edge and wrap the border is added to the cells it repeats."""
    mode = attribute(node, "mode", "constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    pads, axes = constant_input(node, 1, "its pads are"), constant_input(node, 3, "its axes are")
    if pads is None:
        raise ValueError("its pads are missing")
    dims = static_shape(input_of(node))
    half = len(pads) // 2
    places = np.arange(half) if axes is None else axes % len(dims)
    borders = [
        (int(a), int(b), int(e)) for a, b, e in zip(places, pads[:half], pads[half:], strict=True) if b or e
    ]
    if any(axis == 0 for axis, _, _ in borders):
        raise ValueError("it pads the batch")
    if mode == "constant":
        return _cut(op, g, borders)
    for axis, before, after in borders:
        length = dims[axis]
        if length is None:
            raise ValueError(f"mode {mode} needs a fixed size; {FIXED_SIZE}")
        if min(before, after) < 0:
            raise ValueError(f"mode {mode} with negative pads is not covered")
        source = np.pad(np.arange(length), (before, after), mode=mode)  # type: ignore[arg-type]
        one_hot = np.zeros((len(source), length))
        one_hot[np.arange(len(source)), source] = 1
        g = along_axis(op, g, one_hot, axis, len(dims))
    return g


def _cut(op: Ops, g: ir.Value, borders: Sequence[tuple[int, int, int]]) -> ir.Value:
    """Take `before` and `after` cells off each axis; negative ones put zeros there."""
    wide = [(a, max(b, 0), max(e, 0)) for a, b, e in borders if b > 0 or e > 0]
    if wide:
        ends = [-e if e else np.iinfo(np.int64).max for _, _, e in wide]
        g = op.Slice(
            g, op.constant([b for _, b, _ in wide]), op.constant(ends), op.constant([a for a, _, _ in wide])
        )
    narrow = [(a, max(-b, 0), max(-e, 0)) for a, b, e in borders if b < 0 or e < 0]
    if narrow:
        edges = [b for _, b, _ in narrow] + [e for _, _, e in narrow]
        g = op.Pad(g, op.constant(edges), None, op.constant([a for a, _, _ in narrow]))
    return g
