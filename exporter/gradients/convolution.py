"""The input gradient of sliding linear windows: convolutions and average pooling."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.exporter.gradients.engine import batched_shape
from sise_ort.exporter.gradients.windows import Window
from sise_ort.exporter.ops import Ops, static_shape


def convolution_input_gradient(
    op: Ops, gradient: ir.Value, x: ir.Value, weights: ir.Value, window: Window, group: int
) -> ir.Value:
    """Gradient of the input x of Conv(x, weights), of x's spatial size.

    Notes
    -----
    With stride 1 it is itself a convolution, with the kernel turned by 180° and its channels swapped; the weights are
    rearranged once, when a session folds constants. Otherwise it is a ConvTranspose. Its pads stay symmetric, since the CUDA
    provider refuses others; a Slice does the rest.
    """
    if all(s == 1 for s in window.strides):
        turned = _turned(op, weights, group)
        outer = [s - 1 for s in window.span]
        begin = [o - b for o, b in zip(outer, window.begin, strict=True)]
        end = [o - e for o, e in zip(outer, window.end, strict=True)]
        if min(begin + end) >= 0:
            return op.Conv(
                gradient, turned, pads=[*begin, *end], dilations=list(window.dilations), group=group
            )
    return _transposed(op, gradient, x, weights, window, group)


def spread(op: Ops, gradient: ir.Value, x: ir.Value, window: Window) -> ir.Value:
    """Gradient of the input x of a sum pool: each cell of `gradient` is added to all cells of x that its window covers."""
    plane = op.Reshape(gradient, op.Concat(op.constant([-1, 1]), op.Shape(gradient, start=2), axis=0))
    wide = _transposed(op, plane, x, op.constant(np.ones((1, 1, *window.kernel))), window, 1)
    return op.Reshape(wide, batched_shape(op, x))


def _turned(op: Ops, weights: ir.Value, group: int) -> ir.Value:
    """[M, C/g, *k] -> [C, M/g, *k], each kernel turned by 180°."""
    dims = static_shape(weights)
    outputs, inputs, kernel = dims[0], dims[1], [int(k or 0) for k in dims[2:]]
    axes = list(range(2, len(dims)))
    if outputs is None or inputs is None:
        raise ValueError(f"the shape of the weights '{weights.name}' is unknown")
    if group == 1:
        swapped = op.Transpose(weights, perm=[1, 0, *axes])
    elif group == outputs and inputs == 1:
        swapped = weights
    else:
        split = op.Reshape(weights, op.constant([group, outputs // group, inputs, *kernel]))
        split = op.Transpose(split, perm=[0, 2, 1, *[a + 1 for a in axes]])
        swapped = op.Reshape(split, op.constant([group * inputs, outputs // group, *kernel]))
    turn = [a for a, k in zip(axes, kernel, strict=True) if k > 1]
    if not turn:
        return swapped
    n = len(turn)
    return op.Slice(
        swapped,
        op.constant([-1] * n),
        op.constant([np.iinfo(np.int64).min] * n),
        op.constant(turn),
        op.constant([-1] * n),
    )


def _transposed(
    op: Ops, gradient: ir.Value, x: ir.Value, weights: ir.Value, window: Window, group: int
) -> ir.Value:
    """ConvTranspose with symmetric pads, brought to x's spatial size by output_padding, Slice and Pad."""
    axes = range(len(window.kernel))
    size = static_shape(x)[2:]
    pads = [min(window.begin[i], window.end[i]) for i in axes]
    # Rows of the padded input behind the last window: their gradient is zero. A dynamic size may have up
    # to stride - 1 of them; what is too much is cut off below.
    rest = [r if r is not None else s - 1 for r, s in zip(window.remainder, window.strides, strict=True)]
    result = op.ConvTranspose(
        gradient,
        weights,
        strides=list(window.strides),
        dilations=list(window.dilations),
        pads=[*pads, *pads],
        output_padding=rest,
        group=group,
    )
    cut = [i for i in axes if size[i] is None or window.begin[i] != window.end[i]]
    if not cut:
        return result
    starts = [window.begin[i] - pads[i] for i in cut]
    if all(size[i] is not None for i in cut):
        ends = op.constant([starts[n] + int(size[i] or 0) for n, i in enumerate(cut)])
    else:
        lengths = op.Gather(op.Shape(x), op.constant([i + 2 for i in cut]))
        ends = op.Add(lengths, op.constant(starts))
    return op.Slice(result, op.constant(starts), ends, op.constant([i + 2 for i in cut]))
