"""Model files: any byte changed, cut, cyclic, absurd; files that are no models; external data that is elsewhere."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from fuzzing.cases import Place, case, judge_result
from fuzzing.manifests import mutated
from fuzzing.samples import tiny

AREA = "onnx"


def export(place: Place, path: Path, **options: Any) -> None:
    """Export it; what comes out must explain a picture."""
    import sise_ort

    place.freeze()
    sise_ort.export(path, place.out / "model.sise", **{"normalize": "tf", **options})
    with sise_ort.load(place.out / "model.sise", "cpu", batch_size=4) as explainer:
        judge_result(explainer.explain(place.samples / "pictures" / "strip.png"))


@case(AREA, 5)
def bytes_changed(place: Place) -> None:
    path = place.inputs / "model.onnx"
    path.write_bytes(mutated(place, (place.samples / "tiny.onnx").read_bytes()))
    export(place, path)


@case(AREA, 1)
def no_model(place: Place) -> None:
    """Text, an archive, a pointer of Git LFS, random bytes, nothing."""
    content = (place.samples / "tiny.onnx").read_bytes()
    texts = [
        b"", b"\0", b"\x08", b"not a model", b"<html>404</html>", b"\0" * 5000, place.rng.randbytes(3000), gzip.compress(content),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
        content[: place.rng.randrange(len(content))], content * 2, content[::-1], b"PK\x03\x04" + content,
    ]  # fmt: skip
    path = place.inputs / f"model{place.rng.choice(('.onnx', '.onnx', '.ONNX', '.pt', '.pth', '.txt', ''))}"
    path.write_bytes(place.rng.choice(texts))
    export(place, path)


@case(AREA, 1)
def strange_file(place: Place) -> None:
    path = place.inputs / "model.onnx"
    kind = place.rng.choice(
        ("nothing", "folder", "fifo", "loop", "device", "endless", "sparse", "long", "nul")
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/null")
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "sparse":
        with path.open("wb") as file:
            file.write((place.samples / "tiny.onnx").read_bytes())
            file.truncate(20 << 30)
    elif kind == "long":
        path = place.inputs / ("m" * 10_000 + ".onnx")
    elif kind == "nul":
        path = place.inputs / "a\0b.onnx"
    export(place, path)


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def cyclic(model: onnx.ModelProto, place: Place) -> None:
    model.graph.node[0].input[0] = "r3"


def input_missing(model: onnx.ModelProto, place: Place) -> None:
    place.rng.choice(model.graph.node).input[0] = "nowhere"


def name_twice(model: onnx.ModelProto, place: Place) -> None:
    place.rng.choice(model.graph.node).output[0] = place.rng.choice(("c1", "scores", "picture", "w1", ""))


def domain(model: onnx.ModelProto, place: Place) -> None:
    node = place.rng.choice(model.graph.node)
    node.domain = "com.acme"
    if place.rng.random() < 0.5:
        model.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))


def operator(model: onnx.ModelProto, place: Place) -> None:
    names = (
        "Nothing",
        "",
        "Loop",
        "If",
        "Scan",
        "Einsum",
        "NonZero",
        "Identity",
        "Softmax",
        "LSTM",
        "StringNormalizer",
        "A" * 9999,
    )
    place.rng.choice(model.graph.node).op_type = place.rng.choice(names)


def versions(model: onnx.ModelProto, place: Place) -> None:
    model.opset_import[0].version = place.rng.choice((0, -1, 1, 5, 9, 13, 99, 2**40))
    if place.rng.random() < 0.5:
        model.ir_version = place.rng.choice((0, 1, 3, 99, 2**40))


def input_size(model: onnx.ModelProto, place: Place) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    place.rng.choice(dims).dim_value = place.rng.choice((0, -1, 1, 2, 5, 10**6, 2**40, 2**62))


def tensor_size(model: onnx.ModelProto, place: Place) -> None:
    tensor = place.rng.choice(model.graph.initializer)
    tensor.dims[place.rng.randrange(len(tensor.dims))] = place.rng.choice((0, -1, 1, 7, 10**6, 2**40, 2**62))


def tensor_type(model: onnx.ModelProto, place: Place) -> None:
    place.rng.choice(model.graph.initializer).data_type = place.rng.choice(
        (0, 2, 6, 7, 8, 10, 11, 16, 17, 23, 99)
    )


def tensor_values(model: onnx.ModelProto, place: Place) -> None:
    tensor = place.rng.choice(model.graph.initializer)
    values = np.full(
        onnx.numpy_helper.to_array(tensor).shape,
        place.rng.choice((np.nan, np.inf, 0, 1e38, -1e-40)),
        np.float32,
    )
    tensor.raw_data = values.tobytes()


def attribute(model: onnx.ModelProto, place: Place) -> None:
    node = place.rng.choice([n for n in model.graph.node if n.attribute])
    found = place.rng.choice(node.attribute)
    change = place.rng.randrange(4)
    if change == 0:
        del found.ints[:]
        found.ints.extend(place.rng.choice(([], [0, 0], [-1, -1, -1, -1], [2**40] * 4, [1] * 100)))
    elif change == 1:
        found.type = place.rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 11))
    elif change == 2:
        node.attribute.append(found)
    else:
        node.attribute.append(onnx.helper.make_attribute("nothing", 3))


def names(model: onnx.ModelProto, place: Place) -> None:
    strange = place.rng.choice(
        (
            "a\x1b[31m",
            "x" * 10_000,
            "../../etc/passwd",
            "a\nb",
            "\u202e",
            "picture\0",
            "",
            " ",
            "猫",
            "image",
            "alpha",
        )
    )
    old = place.rng.choice(("c1", "r2", "picture", "scores"))
    for node in model.graph.node:
        node.input[:] = [strange if n == old else n for n in node.input]
        node.output[:] = [strange if n == old else n for n in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = strange if value.name == old else value.name


def empty(model: onnx.ModelProto, place: Place) -> None:
    part = place.rng.choice(("node", "input", "output", "initializer"))
    del getattr(model.graph, part)[:]


def no_graph(model: onnx.ModelProto, place: Place) -> None:
    model.ClearField(place.rng.choice(("graph", "opset_import", "ir_version")))


def deep(model: onnx.ModelProto, place: Place) -> None:
    """Conditions in conditions."""
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["r3"], ["i"])], "g", [], [onnx.ValueInfoProto(name="i")]
    )
    for level in range(place.rng.choice((3, 20, 30))):
        node = onnx.helper.make_node(
            "If", ["yes"], [f"o{level}"], then_branch=inner, else_branch=inner if level < 3 else None
        )
        inner = onnx.helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name=f"o{level}")])
    model.graph.initializer.append(onnx.helper.make_tensor("yes", 9, [], [True]))
    at = next(i for i, n in enumerate(model.graph.node) if n.op_type == "GlobalAveragePool")
    node = onnx.helper.make_node("If", ["yes"], ["deep"], then_branch=inner, else_branch=inner)
    model.graph.node.insert(at, node)
    model.graph.node[at + 1].input[0] = "deep"


def function(model: onnx.ModelProto, place: Place) -> None:
    """A function of the model that calls itself, or is called with too much."""
    node = onnx.helper.make_node(
        "F" if place.rng.random() < 0.5 else "Relu",
        ["a"],
        ["b"],
        domain="own" if place.rng.random() < 0.5 else "",
    )
    made = onnx.helper.make_function(
        "own",
        "F",
        ["a"],
        ["b"],
        [node],
        [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)],
    )
    model.functions.append(made)
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    target = next(n for n in model.graph.node if n.op_type == "Relu")
    target.op_type, target.domain = "F", "own"


CHANGES: list[Callable[[onnx.ModelProto, Place], None]] = [
    cyclic, input_missing, name_twice, domain, operator, versions, input_size, tensor_size, tensor_type, tensor_values, attribute,
    names, empty, no_graph, deep, function,
]  # fmt: skip


@case(AREA, 6)
def structure_changed(place: Place) -> None:
    model = tiny(place.rng.choice(("", "y = Sigmoid(scores)", "y = Softmax(scores)")))
    changes = place.rng.choices(CHANGES, k=place.rng.choice((1, 1, 1, 2)))
    for change in changes:
        try:
            change(model, place)
        except (IndexError, ValueError, StopIteration):  # the first change took what the second wanted
            continue
    path = place.inputs / "model.onnx"
    path.write_bytes(model.SerializeToString())
    export(place, path)


GIANTS = {
    "ConstantOfShape": "big = ConstantOfShape(shape)\n s = ReduceSum<keepdims=0>(big)\n r9 = Add(r3, s)",
    "Expand": "e = Expand(one, shape)\n s = ReduceSum<keepdims=0>(e)\n r9 = Add(r3, s)",
    "Tile": "t = Tile(one, shape)\n s = ReduceSum<keepdims=0>(t)\n r9 = Add(r3, s)",
    "Resize": "u = Resize(r3, , scales)\n r9 = MaxPool<kernel_shape=[1,1], strides=[60000,60000]>(u)",
    "Pad": "u = Pad(r3, pads)\n r9 = MaxPool<kernel_shape=[1,1], strides=[60000,60000]>(u)",
    "Range": "u = Range(zero, end, step)\n s = ReduceSum<keepdims=0>(u)\n r9 = Add(r3, s)",
    "Reshape": "r9 = Reshape(r3, shape)",
    "Gather": "r9 = Gather<axis=1>(r3, far)",
}


@case(AREA, 1, alone=True)
def giant(place: Place) -> None:
    """Small files that ask for terabytes."""
    key = place.rng.choice(sorted(GIANTS))
    text = onnx.printer.to_text(tiny())
    size = place.rng.choice((20_000, 200_000, 2**31))
    head, tail = text.split("GlobalAveragePool (r3)")
    cut = head.rindex("\n")
    model = onnx.parser.parse_model(f"{head[:cut]}\n{GIANTS[key]}\n{head[cut:]}GlobalAveragePool (r9){tail}")
    values = {
        "shape": np.array([size, size, 1, 1], np.int64), "one": np.ones((1, 1, 1, 1), np.float32),
        "scales": np.array([1, 1, size, size], np.float32), "pads": np.array([0, 0, size, size, 0, 0, size, size], np.int64),
        "zero": np.array(0.0, np.float32), "end": np.array(1e12, np.float32), "step": np.array(1e-3, np.float32),
        "far": np.array([size], np.int64),
    }  # fmt: skip
    used = {name for node in model.graph.node for name in node.input}
    have = {t.name for t in model.graph.initializer}
    for name, value in values.items():
        if name in used - have:
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path = place.inputs / "model.onnx"
    path.write_bytes(model.SerializeToString())
    export(place, path)


@case(AREA, 1)
def external_data(place: Place) -> None:
    """Weights that are missing, elsewhere, behind a link, too short, or no file."""
    model = tiny()
    path = place.inputs / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    data = place.inputs / "weights.bin"
    kind = place.rng.choice(
        ("sound", "missing", "short", "outside", "absolute", "link", "folder", "fifo", "offset", "pointer")
    )
    model = onnx.load(path, load_external_data=False)
    if kind == "missing":
        data.unlink()
    elif kind == "short":
        data.write_bytes(data.read_bytes()[:100])
    elif kind in ("outside", "absolute"):
        (place.folder / "in" / "sub").mkdir()
        secret = place.inputs / "secret"
        data.rename(secret)
        path = path.rename(place.inputs / "sub" / "model.onnx")
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../secret" if kind == "outside" else str(secret)
    elif kind == "link":
        data.rename(place.inputs / "secret")
        data.symlink_to("secret")
    elif kind in ("folder", "fifo"):
        data.unlink()
        data.mkdir() if kind == "folder" else os.mkfifo(data)
    elif kind == "pointer":
        data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n")
    elif kind == "offset":
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key in ("offset", "length"):
                    entry.value = place.rng.choice(("-1", "x", str(2**62), ""))
    path.write_bytes(model.SerializeToString())
    export(place, path)
