"""predict.onnx in integers: onnxruntime's quantiser, the first layers left in float, biases corrected."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from sise_ort.errors import ExportError, option
from sise_ort.runtime.providers.opening import open_foreign

FIRST_LAYERS = 0.15
"""Share of the network's multiplications that its first layers, left in float32, may have."""
LAYERS = ("Conv", "Gemm")
"""Operators whose bias is corrected, and of which the first stay in float32."""
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSwish", "Sigmoid")
"""Operators that stay in float32 with the layer before them."""

Inputs = Callable[[], Iterable[NDArray[np.float32]]]


def to_integers(path: Path, inputs: Inputs) -> None:
    """Quantise a network in its file.

    Weights per channel, in 7 bits, so that CPUs without VNNI do not saturate; activations unsigned, by their smallest and
    largest value. The first layers stay in float32: the rounding of the picture itself costs heat maps most.

    Parameters
    ----------
    path : Path
        A float32 network with one input, ``input`` of [N, C, H, W].
    inputs : callable
        Gives the calibration inputs, float32 [1, C, H, W], anew at each call.

    Raises
    ------
    ExportError
        The network is quantised already.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    network = onnx.load(path)
    if any(node.op_type == "QuantizeLinear" for node in network.graph.node):
        raise ExportError(
            f"the network is quantised already: export it without {option('precision', 'int8')}"
        )
    _complete(network)
    onnx.save(network, path)
    remaining = iter(inputs())

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            found = next(remaining, None)
            return None if found is None else {"input": found}

    quantised = path.with_name("quantised.onnx")
    with _quiet():
        quantize_static(
            path,
            quantised,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=first_layers(network),
        )
    lowered = onnx.load(quantised)
    correct_biases(network, lowered, _means(network, inputs()))
    onnx.save(lowered, path)
    quantised.unlink()


def first_layers(network: onnx.ModelProto) -> list[str]:
    """Names of the layers that come first, as far as they have the share FIRST_LAYERS of all multiplications.

    Parameters
    ----------
    network : onnx.ModelProto
        Every node has a name of its own.

    Returns
    -------
    list of str
        Of layers, and of the activations that follow them.
    """
    graph = onnx.shape_inference.infer_shapes(network).graph
    sizes = {
        value.name: [axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim[2:]]
        for value in [*graph.value_info, *graph.output]
    }
    weights = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in LAYERS]
    costs = [weights.get(node.input[1], 0) * np.prod(sizes.get(node.output[0], [])) for node in layers]
    shares = np.cumsum(costs) / max(sum(costs), 1)
    kept = [node for node, share in zip(layers, shares, strict=True) if share <= FIRST_LAYERS]
    outputs = {node.output[0] for node in kept}
    followers = [node for node in graph.node if node.op_type in ACTIVATIONS and node.input[0] in outputs]
    return [node.name for node in (*kept, *followers)]


def correct_biases(
    network: onnx.ModelProto, lowered: onnx.ModelProto, means: dict[str, NDArray[np.float64]]
) -> None:
    """Add to each bias what the rounding of the weights takes from the layer's mean.

    Parameters
    ----------
    network : onnx.ModelProto
        In float32; each layer with a name and a bias.
    lowered : onnx.ModelProto
        The same layers with weights and biases out of DequantizeLinear; changed in place.
    means : dict of str to float64 [C]
        The mean of each layer's input per channel, by the tensor's name.

    Notes
    -----
    b + (W - W') E[x], with W' the weights as they are dequantised (Nagel, van Baalen, Blankevoort, Welling: Data-Free
    Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.2; E[x] measured).
    """
    weights = {tensor.name: tensor for tensor in network.graph.initializer}
    layers = {node.name: node for node in network.graph.node if node.op_type in LAYERS}
    tensors = {tensor.name: tensor for tensor in lowered.graph.initializer}
    producers = {output: node for node in lowered.graph.node for output in node.output}
    uses = Counter(name for node in lowered.graph.node for name in node.input)
    for node in lowered.graph.node:
        layer = layers.get(node.name)
        weight, bias = (producers.get(name) for name in (*node.input, "", "")[1:3])
        if layer is None or weight is None or bias is None or layer.input[0] not in means:
            continue  # in float32, or of no computed input
        if uses[bias.input[0]] > 1:
            continue  # a bias that serves several layers
        own = numpy_helper.to_array(weights[layer.input[1]]).astype(np.float64)
        scale = numpy_helper.to_array(tensors[weight.input[1]]).astype(np.float64)
        rounded = numpy_helper.to_array(tensors[weight.input[0]]).astype(np.float64)
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if layer.op_type == "Gemm" and not attributes.get("transB", 0):
            own, rounded = own.T, rounded.T
        lost = own - rounded * scale.reshape(-1, *[1] * (own.ndim - 1))
        missing = _applied(
            lost.reshape(*own.shape[:2], -1).sum(2), means[layer.input[0]], attributes.get("group", 1)
        )
        unit = numpy_helper.to_array(tensors[bias.input[1]]).astype(np.float64)
        steps = numpy_helper.to_array(tensors[bias.input[0]]) + np.round(missing / unit)
        bound = np.iinfo(np.int32)
        corrected = np.clip(steps, bound.min, bound.max).astype(np.int32)
        tensors[bias.input[0]].CopyFrom(numpy_helper.from_array(corrected, bias.input[0]))


def _applied(weights: NDArray[np.float64], mean: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """What a layer with these weights [O, I/groups] makes of a constant input [I]: [O]."""
    outputs, inputs = weights.shape
    return np.einsum(
        "goi,gi->go", weights.reshape(groups, outputs // groups, inputs), mean.reshape(groups, -1)
    ).ravel()


def _means(network: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """The mean of every layer's input per channel, over the calibration inputs and places."""
    computed = {output for node in network.graph.node for output in node.output}
    names = sorted(computed & {node.input[0] for node in network.graph.node if node.op_type in LAYERS})
    seen = onnx.ModelProto()
    seen.CopyFrom(network)
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = open_foreign(seen.SerializeToString())
    sums: dict[str, Any] = dict.fromkeys([*names, "input"], 0.0)
    count = 0
    for x in inputs:
        count += len(x)
        for name, value in {"input": x, **session.run({"input": x}, fetch=names)[0]}.items():
            places = tuple(range(2, value.ndim))
            sums[name] = sums[name] + value.astype(np.float64).mean(places).sum(0)
    return {name: np.asarray(total) / max(count, 1) for name, total in sums.items()}


def _complete(network: onnx.ModelProto) -> None:
    """Give every node a name of its own, and every layer a bias."""
    weights = {tensor.name: tensor for tensor in network.graph.initializer}
    for number, node in enumerate(network.graph.node):
        node.name = f"{node.op_type}_{number}"
        if node.op_type in LAYERS and len(node.input) == 2 and node.input[1] in weights:
            dims = weights[node.input[1]].dims
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            length = dims[0] if node.op_type == "Conv" or transposed else dims[1]
            bias = numpy_helper.from_array(np.zeros(length, np.float32), f"{node.name}_bias")
            network.graph.initializer.append(bias)
            node.input.append(bias.name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser's advice to its own callers does not concern our users."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
