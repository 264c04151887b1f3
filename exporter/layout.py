"""Where channels, height and width lie in a tensor: [n, c, h, w] and [n, h, w, c] have the same rank."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.exporter.axes import BATCH, CHANNELS, HEIGHT, WIDTH, Labels, kinds_of, place_axis
from sise_ort.exporter.axis_rules import label_axes

Axes = tuple[int, int, int]
"""The axes of channels, height and width."""

CHANNELS_FIRST: Axes = (1, 2, 3)
CHANNELS_LAST: Axes = (3, 1, 2)


def feature_axes(graph: ir.Graph) -> dict[ir.Value, Axes]:
    """The axes of every tensor of rank 4 that holds feature maps of the image, in the image's own order of places."""
    found = {}
    for value, labels in label_axes(graph).items():
        axes = map_axes(labels)
        if axes is not None:
            found[value] = axes
    return found


def map_axes(labels: Labels | None) -> Axes | None:
    """The axes of channels, height and width of a tensor of feature maps; None where it cannot be proven to be one.

    One axis must run over the rows and another over the columns of the picture, the first over the pictures, and the
    last one left over channels alone: windows of places folded into channels are no maps.
    """
    if labels is None or len(labels) != 4 or not kinds_of(labels[0]) <= {BATCH}:
        return None
    places = [place_axis(label) for label in labels]
    if places[1:].count(HEIGHT) != 1 or places[1:].count(WIDTH) != 1:
        return None
    height, width = places.index(HEIGHT, 1), places.index(WIDTH, 1)
    channels = 6 - height - width
    return (channels, height, width) if kinds_of(labels[channels]) <= {CHANNELS} else None
