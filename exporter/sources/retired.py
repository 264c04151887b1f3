"""Operators that ONNX has given up, by those of opset 20.

The first releases had experimental operators (ImageScaler, Affine, Crop …), which opset 7 to 10 dropped, but which files of
Windows ML, CNTK and Caffe2 still hold. onnx's version converter does not know them: they get a domain of their own, in which
it leaves them alone, and are rewritten when everything else has opset 20.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from sise_ort.exporter.ops import Ops, attribute, input_of
from sise_ort.exporter.sources.onnx_proto import graphs_of
from sise_ort.exporter.sources.rewriting import replace_nodes

DOMAIN = "sise.retired"
_GIVEN_UP = 10
"""onnxruntime has none of these operators from here on, so that a file of a newer opset that names one is wrong."""
_INFERRED = 6
"""The first opset whose shapes onnx infers."""


def _affine(op: Ops, node: ir.Node) -> ir.Value:
    """alpha · x + beta."""
    return op.Add(op.Mul(input_of(node), attribute(node, "alpha", 1.0)), attribute(node, "beta", 0.0))


def _cast(op: Ops, node: ir.Node) -> ir.Value:
    """Cast, whose type had been a word."""
    to = attribute(node, "to")
    if str(to) not in onnx.TensorProto.DataType.keys():  # noqa: SIM118  (no dict)
        raise ValueError(f"Cast to '{to}' is unknown")
    return op.Cast(input_of(node), to=onnx.TensorProto.DataType.Value(str(to)))


def _crop(op: Ops, node: ir.Node) -> ir.Value:
    """x without its border (left, top, right, bottom), or with `scale` of that height and width behind left and top."""
    left, top, right, bottom = attribute(node, "border")
    scale = attribute(node, "scale")
    far = np.iinfo(np.int64).max
    ends = [-bottom or far, -right or far] if scale is None else [top + scale[0], left + scale[1]]
    return op.Slice(
        input_of(node), op.constant([top, left]), op.constant([int(e) for e in ends]), op.constant([2, 3])
    )


def _dynamic_slice(op: Ops, node: ir.Node) -> ir.Value:
    """Slice."""
    return op.Slice(*node.inputs)


def _image_scaler(op: Ops, node: ir.Node) -> ir.Value:
    """scale · x + bias, one for each channel."""
    bias = np.asarray(attribute(node, "bias", [0.0]), np.float64).reshape(-1, 1, 1)
    return op.Add(op.Mul(input_of(node), attribute(node, "scale", 1.0)), bias)


def _mean_variance(op: Ops, node: ir.Node) -> ir.Value:
    """(x - mean) / √(variance + 1e-9) over the places, or over channels and places."""
    axes = op.constant([1, 2, 3] if attribute(node, "across_channels", 0) else [2, 3])
    centred = op.Sub(input_of(node), op.ReduceMean(input_of(node), axes, keepdims=1))
    if not attribute(node, "normalize_variance", 1):
        return centred
    variance = op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1)
    return op.Div(centred, op.Sqrt(op.Add(variance, 1e-9)))


def _pad(op: Ops, node: ir.Node) -> ir.Value:
    """Pad, whose widths had been called paddings."""
    mode = attribute(node, "mode", "constant")
    widths = op.constant([int(i) for i in attribute(node, "paddings")])
    return op.Pad(input_of(node), widths, attribute(node, "value", 0.0), mode=mode)


def _parametric_softplus(op: Ops, node: ir.Node) -> ir.Value:
    """alpha · log(1 + exp(beta · x))."""
    return op.Mul(
        op.Softplus(op.Mul(input_of(node), attribute(node, "beta", 1.0))), attribute(node, "alpha", 1.0)
    )


def _scale(op: Ops, node: ir.Node) -> ir.Value:
    """scale · x."""
    return op.Mul(input_of(node), attribute(node, "scale", 1.0))


def _scaled_tanh(op: Ops, node: ir.Node) -> ir.Value:
    """alpha · tanh(beta · x)."""
    return op.Mul(
        op.Tanh(op.Mul(input_of(node), attribute(node, "beta", 1.0))), attribute(node, "alpha", 1.0)
    )


def _thresholded_relu(op: Ops, node: ir.Node) -> ir.Value:
    """ThresholdedRelu, which came back."""
    return op.ThresholdedRelu(input_of(node), alpha=float(attribute(node, "alpha", 1.0)))


RETIRED: dict[str, tuple[Callable[[Ops, ir.Node], ir.Value], int]] = {
    "Affine": (_affine, _GIVEN_UP),
    "Cast": (_cast, 6),
    "Crop": (_crop, _GIVEN_UP),
    "DynamicSlice": (_dynamic_slice, _GIVEN_UP),
    "ImageScaler": (_image_scaler, _GIVEN_UP),
    "MeanVarianceNormalization": (_mean_variance, 9),
    "Pad": (_pad, 2),
    "ParametricSoftplus": (_parametric_softplus, _GIVEN_UP),
    "Scale": (_scale, _GIVEN_UP),
    "ScaledTanh": (_scaled_tanh, _GIVEN_UP),
    "ThresholdedRelu": (_thresholded_relu, 10),
}
"""What rewrites an operator, and the first opset that has another one of this name, or none at all."""


def mark_retired(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Give operators that were given up a domain of their own.

    Parameters
    ----------
    proto : onnx.ModelProto
        Not changed.
    version : int
        The opset that it uses.

    Returns
    -------
    onnx.ModelProto
        A copy, or the model itself where it has none of them.
    """

    def found(model: onnx.ModelProto) -> list[onnx.NodeProto]:
        nodes = (node for graph in graphs_of(model) for node in graph.node)
        return [
            n
            for n in nodes
            if n.domain in ("", "ai.onnx") and n.op_type in RETIRED and version < RETIRED[n.op_type][1]
        ]

    if not found(proto):
        return proto
    marked = onnx.ModelProto()
    marked.CopyFrom(proto)
    for node in found(marked):
        node.domain = DOMAIN
    marked.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return marked


def declare_shapes(proto: onnx.ModelProto, version: int) -> None:
    """Write down shapes that the version converter needs and cannot infer: results of retired operators, and those of opsets
    before 6, for which onnx has no inference.

    Parameters
    ----------
    proto : onnx.ModelProto
        With retired operators marked; shapes are added to it.
    version : int
        The opset that it uses.
    """
    waiting = {node.output[0]: node for node in proto.graph.node if node.domain == DOMAIN}
    if not waiting and version >= _INFERRED:
        return
    probe = _inferable(proto, version)
    while True:
        graph = onnx.shape_inference.infer_shapes(probe).graph
        known = {v.name: v for v in (*graph.value_info, *graph.input)}
        ready = [
            node for node in waiting.values() if node.input[0] in known and node.op_type != "DynamicSlice"
        ]
        for node in ready:
            del waiting[node.output[0]]
            source = known[node.input[0]].type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in source.shape.dim]
            kind, shape = _type_after(node, source.elem_type), _after(node, dims)
            probe.graph.value_info.append(onnx.helper.make_tensor_value_info(node.output[0], kind, shape))
        if not ready:
            break
    inside = {name for node in proto.graph.node for name in node.output} - {
        v.name for v in proto.graph.output
    }
    proto.graph.value_info.extend(v for name, v in known.items() if name in inside)


def _inferable(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """A copy with the operators' names of opset 6, for the inference of shapes alone."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    for entry in probe.opset_import:
        entry.version = max(entry.version, _INFERRED) if entry.domain in ("", "ai.onnx") else entry.version
    for node in probe.graph.node if version < 5 else ():
        shape = [a.ints for a in node.attribute if node.op_type == "Reshape" and a.name == "shape"]
        if shape:
            name = f"{node.output[0]}/target"
            probe.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape[0], np.int64), name))
            node.input.append(name)
            del node.attribute[:]
    return probe


def _type_after(node: onnx.NodeProto, kind: int) -> int:
    to = next((a.s.decode() for a in node.attribute if node.op_type == "Cast" and a.name == "to"), "")
    return onnx.TensorProto.DataType.Value(to) if to in onnx.TensorProto.DataType.keys() else kind  # noqa: SIM118


def _after(node: onnx.NodeProto, dims: list[int | str | None]) -> list[int | str | None]:
    """The shape of a retired operator's result."""
    given = {a.name: list(a.ints) for a in node.attribute if a.ints}
    rank = len(dims)
    if node.op_type == "Crop" and rank == 4 and len(given.get("border", ())) == 4:
        left, top, right, bottom = given["border"]
        change = [0, 0, -top - bottom, -left - right]
        dims = [*dims[:2], *given["scale"]] if "scale" in given else dims
        change = [0] * 4 if "scale" in given else change
    elif node.op_type == "Pad" and len(given.get("paddings", ())) == 2 * rank:
        change = [a + b for a, b in zip(given["paddings"][:rank], given["paddings"][rank:], strict=True)]
    else:
        change = [0] * rank
    return [d if c == 0 else d + c if isinstance(d, int) else None for d, c in zip(dims, change, strict=True)]


def rewrite_retired(model: ir.Model) -> None:
    """Write the operators that `mark_retired` found in those of opset 20.

    Raises
    ------
    ValueError
        One of them is used in a way that is not covered.
    """
    replace_nodes(model, {name: function for name, (function, _) in RETIRED.items()}, (DOMAIN,))
