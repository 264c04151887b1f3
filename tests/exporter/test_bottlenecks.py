"""The block rule where outputs have places, on graphs that are worked out by hand and against paths listed one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from gradcheck import graph_of

from sise_ort.errors import NoBlocksError
from sise_ort.exporter.blocks import candidates, choose_blocks, find_blocks
from sise_ort.exporter.bottlenecks import deep_bottlenecks, deepest_maps

SAME = "pads=[1,1,1,1]"
HALF = "pads=[1,1,1,1], strides=[2,2]"
POOL = "kernel_shape=[2,2], strides=[2,2]"
RESIZE = 'mode="linear", coordinate_transformation_mode="half_pixel"'


def w(outputs: int, inputs: int, side: int = 3) -> np.ndarray:  # type: ignore[type-arg]
    return np.ones((outputs, inputs, side, side))


def graph(body: str, *outputs: str, **params: Any) -> ir.Graph:
    """A graph x [n, 3, 64, 96] -> y, and the tensors of `outputs` as further outputs."""
    found = graph_of(body, params, ("n", 3, 64, 96), np.float32).graph
    values = {v.name: v for node in found for v in node.outputs}
    found.outputs.extend(values[name] for name in outputs)
    return found


def blocks(body: str, *outputs: str, **params: Any) -> list[tuple[str, int, int, int]]:
    found = find_blocks(graph(body, *outputs, **params), places=True)
    return [(c.tensor, c.channels, c.height, c.width) for c in found]


def u_net(depth: int) -> tuple[str, dict[str, Any]]:
    """Ronneberger's U-Net with `depth` poolings: two convolutions per level, skips by Concat, transposed convolutions."""
    lines, params, channels, skips, now = [], {}, 3, [], "x"

    def double(name: str, source: str, inputs: int, outputs: int) -> str:
        params.update({f"{name}_w": w(outputs, inputs), f"{name}_v": w(outputs, outputs)})
        lines.append(f"{name}_a = Conv<{SAME}>({source}, {name}_w)\n {name}_b = Relu({name}_a)")
        lines.append(f"{name}_c = Conv<{SAME}>({name}_b, {name}_v)\n {name} = Relu({name}_c)")
        return name

    for level in range(1, depth + 1):
        now = double(f"enc{level}", now, channels, 4 * level)
        channels = 4 * level
        skips.append((now, channels))
        lines.append(f"pool{level} = MaxPool<{POOL}>({now})")
        now = f"pool{level}"
    now = double("deep", now, channels, 4 * depth + 4)
    channels = 4 * depth + 4
    for skip, width in reversed(skips):
        params[f"up_{skip}_w"] = np.ones((channels, width, 2, 2))
        lines.append(f"up_{skip} = ConvTranspose<strides=[2,2]>({now}, up_{skip}_w)")
        lines.append(f"cat_{skip} = Concat<axis=1>({skip}, up_{skip})")
        now = double(f"dec_{skip}", f"cat_{skip}", 2 * width, width)
        channels = width
    params["last"] = w(2, channels, 1)
    return "\n ".join([*lines, f"y = Conv({now}, last)"]), params


def test_the_encoder_of_a_u_net() -> None:
    """The maps before each pooling, and the deepest: what the paper takes in a classifier."""
    body, params = u_net(3)
    assert blocks(body, **params) == [
        ("enc1", 4, 64, 96), ("enc2", 8, 32, 48), ("enc3", 12, 16, 24), ("deep", 16, 8, 12)
    ]  # fmt: skip
    # by the rule of classifiers, the skips leave nothing but the output itself
    assert [c.tensor for c in find_blocks(graph(body, **params))] == ["y"]


def test_what_lies_beside_the_deepest_map_is_no_candidate() -> None:
    body, params = u_net(2)
    found = {c.tensor: c.why_not for c in candidates(graph(body, **params), places=True)}
    assert list(found) == ["x", "enc1_a", "enc1_b", "enc1_c", "enc1", "pool1", "enc2_a", "enc2_b", "enc2_c", "enc2",
                           "pool2", "deep_a", "deep_b", "deep_c", "deep"]  # fmt: skip
    assert found["x"] == "before the first layer"
    assert found["pool1"] == found["pool2"] == "only pooled"


PYRAMID = (
    f"a = Conv<{HALF}>(x, wa)\n b = Conv<{HALF}>(a, wb)\n c = Conv<{HALF}>(b, wc)\n lc = Conv(c, side)\n"
    f"up = Resize<{RESIZE}>(lc, , scales)\n lb = Conv(b, side_b)\n sum = Add(lb, up)\n"
    f"down = Conv<{HALF}>(sum, wd)\n cat = Concat<axis=1>(down, lc)\n"
    "hb = Conv(sum, head)\n hc = Conv(cat, head_c)\n fb = Reshape(hb, flat)\n fc = Reshape(hc, flat)\n"
    "y = Concat<axis=2>(fb, fc)"
)
PYRAMID_WEIGHTS = {
    "wa": w(4, 3), "wb": w(5, 4), "wc": w(6, 5), "side": w(8, 6, 1), "side_b": w(8, 5, 1), "wd": w(7, 8),
    "scales": np.array([1, 1, 2, 2], np.float32), "head": w(9, 8, 1), "head_c": w(9, 15, 1), "flat": np.array([0, 9, -1])
}  # fmt: skip


def test_a_feature_pyramid_ends_before_its_first_upsampling() -> None:
    """YOLO's neck: down again by a strided convolution, to the size of the deepest map, behind an upsampling."""
    assert blocks(PYRAMID, **PYRAMID_WEIGHTS) == [("a", 4, 32, 48), ("b", 5, 16, 24), ("lc", 8, 8, 12)]


def test_heads_of_scores_and_of_boxes_part_behind_the_last_block() -> None:
    """SSD: a head of two layers for the scores, one for the boxes, at each of two scales."""
    body = (
        f"a = Conv<{HALF}>(x, wa)\n b = Conv<{HALF}>(a, wb)\n"
        "s1 = Conv(a, h1)\n s2 = Conv(b, h2)\n r2 = Relu(s2)\n q2 = Conv(r2, h3)\n"
        "f1 = Reshape(s1, flat)\n f2 = Reshape(q2, flat)\n y = Concat<axis=2>(f1, f2)\n"
        "b1 = Conv(a, h1)\n b2 = Conv(b, h2)\n g1 = Reshape(b1, flat)\n g2 = Reshape(b2, flat)\n boxes = Concat<axis=2>(g1, g2)"
    )
    params = {"wa": w(4, 3), "wb": w(5, 4), "h1": w(6, 4, 1), "h2": w(6, 5, 1), "h3": w(6, 6, 1),
              "flat": np.array([0, 6, -1])}  # fmt: skip
    assert blocks(body, "boxes", **params) == [("a", 4, 32, 48), ("b", 5, 16, 24)]
    # with the scores alone, their own hidden layer lies on every path through the deepest maps
    assert blocks(body, **params) == [("a", 4, 32, 48), ("r2", 6, 16, 24)]


def test_a_pooled_vector_that_is_repeated_is_no_upsampling() -> None:
    """Squeeze-and-excitation by broadcasting and by Expand leaves the map that it weighs a bottleneck; a vector that is
    resized (the pooled branch of an ASPP) ends the blocks before it."""
    squeeze = f"a = Conv<{HALF}>(x, wa)\n g = GlobalAveragePool(a)\n s = Conv(g, one)\n t = Sigmoid(s)\n"
    rest = "b = Conv(m, one)\n r = Relu(b)\n z = Conv(r, one)\n"
    rest += f"y = Resize<{RESIZE}>(z, , scales)"
    params = {"wa": w(4, 3), "one": w(4, 4, 1), "scales": np.array([1, 1, 2, 2], np.float32),
              "like": np.array([1, 4, 32, 48]), "wide": np.array([1, 1, 32, 48], np.float32)}  # fmt: skip
    assert blocks(f"{squeeze} m = Mul(a, t)\n {rest}", **params) == [("r", 4, 32, 48)]
    assert blocks(f"{squeeze} e = Expand(t, like)\n m = Mul(a, e)\n {rest}", **params) == [("r", 4, 32, 48)]
    resized = f"{squeeze} e = Resize<{RESIZE}>(t, , wide)\n m = Mul(a, e)\n {rest}"
    assert blocks(resized, **params) == [("a", 4, 32, 48)]


def test_upsampling_by_reshapes_is_seen() -> None:
    """A pixel shuffle in six axes, as torch writes it for some opsets."""
    body = (
        f"a = Conv<{HALF}>(x, wa)\n b = Conv<{HALF}>(a, wb)\n s = Reshape(b, six)\n t = Transpose<perm=[0,1,4,2,5,3]>(s)\n"
        "u = Reshape(t, four)\n m = Add(a, u)\n y = Conv(m, last)"
    )
    params = {"wa": w(4, 3), "wb": w(16, 4), "six": np.array([0, 4, 2, 2, 16, 24]), "four": np.array([0, 4, 32, 48]),
              "last": w(2, 4, 1)}  # fmt: skip
    assert blocks(body, **params) == [("a", 4, 32, 48), ("b", 16, 16, 24)]


def test_no_map_before_an_upsampling_says_so() -> None:
    body = f"u = Resize<{RESIZE}>(x, , scales)\n a = Conv<{SAME}>(u, wa)\n y = Conv(a, wb)"
    decoder = graph(body, scales=np.array([1, 1, 2, 2], np.float32), wa=w(4, 3), wb=w(2, 4))
    with pytest.raises(NoBlocksError, match=r"through the deepest maps before the first upsampling"):
        find_blocks(decoder, places=True)
    assert [c.tensor for c in choose_blocks(decoder, ["a"], places=True)] == ["a"]


# Against the definition -----------------------------------------------------------------------------------


def paths(found: ir.Graph) -> Iterator[list[ir.Value]]:
    """Every path from the image to an output, one by one."""

    def onward(value: ir.Value) -> Iterator[list[ir.Value]]:
        if value in found.outputs:
            yield [value]
        for node, _ in value.uses():
            for output in node.outputs:
                for rest in onward(output):
                    yield [value, *rest]

    yield from onward(found.inputs[0])


@pytest.mark.parametrize("seed", range(25))
def test_counted_paths_are_the_listed_ones(seed: int) -> None:
    """Random networks with skips, poolings and upsamplings at three sizes."""
    rng = np.random.default_rng(seed)
    lines, maps = [f"v0 = Conv<{HALF}>(x, stem)"], {0: ["v0"], 1: [], 2: []}
    params: dict[str, Any] = {"stem": w(4, 3), "k": w(4, 4), "scales": np.array([1, 1, 2, 2], np.float32)}
    for i in range(1, 12):
        level = int(rng.choice([k for k in maps if maps[k]]))
        source, name = str(rng.choice(maps[level])), f"v{i}"
        kind = rng.choice(["conv", "add", "down", "pool", "up"])
        if kind == "down" and level < 2:
            lines.append(f"{name} = Conv<{HALF}>({source}, k)")
        elif kind == "pool" and level < 2:
            lines.append(f"{name} = MaxPool<{POOL}>({source})")
        elif kind == "up" and level > 0:
            lines.append(f"{name} = Resize<{RESIZE}>({source}, , scales)")
        elif kind == "add":
            lines.append(f"{name} = Add({source}, {rng.choice(maps[level])})")
        else:
            lines.append(f"{name} = Conv<{SAME}>({source}, k)")
        size = level + {"down": level < 2, "pool": level < 2, "up": -(level > 0)}.get(str(kind), 0)
        maps[int(size)].append(name)
    ends = [names[-1] for names in maps.values() if names]
    for place, name in enumerate(ends):
        lines.append(f"o{place} = Conv<{SAME}>({name}, k)")
    found = graph("\n ".join([*lines, "y = Relu(o0)"]), *[f"o{p}" for p in range(1, len(ends))], **params)
    values = [found.inputs[0], *(v for node in found for v in node.outputs)]

    listed = list(paths(found))
    before = {v: {u for path in listed if v in path for u in path[: path.index(v)]} for v in values}
    behind = {v: {u for path in listed if v in path for u in path[path.index(v) + 1 :]} for v in values}
    made = {v: node.op_type for v in values if (node := v.producer()) is not None}
    free = [v for v in values if all(made.get(u) != "Resize" for u in before[v] | {v})]
    learned = [v for v in free if any(made.get(u) == "Conv" for u in before[v] | {v})]
    explained = {v for path in listed if path[-1] is found.outputs[0] for v in path}
    inner = [v for v in learned if v in explained and any(made.get(u) == "Conv" for u in behind[v])]
    smallest = min(v.shape[2] for v in inner)  # type: ignore[index, type-var]
    deepest = {v for v in inner if v.shape[2] == smallest}  # type: ignore[index]
    assert deepest_maps(found, list(found)) == deepest
    through = [path for path in listed if not deepest.isdisjoint(path)]
    ends_before = {v for d in deepest for v in before[d] | {d}}
    expected = [v for v in free if v in ends_before and all(v in path for path in through)]
    assert deep_bottlenecks(found) == expected
