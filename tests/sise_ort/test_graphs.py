"""The walk over an ONNX file's bytes: the same facts as the onnx package, and refusals before onnxruntime sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sise_ort.bundle import open_bundle
from sise_ort.bundle.graphs import GraphError, read_graph
from sise_ort.bundle.phases import require_signature, signature
from sise_ort.bundle.wire import WireError, fields

LIMIT = 1 << 30


def proto(**changes: Any) -> onnx.ModelProto:
    """y = x + w with a weight w of 3 floats."""
    x, y = (oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in "xy")
    weight = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    graph = oh.make_graph([oh.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return oh.make_model(graph, **changes)


def outside(model: onnx.ModelProto, **where: object) -> onnx.ModelProto:
    """The same with its weight in another file."""
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in where.items():
        weight.external_data.add(key=key, value=str(value))
    return model


def read(model: onnx.ModelProto, largest: int = LIMIT, **sizes: int) -> Any:
    named = {name.replace("_", "."): size for name, size in sizes.items()}
    return read_graph(model.SerializeToString(), named, largest)


@pytest.mark.parametrize("phase", ["extract", "mask", "apply", "predict", "fuse", "sketch"])
def test_the_facts_are_those_of_the_onnx_package(tiny_bundle: Path, phase: str) -> None:
    facts = open_bundle(tiny_bundle).graphs[phase]
    model = onnx.load(tiny_bundle / f"{phase}.onnx", load_external_data=False)
    for found, values in ((facts.inputs, model.graph.input), (facts.outputs, model.graph.output)):
        assert [(s.name, s.dtype, s.shape) for s in found] == [
            (
                v.name,
                v.type.tensor_type.elem_type,
                tuple(d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim),
            )
            for v in values
        ]
    weights = [t for t in model.graph.initializer if t.external_data]
    assert [(e.name, e.shape, e.offset, e.length) for e in facts.external] == [
        (t.name, tuple(t.dims), *(int(e.value) for e in t.external_data if e.key in ("offset", "length")))
        for t in weights
    ]
    assert weights or phase not in ("extract", "predict")


def _subgraph(model: onnx.ModelProto) -> onnx.GraphProto:
    inner = onnx.GraphProto(name="inner")
    model.graph.node.add(op_type="If").attribute.add(name="then_branch", type=5).g.CopyFrom(inner)
    return model.graph.node[-1].attribute[0].g


def _external_attribute(model: onnx.ModelProto) -> None:
    tensor = model.graph.node.add(op_type="Constant").attribute.add(name="value", type=4).t
    tensor.CopyFrom(outside(proto(), location="weights.bin", length=12).graph.initializer[0])


def _deep(model: onnx.ModelProto) -> None:
    graph = model.graph
    for _ in range(20):
        graph = graph.node.add(op_type="If").attribute.add(name="then_branch", type=5).g


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: outside(m, location="../secret"), "'../secret', which is no file of the bundle"),
        (lambda m: outside(m, location="/etc/passwd"), "no file of the bundle"),
        (lambda m: outside(m), "takes weights from '', which is no file"),
        (lambda m: outside(m, location="weights.bin", offset=4, length=12), "from outside of 'weights.bin'"),
        (lambda m: outside(m, location="weights.bin", length=8), "from outside of 'weights.bin'"),
        (lambda m: outside(m, location="weights.bin", offset=-4), "does not say where"),
        (lambda m: outside(m, location="weights.bin", offset="0x0"), "does not say where"),
        (lambda m: outside(m, location="weights.bin", basepath="/"), "does not say where"),
        (lambda m: m.graph.initializer[0].external_data.add(key="location", value="weights.bin"), "that are no initializers"),
        (lambda m: _subgraph(m).initializer.add().CopyFrom(outside(proto(), location="weights.bin").graph.initializer[0]), "that are no initializers"),
        (_external_attribute, "that are no initializers"),
        (lambda m: m.graph.initializer[0].dims.append(10**9), "limit of 1073741824"),
        (lambda m: m.graph.initializer[0].dims.append(2), "another size than it has"),
        (lambda m: m.graph.initializer[0].dims.append(-1), "unknown type or shape"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 8), "unknown type or shape"),
        (lambda m: _subgraph(m).initializer.add(data_type=1, dims=[2**40]), "more than the limit"),
        (lambda m: m.graph.value_info.add().CopyFrom(oh.make_tensor_value_info("z", 1, [2**20, 2**20])), "declares 'z'"),
        (lambda m: setattr(m.graph.node[0], "domain", "evil"), "of the domain 'evil'"),
        (lambda m: setattr(_subgraph(m).node.add(op_type="X"), "domain", "evil"), "of the domain 'evil'"),
        (lambda m: m.opset_import.add(domain="evil", version=1), "of the domain 'evil'"),
        (lambda m: m.graph.node.add(op_type="EPContext", domain="com.microsoft"), "reads further files"),
        (lambda m: m.functions.add(name="f"), "holds functions"),
        (lambda m: m.training_info.add(), "holds functions or training"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse"),
        (lambda m: m.graph.input.append(m.graph.input[0]), "two inputs of one name"),
        (_deep, "nests more than 16"),
        (lambda m: m.ClearField("graph"), "has no graph"),
    ],
)  # fmt: skip
def test_graphs_that_are_refused(edit: Callable[[onnx.ModelProto], object], words: str) -> None:
    model = proto()
    edit(model)
    with pytest.raises(GraphError, match=words):
        read(model, weights_bin=12)


def test_weights_inside_their_file() -> None:
    (weight,) = read(outside(proto(), location="weights.bin", offset=4, length=12), weights_bin=16).external
    assert (weight.name, weight.dtype, weight.shape, weight.offset, weight.length) == ("w", 1, (3,), 4, 12)


def test_two_graphs_in_one_file_are_refused() -> None:
    """protobuf joins them: a second one could add weights that a walk over the first alone has not seen."""
    with pytest.raises(GraphError, match="twice"):
        read_graph(proto().SerializeToString() * 2, {}, LIMIT)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_files_end_in_one_error(data: st.DataObject) -> None:
    content = bytearray(outside(proto(), location="weights.bin", length=12).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = content[: data.draw(st.integers(0, len(content)))]
    for candidate in (content, cut):
        try:
            facts = read_graph(candidate, {"weights.bin": 12}, LIMIT)
        except GraphError:
            continue
        for weight in facts.external:
            assert weight.file == "weights.bin" and 0 <= weight.offset <= 12 - weight.length


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(content: bytes) -> None:
    try:
        rebuilt = sum(len(f.data) for f in fields(memoryview(content)))
    except WireError:
        return
    assert rebuilt <= len(content)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda g: g.output.pop(), "has no output 'confidence'"),
        (lambda g: g.output.append(oh.make_tensor_value_info("more", 1, [1])), "has an output 'more'"),
        (lambda g: g.input.append(oh.make_tensor_value_info("more", 1, [1])), "has an input 'more'"),
        (lambda g: g.output[0].CopyFrom(oh.make_tensor_value_info("scores", 1, ["n", 5])), r"'scores' that is \[None, 5\], not \['n', 4\]"),
        (lambda g: g.output[0].CopyFrom(oh.make_tensor_value_info("scores", 1, [7, 4])), "'scores' that is"),
        (lambda g: g.output[0].CopyFrom(oh.make_tensor_value_info("scores", 11, ["n", 4])), "'scores' that is not float32"),
        (lambda g: g.output[0].CopyFrom(oh.make_tensor_value_info("scores", 1, None)), "'scores' that is of open shape"),
        (lambda g: g.input[0].CopyFrom(oh.make_tensor_sequence_value_info("input", 1, None)), "'input' that is not float32"),
    ],
)  # fmt: skip
def test_signatures(tiny_bundle: Path, edit: Callable[[onnx.GraphProto], object], words: str) -> None:
    bundle = open_bundle(tiny_bundle)
    model = onnx.load(tiny_bundle / "predict.onnx", load_external_data=False)
    edit(model.graph)
    facts = read_graph(model.SerializeToString(), {"weights.bin": len(bundle.contents["weights.bin"])}, LIMIT)
    with pytest.raises(GraphError, match=words):
        require_signature(facts, signature(bundle.manifest, "predict"))
