"""Networks drawn at random that are valid, and graphs of a bundle that an attacker wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

from fuzzing.cases import Place, case
from fuzzing.manifests import bundle, explain, rehash
from fuzzing.onnx_files import export

AREA = "graphs"

STEPS = (
    "Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Clip", "MaxPool", "AveragePool", "BatchNormalization", "Add", "Concat",
    "Resize", "Pad", "InstanceNormalization", "Softplus", "Elu", "Transpose", "Reshape", "Softmax", "ReduceMean", "Mul", "Abs",
    "Identity", "DepthToSpace", "SpaceToDepth", "Slice", "LRN", "GlobalMaxPool", "Exp", "Sqrt", "Neg", "Cast", "Dropout",
)  # fmt: skip


@case(AREA, 4)
def random_network(place: Place) -> None:
    """Convolutions with anything between them; it exports and explains, or is refused."""
    rng, numbers = place.rng, place.numbers
    height, width = rng.choice(((8, 8), (16, 12), (32, 48), (7, 9), (1, 16)))
    lines, weights, now, channels = [], {}, "picture", 3

    def weight(array: Any) -> str:
        name = f"w{len(weights)}"
        weights[name] = np.asarray(array)
        return name

    for i in range(rng.randint(1, 6)):
        wide = rng.choice((2, 4, 8))
        kernel = weight(numbers.normal(0, 0.5, (wide, channels, 3, 3)).astype(np.float32))
        lines.append(
            f"c{i} = Conv<pads=[1,1,1,1], strides=[{rng.choice((1, 1, 2))},{rng.choice((1, 1, 2))}]>({now}, {kernel})"
        )
        now, channels = f"c{i}", wide
        step, out = rng.choice(STEPS), f"s{i}"
        one = weight(np.float32(1))
        ones = weight(np.ones(channels, np.float32))
        long = weight(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        text = {
            "MaxPool": f"{out} = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode={rng.randint(0, 1)}>({now})",
            "AveragePool": f"{out} = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>({now})",
            "BatchNormalization": f"{out} = BatchNormalization({now}, {ones}, {ones}, {ones}, {ones})",
            "InstanceNormalization": f"{out} = InstanceNormalization({now}, {ones}, {ones})",
            "Add": f"{out} = Add({now}, {now})",
            "Mul": f"{out} = Mul({now}, {one})",
            "Concat": f"{out} = Concat<axis=1>({now}, {now})",
            "Resize": f'{out} = Resize<mode="{rng.choice(("nearest", "linear"))}">({now}, , {weight(np.array([1, 1, 2, 2], np.float32))})',
            "Pad": f'{out} = Pad<mode="{rng.choice(("constant", "reflect"))}">({now}, {long})',
            "Transpose": f"{out} = Transpose<perm=[0,1,3,2]>({now})",
            "Reshape": f"t{i} = Reshape({now}, {weight(np.array([0, 0, -1, 1], np.int64))})\n {out} = Relu(t{i})",
            "Softmax": f"{out} = Softmax<axis={rng.choice((1, 2, -1))}>({now})",
            "ReduceMean": f"m{i} = ReduceMean<axes=[2,3]>({now})\n {out} = Mul({now}, m{i})",
            "GlobalMaxPool": f"m{i} = GlobalMaxPool({now})\n {out} = Mul({now}, m{i})",
            "DepthToSpace": f"{out} = DepthToSpace<blocksize={rng.choice((1, 2))}>({now})",
            "SpaceToDepth": f"{out} = SpaceToDepth<blocksize={rng.choice((1, 2))}>({now})",
            "Slice": f"{out} = Slice({now}, {weight(np.array([0], np.int64))}, {weight(np.array([2], np.int64))}, {weight(np.array([1], np.int64))})",
            "LRN": f"{out} = LRN<size=3>({now})",
            "Cast": f"{out} = Cast<to=1>({now})",
            "Clip": f"{out} = Clip({now}, {weight(np.float32(0))}, {weight(np.float32(6))})",
        }.get(step, f"{out} = {step}({now})")
        lines.append(text)
        now = out
        channels = {
            "Concat": 2 * channels,
            "DepthToSpace": None,
            "SpaceToDepth": None,
            "Slice": min(2, channels),
        }.get(step, channels)
        if channels is None:
            break
    body = "\n".join(lines)
    count = f"{now}g"
    fc = weight(numbers.normal(0, 1, (channels or wide, 4)).astype(np.float32))
    tail = rng.choice(("", "", "y = Sigmoid(scores)", "y = Softmax(scores)"))
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[n,3,{height},{width}] picture) => (float[n,4] {"y" if tail else "scores"}) {{'
        f"{body}\n {count} = GlobalAveragePool({now})\n f = Flatten({count})\n scores = Gemm(f, {fc})\n {tail} }}"
    )
    model = onnx.parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = place.inputs / "model.onnx"
    path.write_bytes(model.SerializeToString())
    export(place, path)


def graph(folder: Path, name: str) -> onnx.ModelProto:
    return onnx.load(folder / f"{name}.onnx", load_external_data=False)


def write(folder: Path, name: str, model: onnx.ModelProto) -> None:
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    rehash(folder)


@case(AREA, 2)
def outputs_changed(place: Place) -> None:
    """More, fewer or other outputs and inputs than the manifest promises."""
    folder = bundle(place)
    name = place.rng.choice(("extract", "mask", "apply", "predict", "fuse", "sketch"))
    model = graph(folder, name)
    values = place.rng.choice((model.graph.output, model.graph.input))
    change = place.rng.randrange(5)
    if change == 0:
        del values[place.rng.randrange(len(values))]
    elif change == 1:
        values.append(values[0])
    elif change == 2:
        place.rng.choice(values).name = "other"
    elif change == 3:
        place.rng.choice(values).type.tensor_type.elem_type = place.rng.choice((2, 7, 8, 10, 11))
    else:
        dims = place.rng.choice(values).type.tensor_type.shape.dim
        if dims:
            place.rng.choice(dims).dim_value = place.rng.choice((0, 1, 3, 10**6, 2**40))
    write(folder, name, model)
    explain(place, folder)


@case(AREA, 2)
def values_changed(place: Place) -> None:
    """Graphs whose answers are NaN, infinite, constant or far outside."""
    folder = bundle(place)
    name = place.rng.choice(("extract", "mask", "apply", "predict", "fuse"))
    model = graph(folder, name)
    output = place.rng.choice(model.graph.output)
    value = place.rng.choice((np.nan, np.inf, 0.0, 1e30, -1.0))
    for node in model.graph.node:
        node.output[:] = [f"{n}_before" if n == output.name else n for n in node.output]
        node.input[:] = [f"{n}_before" if n == output.name else n for n in node.input]
    if output.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        value = -1
    kind = onnx.helper.tensor_dtype_to_np_dtype(output.type.tensor_type.elem_type)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, kind), "strange"))
    operator = place.rng.choice(("Mul", "Add"))
    model.graph.node.append(
        onnx.helper.make_node(operator, [f"{output.name}_before", "strange"], [output.name])
    )
    write(folder, name, model)
    explain(place, folder)


@case(AREA, 1)
def data_elsewhere(place: Place) -> None:
    """A graph that takes its weights from a file outside of the bundle, or behind a link."""
    folder = bundle(place)
    secret = place.inputs / "secret"
    secret.write_bytes(bytes(range(256)) * 400)
    location = place.rng.choice(
        ("../secret", str(secret), "link", "manifest.json", "sub/../../secret", "..//secret", "/dev/zero", "")
    )
    if location == "link":
        (folder / "link").symlink_to("../secret")
    model = graph(folder, place.rng.choice(("extract", "predict")))
    name = "extract" if "extract" in model.graph.name or len(model.graph.output) > 3 else "predict"
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or place.rng.random() < 0.2:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.ClearField("raw_data")
            del tensor.external_data[:]
            tensor.external_data.add(key="location", value=location)
    write(folder, name, model)
    explain(place, folder)


BOMBS = {
    "loop": "float[1] o = Loop(most, yes, one) <body = b (int64 i, bool c, float[1] x) => (bool c2, float[1] y) "
    "{ c2 = Identity(c)\n y = Add(x, x) }>",
    "expand": "e = Expand(one, shape)\n o = ReduceSum<keepdims=1>(e)",
    "fill": "e = ConstantOfShape(shape)\n o = ReduceSum<keepdims=1>(e)",
    "gather": "o = Gather(one, far)",
}


@case(AREA, 1, alone=True)
def bomb(place: Place) -> None:
    """A bundle's graph that never ends, or that asks for any amount of memory."""
    folder = bundle(place)
    name = place.rng.choice(("extract", "predict", "mask"))
    key = place.rng.choice(("loop", "expand", "fill", "gather"))
    model = graph(folder, name)
    add = model.graph.node.add
    if key == "loop":
        body = onnx.parser.parse_graph(
            "b (int64 i, bool c, float[1] x) => (bool c2, float[1] y) { c2 = Identity(c)\n y = Add(x, x) }"
        )
        add().CopyFrom(onnx.helper.make_node("Loop", ["most", "yes", "one"], ["o"], body=body))
    elif key == "gather":
        add().CopyFrom(onnx.helper.make_node("Gather", ["one", "far"], ["o"]))
    else:
        add().CopyFrom(
            onnx.helper.make_node("Expand", ["one", "shape"], ["e"])
            if key == "expand"
            else onnx.helper.make_node("ConstantOfShape", ["shape"], ["e"])
        )
        add().CopyFrom(onnx.helper.make_node("ReduceSum", ["e"], ["o"], keepdims=1))
    values = {
        "most": np.array(2**62), "yes": np.array(True), "one": np.ones(1, np.float32), "far": np.array([2**40]),
        "shape": np.array([place.rng.choice((20_000, 60_000, 2**31)), 200_000]),
    }  # fmt: skip
    used = {n for node in model.graph.node for n in node.input}
    for value, array in values.items():
        if value in used:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, value))
    first = next(o for o in model.graph.output if o.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
    for node in model.graph.node:
        node.output[:] = [f"{n}_before" if n == first.name else n for n in node.output]
        node.input[:] = [f"{n}_before" if n == first.name else n for n in node.input]
    add().CopyFrom(onnx.helper.make_node("ReduceSum", ["o"], ["flat"], keepdims=0))
    add().CopyFrom(onnx.helper.make_node("Add", [f"{first.name}_before", "flat"], [first.name]))
    write(folder, name, model)
    from sise_ort.runtime.limits import Limits

    limits = Limits(load_seconds=20, load_memory=1 << 30, run_seconds=20)
    harmless = key in ("loop", "gather")  # what a kernel allocates cannot be bounded from outside
    explain(place, folder, limits=limits, trusted=harmless and place.rng.random() < 0.5)
