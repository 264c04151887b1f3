"""Parts that all phases share: a new graph, its inputs and outputs, and preprocessing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from sise_ort.bundle import Head, InputSpec, Preprocessing
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources.cleaning import IR_VERSION, OPSET
from sise_ort.tasks import Classes, Task

FLOAT, INT64, UINT8 = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.UINT8


def tensor_input(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """Make an input of a graph; strings in the shape name free dimensions."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))


def new_graph(name: str, inputs: Sequence[ir.Value]) -> ir.Graph:
    """Make an empty graph with these inputs."""
    return ir.Graph(inputs, [], nodes=[], opset_imports={"": OPSET}, name=name)


def finish(
    graph: ir.Graph, outputs: Mapping[str, ir.Value], shapes: Mapping[str, Sequence[int | str]]
) -> ir.Model:
    """Name a graph's outputs, sort its nodes and remove those that no output needs.

    Source tensors that clash with our input or output names are renamed.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Changed in place.
    outputs : mapping of str to onnx_ir.Value
        float32 outputs by name.
    shapes : mapping of str to sequence of int or str
        Shape of every output.

    Returns
    -------
    onnx_ir.Model
    """
    kept = {id(value) for value in (*outputs.values(), *graph.inputs)}
    ours = {*outputs, *(value.name for value in graph.inputs)}
    inside = [*graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    taken = {value.name for value in inside} | ours
    for value in inside:
        if value.name in ours and id(value) not in kept:
            value.name = next(n for i in itertools.count() if (n := f"{value.name}/{i}") not in taken)
            taken.add(value.name)
    for name, value in outputs.items():
        value.name = name
        value.shape = ir.Shape(list(shapes[name]))
        value.type = ir.TensorType(FLOAT)
    graph.outputs[:] = list(outputs.values())
    graph.sort()
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="sise-ort")
    ir.passes.Sequential(passes.CommonSubexpressionEliminationPass(), passes.RemoveUnusedNodesPass())(model)
    for name, value in zip(
        outputs, graph.outputs, strict=True
    ):  # elsewhere computed already, and taken from there
        value.shape = ir.Shape(list(shapes[name]))
        value.type = ir.TensorType(FLOAT)
    return model


def question_inputs(task: Task, head: Head, questions: int | str) -> dict[str, ir.Value]:
    """Make the inputs that say what is asked, for some number of questions (`Task.given`)."""
    return {
        name: tensor_input(name, ir.DataType(dtype), [questions, *shape])
        for name, (dtype, shape) in task.given(head).items()
    }


def network_outputs(graph: ir.Graph, task: Task, head: Head) -> dict[str, ir.Value]:
    """The network's outputs by the names of the task; confidences are none of them yet."""
    names = [name for name in task.outputs(head) if name != "confidence"]
    return dict(zip(names, graph.outputs, strict=True))


def read_outputs(
    op: Ops,
    task: Task,
    head: Head,
    outputs: Mapping[str, ir.Value],
    given: Mapping[str, ir.Value],
    shape: tuple[int | str, int | str],
) -> tuple[dict[str, ir.Value], dict[str, Sequence[int | str]]]:
    """What a graph says of the network's answer, with its shapes: class scores, or what questions read off other outputs.

    Parameters
    ----------
    op : Ops
    task : Task
    head : Head
    outputs : mapping of str to onnx_ir.Value
        The network's (`network_outputs`).
    given : mapping of str to onnx_ir.Value
        What is asked (`question_inputs`).
    shape : (K, n)
        Questions and network inputs.
    """
    if isinstance(task, Classes):
        return {"scores": outputs["scores"]}, {"scores": [shape[1], head.classes]}
    psi, score = task.read(op, head, outputs, given)
    return {"psi": psi, "score": score}, {"psi": shape, "score": shape}


def frame_input(spec: InputSpec) -> ir.Value:
    """Make the input `image`, a frame [1, H, W, C] as the camera gives it."""
    dtype = UINT8 if spec.frame_dtype == "uint8" else FLOAT
    return tensor_input("image", dtype, [1, spec.height, spec.width, spec.channels])


def network_input(op: Ops, image: ir.Value, preprocessing: Preprocessing) -> ir.Value:
    """Append preprocessing, (pixel - mean) / std.

    Parameters
    ----------
    op : Ops
    image : onnx_ir.Value [1, H, W, C]
        RGB or gray frame, 0 to 255.
    preprocessing : Preprocessing
        Channel order, mean and std that the network wants.

    Returns
    -------
    onnx_ir.Value, float32 [1, C, H, W]
    """
    x = image if image.dtype == FLOAT else op.Cast(image, to=FLOAT)
    x = op.Transpose(x, perm=[0, 3, 1, 2])
    if preprocessing.color == "bgr":
        x = op.Gather(x, op.constant([2, 1, 0]), axis=1)
    mean, std = (np.array(v).reshape(1, -1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    if mean.any():
        x = op.Sub(x, mean)
    if (std != 1).any():
        x = op.Div(x, std)
    return x if x is not image else op.Identity(x)
