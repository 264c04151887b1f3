"""Self-attention, by which a transformer is told from a CNN."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.exporter.gradients import nodes_between

_ATTENTION = frozenset("Attention GroupQueryAttention MultiHeadAttention".split())
_BETWEEN_PRODUCT_AND_SOFTMAX = frozenset(
    "Add Cast Clip Div Mul Pad Reshape Slice Squeeze Sub Transpose Unsqueeze Where".split()
)


def self_attention(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that take a softmax of a product of two tensors that both depend on the image."""
    on_path = {v for node in nodes_between(graph.outputs[0], [graph.inputs[0]]) for v in node.outputs}
    found = []
    for node in graph:
        if on_path.isdisjoint(node.outputs):
            continue
        if node.op_type in _ATTENTION or (node.op_type == "Softmax" and _is_of_product(node, on_path)):
            found.append(node)
    return found


def _is_of_product(softmax: ir.Node, on_path: set[ir.Value]) -> bool:
    waiting = [v for v in softmax.inputs if v in on_path]
    while waiting:
        value = waiting.pop()
        node = value.producer() if value is not None else None
        if node is None:
            continue
        moving = [v for v in node.inputs if v in on_path]
        if node.op_type in ("MatMul", "Einsum") and len(moving) > 1:
            return True
        if node.op_type in _BETWEEN_PRODUCT_AND_SOFTMAX:
            waiting += moving
    return False
