"""What a network's inputs and outputs look like, read off the graph: class scores, a segmentation, boxes, an embedding."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from sise_ort.exporter.gradients.engine import WITHOUT_GRADIENT
from sise_ort.exporter.head import final_activation

Dims = tuple[int | str | None, ...]

_PASSING = frozenset("Cast Dropout Flatten Identity Reshape Squeeze Transpose Unsqueeze".split())
_DECISIONS = WITHOUT_GRADIENT | {"NonMaxSuppression", "TopK", "Unique"}
_NORMS = frozenset("LpNormalization ReduceL2".split())
_EMBEDDINGS = frozenset("descriptor embedding embeddings".split())
_BOXES = frozenset("bbox bboxes box boxes loc locations offset offsets".split())
_PROBABILITIES = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes
    ----------
    name : str
    dtype : str
        Its type as ONNX calls it, "FLOAT" for example; "" where the file does not say.
    shape : tuple of int, str or None, or None
        Its axes; None where even their number is unknown.
    looks_like : str
        What it seems to be, in words.
    """

    name: str
    dtype: str
    shape: Dims | None
    looks_like: str


def tensor_of(value: ir.Value, looks_like: str, shape: Dims | None = None) -> Tensor:
    """The facts of a graph's input or output; `shape` where more is known than the file says."""
    dtype = value.dtype.name if value.dtype is not None else ""
    return Tensor(value.name or "", dtype, shape or dims_of(value), looks_like)


def dims_of(value: ir.Value) -> Dims | None:
    """The axes of a tensor: numbers, names, or None for what is open."""
    if value.shape is None:
        return None
    dims = (d if isinstance(d, int) else d.value for d in value.shape.dims)
    return tuple(None if isinstance(d, int) and d < 0 else d for d in dims)


def picture_size(value: ir.Value) -> tuple[int, int] | None:
    """Height and width of an input that looks like a picture of fixed size."""
    found = re.fullmatch(r"a (?:gray|colour) picture, (\d+) × (\d+)(, channels last)?", input_looks(value))
    return None if found is None else (int(found[1]), int(found[2]))


def has_places(output: ir.Value, image: ir.Value) -> bool:
    """Whether an output has values for several places or candidates of a picture: a segmentation, a detector.

    Parameters
    ----------
    output, image : ir.Value
        A network's output and its input, with shapes.
    """
    dims, pictures = dims_of(output), dims_of(image)
    if dims is None or len(dims) < 2:
        return False
    return rows_per_picture(dims, pictures) != 1 or sum(d != 1 for d in dims[1:]) > 1


def rows_per_picture(dims: Dims, pictures: Dims | None) -> int:
    """How many entries of an output's first axis there are per picture: 1 where it is the pictures' own."""
    first = dims[0] if dims else None
    if isinstance(first, str) and first.partition("*")[0].isdigit():
        return int(first.partition("*")[0])
    return first if isinstance(first, int) and pictures is not None and pictures[0] == 1 else 1


def input_looks(value: ir.Value) -> str:
    """What an input seems to be: a picture of some size and layout, or what speaks against one."""
    dims = dims_of(value)
    if dims is None:
        return "a tensor of unknown shape"
    if len(dims) not in (3, 4):
        return "no picture: a picture has three or four axes"
    inner = dims[-3:]
    if inner[1:] == (1, 1):
        return f"no picture: {inner[0]} numbers at one place, as a decoder takes them"
    size, channels = (
        (inner[1:], inner[0]) if inner[2] not in (1, 3) or inner[0] in (1, 3) else (inner[:2], inner[2])
    )
    open_size = f", {size[0]} × {size[1]}" if all(isinstance(d, int) for d in size) else ", size open"
    if not isinstance(channels, int):
        return f"a picture with an unknown number of channels{open_size}"
    if channels not in (1, 3):
        return f"no picture: {channels} channels; a picture has 1 or 3"
    order = "" if channels == inner[0] else ", channels last"
    return f"a {'gray' if channels == 1 else 'colour'} picture{open_size}{order}"


def output_looks(
    output: ir.Value, shape: Dims | None = None, picture: tuple[int, int] | None = None, rows: int = 1
) -> str:
    """What an output seems to be.

    Parameters
    ----------
    output : ir.Value
        In its graph.
    shape : tuple, optional
        Its axes, where more is known than the file says.
    picture : (int, int), optional
        Height and width of the network's input.
    rows : int
        Entries of its first axis per picture.

    Returns
    -------
    str
        In words: "class scores of 10 classes, as probabilities (Softmax)".
    """
    if output.type is not None and not isinstance(output.type, ir.TensorType):
        return "a sequence or dictionary, no tensor"
    dims = shape or dims_of(output)
    node = last_node(output)
    if node is not None and node.op_type in _DECISIONS and not _is_values_of_top(node, output):
        before = next((v.name for v in node.inputs if v is not None), "")
        return f"what {node.op_type} decided, without a gradient; '{before}' before it has one"
    if any(n.op_type == "NonMaxSuppression" for n in _ancestors(output)):
        return "detections after non-maximum suppression, without a gradient"
    if output.dtype is not None and not output.dtype.is_floating_point():
        return "whole numbers, without a gradient"
    if dims is None:
        return "a tensor of unknown shape"
    node = final_activation(output) or node
    ending = node.op_type if node is not None else ""
    rest = [d for d in dims[1:] if d != 1]
    if len(dims) == 4 and len(rest) > 1:
        return _places(dims, ending, picture)
    if None in rest and len(rest) > 1:
        return f"a tensor with {len(dims)} axes of unknown length"
    if len(dims) == 3 and len(rest) > 1:
        return _candidates(dims[1], dims[2], ending, output)
    if len(rest) > 1:
        return f"{len(dims)} axes: neither class scores nor a segmentation"
    if len(dims) == 2 and rows > 1:
        return _candidates(rows, dims[1], ending, output)
    return _vector(rest[0] if rest else 1, ending, output)


def last_node(output: ir.Value) -> ir.Node | None:
    """The node that computes an output's values, behind changes of shape."""
    node = output.producer()
    while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _is_values_of_top(node: ir.Node, output: ir.Value) -> bool:
    return node.op_type == "TopK" and output.dtype is not None and output.dtype.is_floating_point()


def _ancestors(output: ir.Value) -> Iterator[ir.Node]:
    waiting, seen = [output], {output}
    while waiting:
        node = waiting.pop().producer()
        if node is None:
            continue
        yield node
        for value in node.inputs:
            if value is not None and value not in seen:
                seen.add(value)
                waiting.append(value)


def _words_in(name: str | None) -> set[str]:
    return set(re.split(r"[^a-z]+", (name or "").lower()))


def _places(dims: Dims, ending: str, picture: tuple[int, int] | None) -> str:
    numbers = [d if isinstance(d, int) else math.inf for d in dims[1:]]
    last = numbers[0] > numbers[2]
    channels, size = (dims[3], dims[1:3]) if last else (dims[1], dims[2:4])
    where = " × ".join(str(d) if isinstance(d, int) else "?" for d in size)
    if ending in _PROBABILITIES:
        return f"a segmentation: probabilities ({ending}) of {_many(channels)} at each of {where} places"
    if channels in (1, 3) and ending == "Tanh":
        return f"a picture of {where} pixels, or other values between -1 and 1"
    if channels in (1, 3) and picture is not None and tuple(size) == picture:
        return f"a picture of the input's size, or scores of {_many(channels)} at each of its pixels"
    return f"a segmentation (scores of {_many(channels)}) or other numbers, at each of {where} places"


def _candidates(count: int | str | None, numbers: int | str | None, ending: str, output: ir.Value) -> str:
    many = "candidates" if count in (None, "", "n") else f"{count} candidates per picture"
    if ending in _PROBABILITIES:
        return f"a detector's scores: probabilities ({ending}) of {_many(numbers)} for {many}"
    if numbers == 4:
        return f"a detector's boxes: 4 numbers for each of {many}"
    if _words_in(output.name) & _BOXES:
        return f"a detector's boxes or landmarks: {numbers} numbers for each of {many}"
    inside = (
        f", such as a box, an objectness and {_many(numbers - 5)}"
        if isinstance(numbers, int) and numbers > 5
        else ""
    )
    return f"a detector's raw output: {_plural(numbers, 'number')} for each of {many}{inside}"


def _vector(count: int | str | None, ending: str, output: ir.Value) -> str:
    node, words = last_node(output), _words_in(output.name)
    if words & _EMBEDDINGS or (node is not None and _has_unit_length(node)):
        return f"an embedding of {_plural(count, 'number')}"
    if ending in _PROBABILITIES and count == 1:
        return f"one probability ({ending})"
    if ending in _PROBABILITIES:
        return f"class scores of {_many(count)}, as probabilities ({ending})"
    if words & _BOXES:
        return f"a box or offsets: {_plural(count, 'number')}"
    if ending == "Tanh":
        return f"{_plural(count, 'value')} between -1 and 1, no class scores"
    if ending == "Relu":
        return f"{_plural(count, 'value')} not below 0 (Relu), no class scores before a softmax"
    if count == 1:
        return "one value, or the score of one class"
    return f"class scores of {_many(count)} before their activation, or as many other numbers"


def _many(classes: int | str | None) -> str:
    return "one class" if classes == 1 else _plural(classes, "class")


def _plural(count: int | str | None, word: str) -> str:
    if count == 1:
        return f"1 {word}"
    return f"{count if isinstance(count, int) else 'some'} {word}{'es' if word.endswith('s') else 's'}"


def _has_unit_length(node: ir.Node) -> bool:
    """Whether a vector was divided by its own length at the end."""
    if node.op_type == "LpNormalization":
        return True
    near = [v.producer() for v in node.inputs if v is not None]
    near += [v.producer() for n in near if n is not None for v in n.inputs if v is not None]
    return node.op_type in ("Div", "Mul") and any(n is not None and n.op_type in _NORMS for n in near)
