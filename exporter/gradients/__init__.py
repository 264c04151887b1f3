"""Gradients as ONNX nodes: `differentiate` walks, `register` teaches it an operator."""

from sise_ort.exporter.gradients import rules as rules  # fills the table
from sise_ort.exporter.gradients.engine import RULES, differentiate, nodes_between, register, without_rule

__all__ = ["RULES", "differentiate", "nodes_between", "register", "without_rule"]
