"""The quantisation of a network's probabilities, in front of its output."""

from __future__ import annotations

import onnx_ir as ir

from sise_ort.exporter.ops import Ops, input_of

KEEPING = frozenset(
    "Concat Flatten Gather Identity MaxPool Pad Reshape Slice Squeeze Transpose Unsqueeze".split()
)
"""Operators on integers that keep their scale."""
_PROBABILITIES = frozenset("LogSoftmax Sigmoid Softmax".split())


def end_in_real_numbers(graph: ir.Graph) -> bool:
    """Leave out the quantisation of probabilities at the end, behind which their Softmax or Sigmoid would not be found.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Of opset 20, changed in place.

    Returns
    -------
    bool
        Whether there was one, so that probabilities differ by its step.
    """
    changed = False
    op = Ops(graph, prefix="end")
    for output in list(graph.outputs):
        end = output.producer()
        if end is None or end.op_type != "DequantizeLinear":
            continue
        value = input_of(end)
        moved = [value]
        while (before := value.producer()) is not None and before.op_type in KEEPING:
            value = input_of(before)
            moved.append(value)
        if before is None or before.op_type != "QuantizeLinear" or any(len(v.uses()) != 1 for v in moved):
            continue
        source = input_of(before).producer()
        if source is None or source.op_type not in _PROBABILITIES:
            continue
        for moving in moved:
            moving.type = None  # integers become floats
        _leave_out(op, before)
        _leave_out(op, end)
        changed = True
    graph.sort()
    return changed


def _leave_out(op: Ops, node: ir.Node) -> None:
    (old,), new = node.outputs, op.Identity(input_of(node))
    new.name, old.name = old.name, f"{old.name}/before"
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    op.graph.remove(node, safe=True)
