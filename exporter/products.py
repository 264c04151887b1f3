"""Sums of products (MatMul, Gemm, Einsum, Conv), by what their axes are made of: see `axes`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sise_ort.exporter.axes import Known, Label, join, labels_of, length_of, unknown_axis
from sise_ort.exporter.ops import attribute


@dataclass(frozen=True)
class Product:
    """A sum of products of two tensors, by the parts of their axes.

    Attributes
    ----------
    summed : tuple of Part
        What is summed over.
    left, right : tuple of Part
        What the result has from one of the two alone.
    shared : tuple of Part
        What runs along in both.
    learned : bool
        Whether one of the two does not depend on the image.
    """

    summed: Label
    left: Label
    right: Label
    shared: Label
    learned: bool


def product_of(node: ir.Node, labels: Known) -> Product | None:
    """The sum of products that a MatMul, Gemm, Einsum or Conv computes; None for others or where it is unreadable."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution(node, labels)
    if node.op_type not in ("MatMul", "Gemm", "Einsum") or len(node.inputs) < 2:
        return None
    letters = letters_of(node)
    if letters is None:
        return None
    *operands, result = letters
    if len(operands) != 2:
        return None
    sides: list[dict[str, Label]] = []
    for value, names in zip(node.inputs[:2], operands, strict=True):
        found = labels_of(value, labels)
        if found is None or len(found) != len(names):
            return None
        sides.append(dict(zip(names, found, strict=True)))
    left, right = sides
    return Product(
        summed=tuple(p for n in left if n not in result for p in _joined_parts(n, left, right)),
        left=tuple(p for n in left if n in result and _is_alone(n, left, right) for p in left[n]),
        right=tuple(p for n in right if n in result and _is_alone(n, right, left) for p in right[n]),
        shared=tuple(p for n in left if n in result and not _is_alone(n, left, right) for p in left[n]),
        learned=any(v not in labels for v in node.inputs[:2]),
    )


def _is_alone(name: str, own: dict[str, Label], other: dict[str, Label]) -> bool:
    return length_of(own[name]) > 1 and (name not in other or length_of(other[name]) == 1)


def _joined_parts(name: str, left: dict[str, Label], right: dict[str, Label]) -> Label:
    return join([left[name], right.get(name, ())], length_of(left[name]))


def _convolution(node: ir.Node, labels: Known) -> Product | None:
    image, weight = node.inputs[:2]
    found = labels_of(image, labels)
    if found is None or len(found) < 3 or weight is None or weight.shape is None or weight in labels:
        return None
    groups, channels = attribute(node, "group", 1), length_of(found[1])
    outputs = weight.shape[0] if node.op_type == "Conv" else weight.shape[1]
    if (groups == channels and channels > 1) or not isinstance(outputs, int):
        return None  # one channel at a time: nothing is summed but windows
    per_group = outputs // groups if node.op_type == "Conv" else outputs
    rest = tuple(part for label in (found[0], *found[2:]) for part in label)
    return Product(found[1], rest, unknown_axis([], per_group), (), learned=True)


def letters_of(node: ir.Node) -> list[str] | None:
    """Einsum's letters of both operands and of the result; those that it would have for a MatMul or Gemm."""
    if node.op_type == "Einsum":
        equation = str(attribute(node, "equation", "")).replace(" ", "")
        operands, arrow, result = equation.partition("->")
        if not arrow or "." in equation:
            return None
        return [*operands.split(","), result]
    if node.op_type == "Gemm":
        return [
            "ki" if attribute(node, "transA", 0) else "ik",
            "jk" if attribute(node, "transB", 0) else "kj",
            "ij",
        ]
    ranks = [len(v.shape) if v is not None and v.shape is not None else 0 for v in node.inputs[:2]]
    if min(ranks) < 1 or max(ranks) > 20:
        return None
    batch = "abcdefghlmnopqrstu"[: max(max(ranks) - 2, 0)]
    left, right = (batch[len(batch) - (rank - 2) :] if rank > 2 else "" for rank in ranks)
    rows, columns = "i" if ranks[0] > 1 else "", "j" if ranks[1] > 1 else ""
    return [f"{left}{rows}k", f"{right}k{columns}", f"{batch}{rows}{columns}"]
