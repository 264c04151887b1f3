"""full_gradient.onnx: from frame and questions to FullGrad's saliency, by the gradients of the input and of all biases.

Srinivas and Fleuret, Full-Gradient Representation for Neural Network Visualization, NeurIPS 2019 (arXiv 1905.00780).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.bundle import Head, InputSpec, Preprocessing
from sise_ort.errors import GradientError, option
from sise_ort.exporter.gradients import differentiate, nodes_between
from sise_ort.exporter.gradients.engine import describe
from sise_ort.exporter.layout import CHANNELS_FIRST, Axes, feature_axes
from sise_ort.exporter.ops import Ops, attribute, constant_array
from sise_ort.exporter.phases.graph import (
    finish,
    frame_input,
    network_input,
    network_outputs,
    question_inputs,
    read_outputs,
)
from sise_ort.formulas.resampling import upsample
from sise_ort.formulas.scaling import scale_unless_flat
from sise_ort.tasks import Task


def build_full_gradient(
    network: ir.Model, spec: InputSpec, preprocessing: Preprocessing, task: Task, head: Head
) -> ir.Model:
    """Build full_gradient.onnx.

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to the task's outputs; it is not changed.
    spec : InputSpec
        Frame that the graph takes.
    preprocessing : Preprocessing
        From pixel to network input.
    task : Task
        What the network's outputs are.
    head : Head
        From scores to confidences.

    Returns
    -------
    onnx_ir.Model

    Raises
    ------
    GradientError
        A bias is added where pictures and places share an axis, or an operator has no gradient.

    Notes
    -----
    Inputs: image [1, H, W, C], of the frame's type; the tensors of K questions (`Task.given`).

    Outputs: of class scores, scores [1, classes], of other tasks psi [K, 1] and score [K, 1]; saliency [K, H, W], Σ ψ(∇x ⊙ x) + Σ ψ(∇b ⊙ b) over all channels of the input and of every
    layer with a bias, where ψ takes absolute values, scales them to [0, 1] and upsamples; total [K], Σ ∇x·x + Σ ∇b·b, which is
    the class score itself where all activations are piecewise linear through 0 (the method's completeness).
    """
    graph = network.clone().graph
    source, answers = graph.inputs[0], network_outputs(graph, task, head)
    scores = answers["scores"]
    axes = feature_axes(graph)
    found = biases(graph)
    for value in found:
        node = value.producer()
        if node is not None and source.shape is not None and value.shape[0] != source.shape[0]:  # type: ignore[index]
            raise GradientError(
                f"{describe(node)} adds a bias to a tensor whose first axis is not the pictures' alone, so its map "
                f"cannot be told apart; leave out {option('graphs', ['full-gradient'])}"
            )
    image, given = frame_input(spec), question_inputs(task, head, "K")
    op = Ops(graph)
    seed = task.seed(op, head, scores, given, op.constant(0.0))
    gradients = differentiate(op, scores, seed, [source, *found])

    x = network_input(op, image, preprocessing)
    source.replace_all_uses_with(x)
    graph.inputs[:] = [image, *given.values()]
    own = op.Mul(gradients[0], x)
    terms = [_summed(op, own, 4)]
    by_size: dict[tuple[int, int], list[ir.Value]] = {(spec.height, spec.width): [_scaled(op, own)]}
    for (value, bias), gradient in zip(found.items(), gradients[1:], strict=True):
        term = op.Mul(gradient, op.constant(bias))
        terms.append(_summed(op, term, bias.ndim))
        size = _map_size(value, axes.get(value))
        if size is not None and size != (1, 1):  # a pooled vector has no places
            if axes[value] != CHANNELS_FIRST:
                term = op.Transpose(term, perm=[0, *axes[value]])
            by_size.setdefault(size, []).append(_scaled(op, term))
    maps = [upsample(op, _add(op, parts), spec.height, spec.width) for parts in by_size.values()]
    outputs, shapes = read_outputs(op, task, head, answers, given, ("K", 1))
    saliency = op.Squeeze(_add(op, maps), op.constant([1]))
    return finish(
        graph,
        {**outputs, "saliency": saliency, "total": _add(op, terms)},
        {**shapes, "saliency": ["K", spec.height, spec.width], "total": ["K"]},
    )


def biases(graph: ir.Graph) -> dict[ir.Value, NDArray[np.float64]]:
    """Find all biases between the picture and the scores: tensors, and the constant that was added to make each of them.

    Parameters
    ----------
    graph : onnx_ir.Graph
        In topological order.

    Returns
    -------
    dict of onnx_ir.Value to numpy.ndarray, float64
        The constant has the tensor's rank and broadcasts to its shape.

    Notes
    -----
    Biases of convolutions, dense layers and normalisations count, and constants in Add and Sub. A batch normalisation's is
    β - γ·μ/√(σ² + ε).
    """
    found = {}
    for node in nodes_between(graph.outputs[0], [graph.inputs[0]]):
        bias = _bias(node)
        value = node.outputs[0]
        if bias is not None and bias.any() and value.shape is not None:
            rank = len(value.shape)
            found[value] = bias.reshape((1,) * (rank - bias.ndim) + bias.shape)
    return found


def _bias(node: ir.Node) -> NDArray[np.float64] | None:
    def constant(index: int) -> NDArray[np.float64] | None:
        array = constant_array(node.inputs[index]) if index < len(node.inputs) else None
        return None if array is None else array.astype(np.float64)

    def along_channels(array: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        shape = node.outputs[0].shape
        if array is None or shape is None:
            return None
        return array.reshape(-1, *[1] * (len(shape) - 2))

    if node.op_type in ("Conv", "ConvTranspose", "InstanceNormalization"):
        return along_channels(constant(2))
    if node.op_type == "BatchNormalization":
        gamma, beta, mean, variance = (constant(i) for i in range(1, 5))
        if gamma is None or beta is None or mean is None or variance is None:
            return None
        return along_channels(beta - gamma * mean / np.sqrt(variance + attribute(node, "epsilon", 1e-5)))
    if node.op_type == "LayerNormalization":
        return constant(2)
    if node.op_type == "Gemm":
        offset = constant(2)
        return None if offset is None else attribute(node, "beta", 1.0) * offset
    if node.op_type in ("Add", "Sub"):
        left, right = constant(0), constant(1)
        if right is not None:
            return right if node.op_type == "Add" else -right
        return left
    return None


def _map_size(value: ir.Value, axes: Axes | None) -> tuple[int, int] | None:
    if axes is None or value.shape is None:
        return None
    height, width = value.shape[axes[1]], value.shape[axes[2]]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _scaled(op: Ops, term: ir.Value) -> ir.Value:
    """Absolute values [K, C, h, w] of a term, each channel scaled to [0, 1], summed over channels: [K, 1, h, w].

    A flat channel counts nothing: scaled, its rounding noise would weigh as much as any other channel.
    """
    size = op.Abs(term)
    scaled, _ = scale_unless_flat(op, size, [2, 3])
    summed: ir.Value = op.ReduceSum(scaled, [1], keepdims=1)
    return summed


def _summed(op: Ops, term: ir.Value, rank: int) -> ir.Value:
    summed: ir.Value = op.ReduceSum(term, list(range(1, rank)), keepdims=0)
    return summed


def _add(op: Ops, parts: list[ir.Value]) -> ir.Value:
    return op.Sum(*parts) if len(parts) > 1 else op.Identity(parts[0])
