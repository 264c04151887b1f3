"""How far rounding to float32 carries the numbers of a whole network: its graph in float64, exact and with seeded noise.

Errors of float32 kernels depend on the processor, the number of threads and the library's version. What a network makes of
errors of that size does not: it is a property of its graph, its weights and the picture. So a whole float32 network is
compared within the spread of RUNS runs in float64 in which every node's output is multiplied by 1 + u, u uniform within
± MULTIPLE · 2⁻²⁴ (2⁻²⁴ is half a unit in float32's last place). The multiple stands on the noise, not on its result, because a
gradient is no smooth function of it: a ReLU whose input is nearly 0 flips or does not, and must have had the chance to flip.
Bounds of the worst case are useless here: they exceed the numbers themselves by factors of 600 and more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gradcheck import Erf, relative
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = NDArray[Any]
RUNS = 8
MULTIPLE = 16
UNIT = 2.0**-24


def _windows(x: Array, kernel: Sequence[int], strides: Sequence[int], size: Sequence[int]) -> Any:
    """The parts of x [..., h, w] that meet each place of a kernel, as (row, column, part [..., *size])."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows, columns = (
                slice(start, start + (n - 1) * step + 1, step)
                for start, n, step in zip((i, j), size, strides, strict=True)
            )
            yield i, j, x[..., rows, columns]


class Conv(OpRun):
    """Conv place by place of its kernel, with matrix products over channels."""

    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None):  # type: ignore[no-untyped-def]  # fmt: skip
        assert auto_pad in (None, "NOTSET")
        group, strides, pads = group or 1, strides or [1, 1], pads or [0] * 4
        (down, right), kernel = dilations or [1, 1], w.shape[2:]
        x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
        wide = [(k - 1) * d + 1 for k, d in zip(kernel, (down, right), strict=True)]
        size = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], wide, strides, strict=True)]
        n, channels = x.shape[:2]
        x = x.reshape(n, group, channels // group, *x.shape[2:])
        w = w.reshape(group, w.shape[0] // group, *w.shape[1:])
        y = np.zeros((n, group, w.shape[1], size[0] * size[1]), x.dtype)
        for i, j, part in _windows(x, wide, strides, size):
            if i % down == 0 and j % right == 0:
                y += w[:, :, :, i // down, j // right] @ part.reshape(*x.shape[:3], -1)
        y = y.reshape(n, -1, *size)
        return (y if b is None else y + b.reshape(1, -1, 1, 1),)


class ConvTranspose(OpRun):
    """ConvTranspose from its definition: every input cell adds its kernel to the output."""

    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None, output_shape=None, pads=None, strides=None):  # type: ignore[no-untyped-def]  # fmt: skip
        assert not output_shape and auto_pad in (None, "NOTSET") and dilations in (None, [1, 1])
        group, strides, pads = group or 1, strides or [1, 1], pads or [0] * 4
        extra, kernel = output_padding or [0, 0], w.shape[2:]
        n, channels, *small = x.shape
        size = [(a - 1) * s + k + e for a, s, k, e in zip(small, strides, kernel, extra, strict=True)]
        x = x.reshape(n, group, channels // group, -1)
        w = w.reshape(group, channels // group, *w.shape[1:])
        y = np.zeros((n, group, w.shape[2], *size), x.dtype)
        for i, j, part in _windows(y, kernel, strides, small):
            part += (w[:, :, :, i, j].transpose(0, 2, 1) @ x).reshape(part.shape)
        y = y.reshape(n, -1, *size)[:, :, pads[0] : size[0] - pads[2], pads[1] : size[1] - pads[3]]
        return (y if b is None else y + b.reshape(1, -1, 1, 1),)


class MaxPool(OpRun):
    """MaxPool with Indices: the first of equal cells."""

    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, storage_order=None, strides=None):  # type: ignore[no-untyped-def]  # fmt: skip
        assert dilations in (None, [1, 1]) and not storage_order and auto_pad in (None, "NOTSET")
        strides, pads, lengths = strides or [1, 1], pads or [0] * 4, x.shape[2:]
        size = []
        for i, length in enumerate(lengths):
            room = length + pads[i] + pads[i + 2] - kernel_shape[i]
            count = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
            size.append(count - 1 if (count - 1) * strides[i] >= length + pads[i] else count)
        more = [max(0, (n - 1) * s + k - a - p) for n, s, k, a, p in zip(size, strides, kernel_shape, lengths, pads[:2], strict=True)]  # fmt: skip
        frame = ((0, 0), (0, 0), (pads[0], more[0]), (pads[1], more[1]))
        places = np.pad(np.arange(x.size).reshape(x.shape), frame)
        x = np.pad(x, frame, constant_values=-np.inf)
        best = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
        chosen = np.zeros(best.shape, np.int64)
        for (_, _, part), (_, _, place) in zip(
            _windows(x, kernel_shape, strides, size),
            _windows(places, kernel_shape, strides, size),
            strict=True,
        ):
            higher = part > best
            best, chosen = np.where(higher, part, best), np.where(higher, place, chosen)
        return best, chosen


class Sigmoid(OpRun):
    """1 / (1 + exp(-x)) without overflow (onnx.reference 1.23 overflows beyond ± 709)."""

    op_domain = ""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (np.exp(-np.logaddexp(0, -x)),)


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with doubles in place of floats: inputs, weights, constants and casts."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

    def widened(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == single:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    for tensor in model.graph.initializer:
        widened(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            assert attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
            if attribute.type == onnx.AttributeProto.TENSOR:
                widened(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == single:
                attribute.i = double
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == single:
            value.type.tensor_type.elem_type = double
    return model


class Float64:
    """An ONNX graph, evaluated node by node in float64.

    Parameters
    ----------
    model : ModelProto or path
        A float32 model; a path's external weights are read.
    """

    def __init__(self, model: onnx.ModelProto | Path) -> None:
        proto = in_float64(model if isinstance(model, onnx.ModelProto) else onnx.load(model))
        self._evaluator = ReferenceEvaluator(proto, new_ops=[Conv, ConvTranspose, MaxPool, Erf, Sigmoid])
        self._nodes = self._evaluator.rt_nodes_
        self._outputs = [value.name for value in proto.graph.output]
        uses = {name: place for place, node in enumerate(self._nodes) for name in node.input}
        self._last_use = {name: place for name, place in uses.items() if name not in self._outputs}

    def run(
        self,
        feeds: Mapping[str, Any],
        noise: float = 0.0,
        seed: int = 0,
        moved: Mapping[str, Array] | None = None,
        wanted: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Outputs by name.

        Parameters
        ----------
        feeds : inputs; float32 ones are widened.
        noise : every node's output is multiplied by 1 + u, u uniform within ± noise.
        seed : of that noise.
        moved : tensor names with what is added to them where they are computed.
        wanted : the outputs to compute; None takes all.
        """
        outputs = tuple(wanted or self._outputs)
        rng = np.random.default_rng(seed)
        known: dict[str, Any] = {"": None, **self._evaluator.rt_inits_}
        known |= {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
        for place, node in self._nodes_for(outputs):
            for name, value in zip(node.output, node.run(*(known[n] for n in node.input)), strict=False):
                if noise and value.dtype == np.float64:
                    value = value * (1 + noise * rng.uniform(-1, 1, value.shape))
                if moved and name in moved:
                    value = value + moved[name]
                known[name] = value
            for name in node.input:
                if self._last_use.get(name) == place and name in known and name:
                    del known[name]
        return {name: known[name] for name in outputs}

    @functools.cache  # noqa: B019 (a graph lives as long as its test)
    def _nodes_for(self, outputs: tuple[str, ...]) -> list[tuple[int, Any]]:
        needed, found = set(outputs), []
        for place, node in reversed(list(enumerate(self._nodes))):
            if needed.intersection(node.output):
                needed.update(node.input)
                found.append((place, node))
        return found[::-1]


class Rounding:
    """Limits for a float32 run of a graph on one feed, from noisy runs of the same graph in float64."""

    def __init__(self, graph: Float64, feeds: Mapping[str, Any]) -> None:
        self.exact = graph.run(feeds)
        self._noisy = [graph.run(feeds, MULTIPLE * UNIT, seed) for seed in range(RUNS)]

    def limit(self, name: str, of: Callable[[Array], Array] = lambda value: value) -> float:
        """The largest relative L2 error of an output that float32 explains: twice the largest of the noisy runs'.

        Parameters
        ----------
        name : the output.
        of : what is compared, where that is not the whole output.
        """
        exact = of(self.exact[name])
        return 2 * max(relative(of(noisy[name]), exact) for noisy in self._noisy)


def is_derivative(gradients: Array, value: Callable[[Array], Array], at: Array, step: float = 1e-8) -> bool:
    """Whether gradients [K, ...] are those of K values, by central differences in float64 along random directions.

    One direction must agree to 1e-4 of the size that such a derivative has. It may be the third: now and then a step
    crosses a kink, and there no difference is the derivative. A gradient that is wrong by 1 % fails along all three.

    Parameters
    ----------
    gradients : one per value.
    value : the K values for what is added to `at`.
    at : where the gradients are taken. Zeros stay (a ReLU put them there, and max pooling has ties among them).
    """
    for seed in range(3):
        v = np.random.default_rng(seed).normal(0, 1, at.shape) * (at != 0)
        v *= np.sqrt(np.mean(at**2))
        slopes = (value(step * v) - value(-step * v)) / (2 * step)
        expected = (gradients * v).reshape(len(gradients), -1).sum(1)
        sizes = np.linalg.norm((gradients * (v != 0)).reshape(len(gradients), -1), axis=1)
        if (np.abs(slopes - expected) < 1e-4 * sizes * np.linalg.norm(v) / np.sqrt(v.size)).all():
            return True
    return False
