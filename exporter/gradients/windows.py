"""The geometry of sliding windows, for Conv and the pooling operators."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sise_ort.exporter.ops import FIXED_SIZE, attribute, static_shape


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes of a tensor [N, C, *size], one number per axis.

    Attributes
    ----------
    kernel, strides, dilations : tuple of int
        As in ONNX.
    begin, end : tuple of int
        Zeros added before and after each axis; `end` includes the overhang.
    remainder : tuple of int or None
        Trailing rows of the padded input that no window reaches; None where the size is dynamic.
    overhang : tuple of int
        Part of `end` that ceil_mode adds. AveragePool never counts it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    overhang: tuple[int, ...]
    remainder: tuple[int | None, ...]

    @property
    def span(self) -> tuple[int, ...]:
        """Extent of one dilated window."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def window_of(node: ir.Node, kernel: tuple[int, ...]) -> Window:
    """Read the window of a Conv or pooling node.

    Parameters
    ----------
    node : onnx_ir.Node
    kernel : tuple of int
        Shape of the window, one number per spatial axis.

    Returns
    -------
    Window

    Raises
    ------
    ValueError
        Auto_pad SAME or ceil_mode over a dynamic spatial size.
    """
    axes = len(kernel)
    strides = tuple(attribute(node, "strides", [1] * axes))
    dilations = tuple(attribute(node, "dilations", [1] * axes))
    pads = list(attribute(node, "pads", [0] * (2 * axes)))
    begin, end = pads[:axes], pads[axes:]
    ceil_mode = bool(attribute(node, "ceil_mode", 0))
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    source = node.inputs[0]
    assert source is not None
    size = static_shape(source)[2:]
    overhang, remainder = [0] * axes, list[int | None]([None] * axes)
    for i in range(axes):
        span = dilations[i] * (kernel[i] - 1) + 1
        length = size[i]
        if auto_pad.startswith("SAME"):
            if length is None:
                raise ValueError(f"auto_pad {auto_pad} needs a fixed spatial size; {FIXED_SIZE}")
            total = max((-(-length // strides[i]) - 1) * strides[i] + span - length, 0)
            begin[i] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            end[i] = total - begin[i]
        elif auto_pad == "VALID":
            begin[i] = end[i] = 0
        if length is None:
            if ceil_mode:
                raise ValueError(f"ceil_mode needs a fixed spatial size; {FIXED_SIZE}")
            continue
        padded = length + begin[i] + end[i]
        if ceil_mode:
            windows = -(-(padded - span) // strides[i]) + 1
            if (windows - 1) * strides[i] >= length + begin[i]:  # a window must start inside the input
                windows -= 1
            overhang[i] = max((windows - 1) * strides[i] + span - padded, 0)
        remainder[i] = (padded + overhang[i] - span) % strides[i]
    end = [e + o for e, o in zip(end, overhang, strict=True)]
    return Window(kernel, strides, dilations, tuple(begin), tuple(end), tuple(overhang), tuple(remainder))
