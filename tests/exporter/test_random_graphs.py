"""Random graphs of 3 to 12 operators: their gradients against finite differences, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck import graph_of, run_reference, with_gradient
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sise_ort.exporter.gradients import RULES
from sise_ort.exporter.gradients.engine import Rule

Shape = tuple[int, int, int]

SMOOTH = ["Sigmoid", "Tanh", "Softplus", "Sin", "Cos", "Erf", "Softsign", "Mish", "Neg", "Identity"]
KINKED = ["Relu", "Abs", "LeakyRelu<alpha=0.25>", "Elu<alpha=0.5>", "HardSigmoid<alpha=0.25, beta=0.5>",
          "Selu<alpha=1.5, gamma=1.25>", "ThresholdedRelu<alpha=0.5>"]  # fmt: skip
POSITIVE = ["Log", "Sqrt", "Reciprocal"]  # behind exp(tanh(x))
ALONG = ["Softmax<axis={}>", "LogSoftmax<axis={}>", "LpNormalization<axis={}>"]
REDUCED = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
           "ReduceLogSumExp", "ReduceProd"]  # fmt: skip
PAIRS = ["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"]
WINDOWS = ["MaxPool", "AveragePool", "LpPool"]
SPECIAL = ["Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "Clip", "PRelu",
           "Exp", "Pow", "Div", "Where", "GlobalAveragePool", "GlobalMaxPool", "Transpose", "Slice", "Pad", "Gather",
           "Concat", "Split", "Tile", "Expand", "Reshape", "Squeeze", "MatMul", "Einsum", "Resize", "DepthToSpace",
           "SpaceToDepth"]  # fmt: skip
KINDS = [*SMOOTH, *KINKED, *POSITIVE, *ALONG, *REDUCED, *PAIRS, *WINDOWS, *SPECIAL]


class Builder:
    """Writes a graph line by line; every tensor is [n, *shape]."""

    def __init__(self, draw: Any, shape: Shape) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.params: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {"x": shape}
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def line(self, call: str, shape: Shape, outputs: str = "{}") -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{outputs.format(name)} = {call}")
        self.shapes[name] = shape
        return name

    def param(self, array: Any) -> str:
        name = f"p{len(self.params)}"
        self.params[name] = np.asarray(array)
        return name

    def weights(self, *shape: int, low: float = -1.0) -> str:
        return self.param(self.rng.uniform(low, 1.0, shape))

    def add(self, kind: str, x: str) -> str:
        c, h, w = shape = self.shapes[x]
        if kind in SMOOTH or kind in KINKED:
            return self.line(f"{kind}({x})", shape)
        if kind in POSITIVE:
            inner = self.line(f"Tanh({x})", shape)
            return self.line(f"{kind}({self.line(f'Exp({inner})', shape)})", shape)
        if kind in ALONG:
            inner = self.exp(x, c, h, w) if kind.startswith("Lp") else x  # the norm of nothing but zeros is 0
            return self.line(f"{kind.format(self.draw(st.integers(1, 3)))}({inner})", shape)
        if kind in REDUCED:
            axes = self.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True))
            kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape, 1))
            inner = self.line(f"Tanh({x})", shape)
            return self.line(f"{kind}({inner}, {self.param(sorted(axes))})", kept)  # type: ignore[arg-type]
        if kind in PAIRS:
            other = self.draw(st.sampled_from([n for n, s in self.shapes.items() if s in (shape, (c, 1, 1))]))
            return self.line(f"{kind}({x}, {other})", shape)
        if kind in WINDOWS:
            side = self.draw(st.integers(1, min(3, h, w)))
            step = self.draw(st.integers(1, 2))
            pads = "" if side == 1 or kind == "LpPool" else ", pads=[1,1,1,1]"
            grown = 2 if pads else 0
            size = [(n + grown - side) // step + 1 for n in (h, w)]
            return self.line(
                f"{kind}<kernel_shape=[{side},{side}], strides=[{step},{step}]{pads}>({x})", (c, *size)
            )  # type: ignore[arg-type]
        return getattr(self, kind.lower())(x, c, h, w)  # type: ignore[no-any-return]

    def conv(self, x: str, c: int, h: int, w: int) -> str:
        group = self.draw(st.sampled_from([g for g in (1, 2, c) if c % g == 0]))
        side, step = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2))
        spread = self.draw(st.integers(1, 2)) if min(h, w) > 2 else 1
        span = spread * (side - 1) + 1
        size = [(n + 2 - span) // step + 1 for n in (h, w)]
        if min(size) < 1:
            return self.line(f"Neg({x})", (c, h, w))
        outputs = group * self.draw(st.integers(1, 2))
        weights = self.weights(outputs, c // group, side, side)
        options = f"group={group}, strides=[{step},{step}], dilations=[{spread},{spread}], pads=[1,1,1,1]"
        return self.line(f"Conv<{options}>({x}, {weights})", (outputs, *size))  # type: ignore[arg-type]

    def convtranspose(self, x: str, c: int, h: int, w: int) -> str:
        side, step = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2))
        size = [(n - 1) * step + side for n in (h, w)]
        return self.line(
            f"ConvTranspose<strides=[{step},{step}]>({x}, {self.weights(c, 2, side, side)})", (2, *size)
        )  # type: ignore[arg-type]

    def batchnormalization(self, x: str, c: int, h: int, w: int) -> str:
        scale, bias, mean = (self.weights(c) for _ in range(3))
        return self.line(
            f"BatchNormalization({x}, {scale}, {bias}, {mean}, {self.weights(c, low=0.25)})", (c, h, w)
        )

    def instancenormalization(self, x: str, c: int, h: int, w: int) -> str:
        options = "epsilon=0.25"
        return self.line(
            f"InstanceNormalization<{options}>({x}, {self.weights(c)}, {self.weights(c)})", (c, h, w)
        )

    def layernormalization(self, x: str, c: int, h: int, w: int) -> str:
        axis = self.draw(st.integers(1, 3))
        scale = self.weights(*(c, h, w)[axis - 1 :])
        return self.line(f"LayerNormalization<axis={axis}, epsilon=0.25>({x}, {scale})", (c, h, w))

    def clip(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"Clip({x}, {self.param(-0.5)}, {self.param(0.75)})", (c, h, w))

    def prelu(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"PRelu({x}, {self.weights(c, 1, 1)})", (c, h, w))

    def exp(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"Exp({self.line(f'Tanh({x})', (c, h, w))})", (c, h, w))

    def pow(self, x: str, c: int, h: int, w: int) -> str:
        inner = self.line(f"Tanh({x})", (c, h, w))
        return self.line(f"Pow({inner}, {self.param(np.float64(self.draw(st.integers(1, 4))))})", (c, h, w))

    def div(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"Div({x}, {self.exp(x, c, h, w)})", (c, h, w))

    def where(self, x: str, c: int, h: int, w: int) -> str:
        hidden = self.param(self.rng.uniform(0, 1, (c, h, w)) > 0.5)
        return self.line(f"Where({hidden}, {x}, {self.line(f'Sin({x})', (c, h, w))})", (c, h, w))

    def globalaveragepool(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"GlobalAveragePool({x})", (c, 1, 1))

    def globalmaxpool(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"GlobalMaxPool({x})", (c, 1, 1))

    def transpose(self, x: str, c: int, h: int, w: int) -> str:
        perm = self.draw(st.permutations([1, 2, 3]))
        shape = tuple((c, h, w)[p - 1] for p in perm)
        return self.line(f"Transpose<perm=[0,{','.join(map(str, perm))}]>({x})", shape)  # type: ignore[arg-type]

    def slice(self, x: str, c: int, h: int, w: int) -> str:
        axis, step = self.draw(st.integers(1, 3)), self.draw(st.sampled_from([1, 2, -1]))
        shape = [c, h, w]
        start, end = (0, 99) if step > 0 else (-1, -99)
        shape[axis - 1] = len(range(shape[axis - 1])[::step])
        bounds = ", ".join(self.param([v]) for v in (start, end, axis, step))
        return self.line(f"Slice({x}, {bounds})", tuple(shape))  # type: ignore[arg-type]

    def pad(self, x: str, c: int, h: int, w: int) -> str:
        mode = self.draw(st.sampled_from(["constant", "edge", "reflect"])) if min(h, w) > 1 else "constant"
        call = f'Pad<mode="{mode}">({x}, {self.param([0, 0, 1, 0, 0, 0, 1, 1])})'
        return self.line(call, (c, h + 2, w + 1))

    def gather(self, x: str, c: int, h: int, w: int) -> str:
        axis = self.draw(st.integers(1, 3))
        shape = [c, h, w]
        picked = self.draw(st.lists(st.integers(0, shape[axis - 1] - 1), min_size=1, max_size=4))
        shape[axis - 1] = len(picked)
        return self.line(f"Gather<axis={axis}>({x}, {self.param(picked)})", tuple(shape))  # type: ignore[arg-type]

    def concat(self, x: str, c: int, h: int, w: int) -> str:
        other = self.draw(st.sampled_from([n for n, s in self.shapes.items() if s[1:] == (h, w)]))
        return self.line(f"Concat<axis=1>({x}, {other})", (c + self.shapes[other][0], h, w))

    def split(self, x: str, c: int, h: int, w: int) -> str:
        if c < 2:
            return self.line(f"Neg({x})", (c, h, w))
        sizes = self.param([1, c - 1])
        return self.line(f"Split<axis=1>({x}, {sizes})", (c - 1, h, w), "unused{0}, {0}")

    def tile(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"Tile({x}, {self.param([1, 2, 1, 2])})", (2 * c, h, 2 * w))

    def expand(self, x: str, c: int, h: int, w: int) -> str:
        pooled = self.globalaveragepool(x, c, h, w)
        return self.line(f"Expand({pooled}, {self.param([1, c, 2, 3])})", (c, 2, 3))

    def reshape(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f"Reshape({x}, {self.param([0, -1, c, 1])})", (h * w, c, 1))

    def squeeze(self, x: str, c: int, h: int, w: int) -> str:
        pooled = self.line(f"ReduceMean({x}, {self.param([2])})", (c, 1, w))
        flat = self.line(f"Squeeze({pooled}, {self.param([2])})", (c, 1, w))
        return self.line(f"Unsqueeze({flat}, {self.param([3])})", (c, w, 1))

    def matmul(self, x: str, c: int, h: int, w: int) -> str:
        if self.draw(st.booleans()):
            return self.line(f"MatMul({x}, {self.weights(w, 2)})", (c, h, 2))
        turned = self.line(f"Transpose<perm=[0,1,3,2]>({x})", (c, w, h))
        return self.line(f"MatMul({x}, {turned})", (c, h, h))

    def einsum(self, x: str, c: int, h: int, w: int) -> str:
        return self.line(f'Einsum<equation="nchw,cd->nhdw">({x}, {self.weights(c, 2)})', (h, 2, w))

    def resize(self, x: str, c: int, h: int, w: int) -> str:
        mode = self.draw(st.sampled_from(["nearest", "linear"]))
        options = (
            f'mode="{mode}", coordinate_transformation_mode="asymmetric", nearest_mode="floor", axes=[2,3]'
        )
        return self.line(f"Resize<{options}>({x}, , , {self.param([2 * h, w + 1])})", (c, 2 * h, w + 1))

    def depthtospace(self, x: str, c: int, h: int, w: int) -> str:
        wide = self.line(f"Tile({x}, {self.param([1, 4, 1, 1])})", (4 * c, h, w))
        mode = self.draw(st.sampled_from(["DCR", "CRD"]))
        return self.line(f'DepthToSpace<blocksize=2, mode="{mode}">({wide})', (c, 2 * h, 2 * w))

    def spacetodepth(self, x: str, c: int, h: int, w: int) -> str:
        even = self.line(f"Tile({x}, {self.param([1, 1, 2, 2])})", (c, 2 * h, 2 * w))
        return self.line(f"SpaceToDepth<blocksize=2>({even})", (4 * c, h, w))


@st.composite
def graphs(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 5)), draw(st.integers(2, 5)))
    builder = Builder(draw, shape)
    count, name = draw(st.integers(3, 12)), "x"
    while len(builder.lines) < count:
        if np.prod(builder.shapes[name]) > 400:
            name = builder.globalaveragepool(name, *builder.shapes[name])
        else:
            name = builder.add(draw(st.sampled_from(KINDS)), name)
    builder.lines.append(f"y = Identity({name})")
    return "\n ".join(builder.lines), builder.params, shape


def check(graph: tuple[str, dict[str, Any], Shape], seed: int) -> None:
    """Two pictures at once, each with its own seed; along the gradient itself and a random direction."""
    body, params, shape = graph
    model = with_gradient(graph_of(body, params, ("n", *shape)))
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (2, *shape))
    dims = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim][1:]
    weights = rng.normal(0, 1, (2, *dims))

    def outputs(x: Any) -> list[Any]:
        return run_reference(model, {"x": x, "seed": weights})

    gradient = outputs(x)[1]
    random = rng.normal(0, 1, x.shape)
    step, size = 1e-6, float(np.linalg.norm(gradient))
    for direction in (random / np.linalg.norm(random), gradient / max(size, 1e-30)):
        above, below = (outputs(x + sign * step * direction)[0] for sign in (1, -1))
        slope = ((above - below) * weights).sum() / (2 * step)
        assert abs(slope - (gradient * direction).sum()) < 1e-5 * size + 1e-8 * np.abs(weights).sum(), body


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(graphs(), SEEDS)
def test_random_graphs(graph: tuple[str, dict[str, Any], Shape], seed: int) -> None:
    check(graph, seed)


@pytest.mark.parametrize("name", ["Conv", "Tanh", "Concat", "ReduceMean"])
def test_a_rule_wrong_by_a_hundredth_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = RULES["", name]

    def wrong(op: Any, node: Any, *gradients: Any) -> Any:
        returned = right.function(op, node, *gradients)
        several = returned if isinstance(returned, (tuple, list)) else [returned]
        return [g if g is None else op.Mul(g, 1.01) for g in several]

    monkeypatch.setitem(RULES, ("", name), Rule(wrong, right.broadcasts))
    plain = settings(
        max_examples=500, deadline=None, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises(AssertionError):
        plain(given(graphs(), SEEDS)(check))()


def test_the_generator_knows_most_rules() -> None:
    named = {kind.split("<")[0] for kind in KINDS}
    table = {op for domain, op in RULES if domain == ""}
    assert named <= table
    assert len(named) > 0.75 * len(table)
