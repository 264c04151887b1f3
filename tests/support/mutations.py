"""Models that are wrong in ways that nobody thought of: bytes and structure of a good one, changed at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

NUMBERS = (0, 1, -1, 2, 7, -(2**31), 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)
OPERATORS = (
    "Conv", "Relu", "Add", "Reshape", "Transpose", "Concat", "Split", "Expand", "Tile", "ConstantOfShape", "Loop", "If",
    "Resize", "Pad", "Slice", "Gather", "Softmax", "MatMul", "Gemm", "Shape", "Range", "Identity", "GroupNormalization",
    "NonZero", "OneHot", "Einsum", "DepthToSpace", "MaxPool", "Constant", "ImageScaler", "", "Nonsense", "Cast", "TopK",
    "Squeeze", "ReduceMean", "LSTM", "BatchNormalization", "QuantizeLinear", "AveragePool", "SequenceAt", "CastLike",
)  # fmt: skip
Change = Callable[[np.random.Generator, onnx.ModelProto], None]


def changed_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """A file with some bytes changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(0, len(data))), int(rng.integers(1, 40))
        kind = rng.integers(0, 5)
        if kind == 0:
            data[place] = int(rng.integers(0, 256))
        elif kind == 1:
            data[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + length]
        else:
            del data[max(place, 1) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def changed_model(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model with one or more changes of its structure."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for _ in range(int(rng.geometric(0.7))):
        if found.graph.node and found.graph.input and found.graph.output:
            _pick(rng, CHANGES)(rng, found)
    return found


def _pick(rng: np.random.Generator, among: Any) -> Any:
    return among[int(rng.integers(0, len(among)))]


def _names(model: onnx.ModelProto) -> list[str]:
    return [
        *(name for node in model.graph.node for name in (*node.input, *node.output)),
        *(tensor.name for tensor in model.graph.initializer),
        "", "nowhere", "a\0b", "\x1b[31m", "x" * 3000, "../../etc/passwd", "sise/0", "x",
    ]  # fmt: skip


def _rewire(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _pick(rng, model.graph.node)
    side = node.input if rng.random() < 0.7 else node.output
    if side:
        side[int(rng.integers(0, len(side)))] = _pick(rng, _names(model))


def _more_or_fewer(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _pick(rng, model.graph.node)
    side = node.input if rng.random() < 0.7 else node.output
    if side and rng.random() < 0.5:
        del side[int(rng.integers(0, len(side)))]
    else:
        side.append(_pick(rng, _names(model)))


def _operator(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _pick(rng, model.graph.node).op_type = _pick(rng, OPERATORS)


def _domain(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _pick(rng, model.graph.node).domain = _pick(
        rng, ("ai.onnx", "com.microsoft", "my.ops", "ai.onnx.ml", "\0")
    )


def _order(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = onnx.NodeProto()
    index = int(rng.integers(0, len(model.graph.node)))
    node.CopyFrom(model.graph.node[index])
    if rng.random() < 0.5:
        del model.graph.node[index]
    model.graph.node.insert(int(rng.integers(0, len(model.graph.node) + 1)), node)


def _attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _pick(rng, model.graph.node)
    if node.attribute and rng.random() < 0.6:
        attribute = _pick(rng, node.attribute)
        if attribute.ints and rng.random() < 0.7:
            attribute.ints[int(rng.integers(0, len(attribute.ints)))] = _pick(rng, NUMBERS)
        elif rng.random() < 0.5:
            attribute.type = int(rng.integers(0, 15))
        else:
            attribute.i = _pick(rng, NUMBERS)
        return
    name = _pick(rng, ("axis", "pads", "strides", "kernel_shape", "dilations", "group", "perm", "to", "value", "mode",
                       "auto_pad", "epsilon", "axes", "blocksize", "equation", "then_branch", "body"))  # fmt: skip
    value = _pick(
        rng, (int(_pick(rng, NUMBERS)), [int(_pick(rng, NUMBERS)) for _ in range(4)], 1.5, "ijk->", [0.5])
    )
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _tensor(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    if not model.graph.initializer:
        return
    tensor = _pick(rng, model.graph.initializer)
    kind = rng.integers(0, 5)
    if kind == 0 and tensor.dims:
        tensor.dims[int(rng.integers(0, len(tensor.dims)))] = _pick(rng, NUMBERS)
    elif kind == 1:
        tensor.data_type = int(rng.integers(0, 30))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(0, len(tensor.raw_data) + 1))]
    elif kind == 3:
        tensor.name = _pick(rng, _names(model))
    else:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = (
            "location",
            _pick(rng, ("../secret", "/etc/passwd", "none.bin", "", ".", "\0")),
        )


def _value(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    value = _pick(rng, [*model.graph.input, *model.graph.output])
    kind = rng.integers(0, 4)
    dims = value.type.tensor_type.shape.dim
    if kind == 0 and dims:
        dims[int(rng.integers(0, len(dims)))].dim_value = _pick(rng, NUMBERS)
    elif kind == 1 and dims:
        del dims[int(rng.integers(0, len(dims)))]
    elif kind == 2:
        value.type.tensor_type.elem_type = int(rng.integers(0, 30))
    else:
        value.name = _pick(rng, _names(model))


def _imports(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    if model.opset_import and rng.random() < 0.7:
        model.opset_import[0].version = int(rng.integers(5, 27))
    elif rng.random() < 0.5:
        model.opset_import.add().domain = _pick(rng, ("", "my.ops", "com.microsoft"))
    else:
        model.ir_version = _pick(rng, NUMBERS[:4])


def _note(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    entry = _pick(rng, model.graph.node).metadata_props.add()
    entry.key, entry.value = (
        "pkg.torch.onnx.name_scopes",
        _pick(rng, ("['a'", "\0", "[1, 2]", "{}", "'" * 50, "[" * 500)),
    )


def _big_constant(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """A shape computed in the graph that asks for more than there is."""
    shape = onnx.numpy_helper.from_array(np.array([int(_pick(rng, NUMBERS)) for _ in range(3)]), "big")
    node = _pick(rng, model.graph.node)
    made = _pick(rng, ("ConstantOfShape", "Expand", "Tile"))
    source = ["big"] if made == "ConstantOfShape" else [node.input[0] if node.input else "", "big"]
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, onnx.helper.make_node(made, source, ["made"]))
    if node.input:
        node.input[0] = "made"


CHANGES: tuple[Change, ...] = (
    _rewire, _rewire, _more_or_fewer, _operator, _operator, _domain, _order, _attribute, _attribute, _attribute, _tensor,
    _tensor, _value, _imports, _note, _big_constant,
)  # fmt: skip
