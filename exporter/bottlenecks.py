"""Tensors that every path from the image to the output crosses (docs/method.md, Blocks).

Where outputs have places (segmentations, detections), paths run beside one another up to the output, and no tensor deep
inside lies on all of them. There the paths through a deepest map count.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from sise_ort.exporter.gradients import nodes_between
from sise_ort.exporter.layout import Axes, feature_axes

GROWTH = 1.5
"""A side that grows by this factor or more is upsampled."""
LEARNED = frozenset("Conv ConvTranspose Gemm MatMul".split())


def bottlenecks(graph: ir.Graph) -> list[ir.Value]:
    """The tensors that every path from the graph's input to its output crosses, shallow to deep."""
    source, scores = graph.inputs[0], graph.outputs[0]
    path = nodes_between(scores, [source])
    on_path = {source} | {v for node in path for v in node.outputs}
    left = dict.fromkeys(on_path, 0)
    for node in path:
        for value in node.inputs:
            if value in left:
                left[value] += 1
    live, found = {source}, [source]
    for node in path:
        for value in node.inputs:
            if value in left:
                left[value] -= 1
                if left[value] == 0:
                    live.discard(value)
        live.update(v for v in node.outputs if left.get(v) or v is scores)
        if len(live) == 1:
            found.extend(live)
    return found


def deep_bottlenecks(graph: ir.Graph) -> list[ir.Value]:
    """The tensors that every path through a deepest map crosses, from the image to the last deepest map.

    Parameters
    ----------
    graph : ir.Graph
        In topological order, with shapes; its outputs have places. The first output is the one to explain.

    Returns
    -------
    list of ir.Value
        Shallow to deep, none with upsampling before it; empty where there is no deepest map.

    Notes
    -----
    A path is counted, not searched: the number of paths through a tensor and a deepest map is that of all paths through a
    deepest map exactly where every such path crosses the tensor.
    """
    source = graph.inputs[0]
    wanted = {node for output in graph.outputs for node in nodes_between(output, [source])}
    path = [node for node in graph if node in wanted]
    deepest = deepest_maps(graph, path)
    free, through = {source: 1}, {source: 0}
    for node in path:  # paths from the image: free of deepest maps, or through one
        before = [v for v in node.inputs if v is not None and v in free]
        for value in node.outputs:
            none, some = sum(free[v] for v in before), sum(through[v] for v in before)
            free[value], through[value] = (0, none + some) if value in deepest else (none, some)
    onward: dict[ir.Value, int] = {v: int(v in graph.outputs) for v in free}
    deep = dict.fromkeys(free, 0)
    for node in reversed(path):  # paths to the outputs: all, or those with a deepest map still to come
        for value in node.outputs:
            deep[value] = onward[value] if value in deepest else deep[value]
        after, deep_after = sum(onward[v] for v in node.outputs), sum(deep[v] for v in node.outputs)
        for read in node.inputs:
            if read is not None and read in free:
                onward[read] += after
                deep[read] += deep_after
    everything = deep[source]
    grown = upsampled(graph, path)
    return [
        value
        for value in free
        if deep[value]
        and value not in grown
        and through[value] * onward[value] + free[value] * deep[value] == everything
    ]


def deepest_maps(graph: ir.Graph, path: list[ir.Node]) -> set[ir.Value]:
    """The learned maps of the smallest size above 1×1 with no upsampling before them and a learned layer after them."""
    sizes = sizes_of(feature_axes(graph))
    learned, grown = behind_layers(graph), upsampled(graph, path)
    before_layer: set[ir.Value] = set()
    for node in reversed(path):
        if node.op_type in LEARNED or not before_layer.isdisjoint(node.outputs):
            before_layer.update(v for v in node.inputs if v is not None)
    leading = {v for node in nodes_between(graph.outputs[0], [graph.inputs[0]]) for v in node.outputs}
    areas = {
        value: height * width
        for value, (height, width) in sizes.items()
        if height * width > 1 and value in learned and value not in grown and value in before_layer & leading
    }
    smallest = min(areas.values(), default=0)
    return {value for value, area in areas.items() if area == smallest}


def behind_layers(graph: ir.Graph) -> set[ir.Value]:
    """The tensors with a learned layer before them."""
    learned: set[ir.Value] = set()
    for node in graph:
        if node.op_type in LEARNED or any(v in learned for v in node.inputs if v is not None):
            learned.update(node.outputs)
    return learned


def sizes_of(axes: Mapping[ir.Value, Axes]) -> dict[ir.Value, tuple[int, int]]:
    """Height and width of every tensor of feature maps."""
    found = {}
    for value, (_, *places) in axes.items():
        assert value.shape is not None
        height, width = (value.shape[axis] for axis in places)
        if isinstance(height, int) and isinstance(width, int):
            found[value] = (height, width)
    return found


def upsampled(graph: ir.Graph, path: list[ir.Node]) -> set[ir.Value]:
    """The tensors with a node at or before them that makes a side larger by GROWTH or more.

    A tensor whose places cannot be told (one between two Reshapes) has the size of what it was made of. Expand repeats a
    pooled vector, and adds no places.
    """
    own = sizes_of(feature_axes(graph))
    source = graph.inputs[0]
    sizes = {source: own.get(source, (0, 0))}
    grown: set[ir.Value] = set()
    for node in path:
        before = [sizes[v] for v in node.inputs if v in sizes]
        largest = (max((h for h, _ in before), default=0), max((w for _, w in before), default=0))
        inherited = any(v in grown for v in node.inputs if v is not None)
        for value in node.outputs:
            sizes[value] = own.get(value, largest)
            grows = any(new >= GROWTH * old for new, old in zip(sizes[value], largest, strict=True) if old)
            if inherited or (grows and node.op_type != "Expand"):
                grown.add(value)
    return grown
