"""Gradients of changing the resolution: Resize, DepthToSpace, SpaceToDepth."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from sise_ort.exporter.gradients.engine import Gradient, along_axis, register
from sise_ort.exporter.ops import FIXED_SIZE, Ops, attribute, constant_input, input_of, static_shape


@register("Resize")
def resize(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g times the transposed interpolation matrix of each axis; every mode but tf_crop_and_resize."""
    x, y = input_of(node), node.outputs[0]
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise ValueError("tf_crop_and_resize is not covered")
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError("only keep_aspect_ratio_policy stretch is covered")
    before, after = static_shape(x), static_shape(y)
    rank = len(before)
    scales = constant_input(
        node, 2, "its scales are"
    )  # sizes may name the batch: the result's shape says the rest
    axes = [a % rank for a in attribute(node, "axes", range(rank))]
    for place, axis in enumerate(axes):
        old, new = before[axis], after[axis]
        scale = float(scales[place]) if scales is not None and len(scales) else None
        if axis == 0 and scale in (None, 1.0) and x.shape[0] == y.shape[0]:  # type: ignore[index]
            continue
        if old is None or new is None or axis == 0:
            raise ValueError(f"it resizes the batch or an axis of unknown length; {FIXED_SIZE}")
        if (scale or new / old) == 1.0:
            continue
        g = along_axis(op, g, _interpolation(node, old, new, scale), axis, rank)
    return g


def _interpolation(node: ir.Node, old: int, new: int, scale: float | None) -> NDArray[np.float64]:
    """[new, old]: what each new cell takes of each old one, by resizing the unit vectors as `node` would."""
    kept = {
        name: a.value
        for name, a in node.attributes.items()
        if name not in ("axes", "keep_aspect_ratio_policy", "extrapolation_value")
    }
    given = ["x", "", "scales", ""] if scale is not None else ["x", "", "", "sizes"]
    resize_node = onnx.helper.make_node("Resize", given, ["y"], axes=[1], **kept)
    feeds = {
        "x": np.eye(old),
        "scales": np.array([scale or 1.0], np.float32),
        "sizes": np.array([new], np.int64),
    }
    evaluator = ReferenceEvaluator(resize_node)
    (rows,) = evaluator.run(None, {name: feeds[name] for name in given if name})
    return np.asarray(rows, np.float64).T


@register("DepthToSpace")
def depth_to_space(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g with its places moved back into channels."""
    x, block = input_of(node), int(attribute(node, "blocksize"))
    if attribute(node, "mode", "DCR") == "DCR":
        return op.SpaceToDepth(g, blocksize=block)
    _, channels, height, width = static_shape(x)
    if channels is None or height is None or width is None:
        raise ValueError(f"mode CRD needs a fixed size; {FIXED_SIZE}")
    opened = op.Reshape(g, op.constant([-1, channels // block**2, height, block, width, block]))
    moved = op.Transpose(opened, perm=[0, 1, 3, 5, 2, 4])
    return op.Reshape(moved, op.constant([-1, channels, height, width]))


@register("SpaceToDepth")
def space_to_depth(op: Ops, node: ir.Node, g: ir.Value) -> Gradient:
    """g with its channels moved back into places."""
    return op.DepthToSpace(g, blocksize=int(attribute(node, "blocksize")), mode="DCR")
