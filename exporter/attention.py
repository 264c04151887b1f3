"""Finds operators that mix all places of the picture; networks with them (transformers, MLP-Mixers) are refused.

Refused are products of place by place (self-attention), learned layers over places (mixers) and d × d summaries over
all places that are multiplied with places again without a softmax between (linear attention). Accepted are d × d
summaries with a softmax over channels (cross-covariance attention), pooled vectors (squeeze-and-excitation) and the
statistics of normalisations: what they give to a place is the same for all places.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sise_ort.exporter.axes import CHANNELS, Known, Label, kinds_of, length_of, places_in
from sise_ort.exporter.axis_rules import label_axes
from sise_ort.exporter.gradients import nodes_between
from sise_ort.exporter.products import Product, product_of

SELF_ATTENTION = "self-attention"
LINEAR_ATTENTION = "linear attention"
MIXER = "a learned layer over places (as an MLP-Mixer)"
_ATTENTION = frozenset("Attention GroupQueryAttention MultiHeadAttention".split())
_BETWEEN_PRODUCT_AND_SOFTMAX = frozenset(
    "Add Cast Clip Div Mul Pad Reshape Slice Squeeze Sub Transpose Unsqueeze Where".split()
)
_PRODUCTS = frozenset("Conv ConvTranspose Einsum Gemm MatMul".split())


@dataclass(frozen=True)
class Mixing:
    """An operator that mixes all places: which kind, and where."""

    kind: str
    node: ir.Node


def mixings(graph: ir.Graph) -> list[Mixing]:
    """Every operator between the image and the scores that mixes all places of the picture, in order.

    Parameters
    ----------
    graph : ir.Graph
        In topological order, with shapes.
    """
    labels = label_axes(graph)
    path = nodes_between(graph.outputs[0], [graph.inputs[0]])
    summaries: set[ir.Value] = set()
    found = []
    for node in path:
        product = product_of(node, labels)
        if node.op_type in _ATTENTION or (product is None and _may_attend(node, labels)):
            found.append(Mixing(SELF_ATTENTION, node))
        elif product is not None and product.learned:
            if _mixes(product):
                found.append(Mixing(MIXER, node))
        elif product is not None:
            if places_in(product.left) and places_in(product.right):
                found.append(Mixing(SELF_ATTENTION, _softmax_behind(node) or node))
            elif not summaries.isdisjoint(node.inputs) and places_in((*product.left, *product.right)):
                found.append(Mixing(LINEAR_ATTENTION, node))
            elif _summarises(product):
                summaries.update(node.outputs)
        elif node.op_type != "Softmax" and not summaries.isdisjoint(node.inputs):
            summaries.update(v for v in node.outputs if not _has_places(v, labels))
    return found


def _mixes(product: Product) -> bool:
    """Whether a learned layer sums over places while others stay apart.

    The layer behind a Flatten sums over places and channels alike, and leaves none; a layer with one result pools; one
    that sums over the channels and a window of places is a convolution.
    """
    rest = product.left if kinds_of(product.left) else product.right
    weight = product.right if rest is product.left else product.left
    places, outputs = places_in(product.summed), length_of(weight)
    if not places or outputs == 1 or not _apart((*rest, *product.shared)):
        return False
    if CHANNELS not in kinds_of(product.summed):
        return True
    return not all(part.is_window for part in places) and outputs == length_of(product.summed)


def _apart(rest: Label) -> bool:
    return bool(places_in(rest)) or CHANNELS in kinds_of(rest)


def _summarises(product: Product) -> bool:
    """A matrix of channels by channels, summed over places."""
    return (
        bool(places_in(product.summed))
        and not places_in((*product.left, *product.right))
        and length_of(product.left) > 1
        and length_of(product.right) > 1
    )


def _has_places(value: ir.Value, labels: Known) -> bool:
    found = labels.get(value)
    return found is not None and any(places_in(label) for label in found)


def _may_attend(node: ir.Node, labels: Known) -> bool:
    """A product of two tensors of the image whose axes cannot be told, with a softmax behind it."""
    moving = [v for v in node.inputs if v in labels]
    return node.op_type in ("MatMul", "Einsum") and len(moving) > 1 and _softmax_behind(node) is not None


def _softmax_behind(node: ir.Node) -> ir.Node | None:
    """The softmax that a product goes into, through scaling, masks and changes of shape."""
    waiting, seen = [node], {node}
    while waiting:
        for use in [use for value in waiting.pop().outputs for use, _ in value.uses()]:
            if use.op_type == "Softmax":
                return use
            if use.op_type in _BETWEEN_PRODUCT_AND_SOFTMAX and use not in seen:
                seen.add(use)
                waiting.append(use)
    return None
