"""Labels of axes against NumPy: whatever is called a map keeps every place of the picture where it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from gradcheck import graph_of

from sise_ort.exporter.axes import place_axis
from sise_ort.exporter.axis_rules import label_axes
from sise_ort.exporter.layout import feature_axes, map_axes

Graph = Callable[..., ir.Graph]
W = np.ones((4, 4, 1, 1))


def graph(body: str, **params: np.ndarray) -> ir.Graph:  # type: ignore[type-arg]
    return graph_of(body, params, ("n", 4, 8, 12), np.float32).graph


def axes_of_y(body: str, **params: np.ndarray) -> tuple[int, int, int] | None:  # type: ignore[type-arg]
    made = graph(body, **params)
    return feature_axes(made).get(made.outputs[0])


PATCHES = "a = Reshape(x, s1)\n b = Transpose<perm=[0,1,3,5,2,4]>(a)\n c = Reshape(b, s2)\n d = Relu(c)\n e = Reshape(d, s3)\n"
SHAPES = {
    "s1": np.array([0, 4, 4, 2, 3, 4]),
    "s2": np.array([0, 4, 8, 12]),
    "s3": np.array([0, 4, 2, 4, 4, 3]),
}


def test_patches_that_are_folded_back_are_maps_again() -> None:
    """[n, c, 8, 12] as 4 × 3 patches of 2 × 4 places: [n, c, places, patches] is no map, though it has its sizes."""
    made = graph(PATCHES + "f = Transpose<perm=[0,1,4,2,5,3]>(e)\n y = Reshape(f, s2)", **SHAPES)
    named = {v.name: axes for v, axes in feature_axes(made).items()}
    assert "c" not in named and "d" not in named
    assert named["y"] == (1, 2, 3)


def test_patches_that_are_folded_back_wrongly_are_no_maps() -> None:
    assert axes_of_y(PATCHES + "f = Transpose<perm=[0,1,5,2,4,3]>(e)\n y = Reshape(f, s2)", **SHAPES) is None


@pytest.mark.parametrize("operator", ["InstanceNormalization(c, one, one)", "Conv(c, w)", "LRN<size=3>(c)"])
def test_a_channels_first_operator_invents_no_axes(operator: str) -> None:
    body = PATCHES.split(" d = ")[0] + f" y = {operator}"
    assert axes_of_y(body, one=np.ones(4), w=W, **SHAPES) is None


def test_unfolding_by_gather_is_followed() -> None:
    """torch's unfold reads an axis by a table of indices."""
    rows = np.arange(8).reshape(4, 2).T  # [place in the patch, patch]
    body = "a = Gather<axis=2>(x, rows)\n t = Transpose<perm=[0,1,3,2,4]>(a)\n y = Reshape(t, whole)"
    made = graph(body, rows=rows, whole=np.array([0, 4, 8, 12]))
    assert feature_axes(made)[made.outputs[0]] == (1, 2, 3)


@pytest.mark.parametrize(
    ("body", "params", "expected"),
    [
        ("y = Transpose<perm=[0,2,3,1]>(x)", {}, (3, 1, 2)),
        ("y = Transpose<perm=[0,1,3,2]>(x)", {}, (1, 3, 2)),
        ("y = Transpose<perm=[2,1,0,3]>(x)", {}, None),
        ("y = DepthToSpace<blocksize=2>(x)", {}, (1, 2, 3)),
        ('y = DepthToSpace<blocksize=2, mode="CRD">(x)', {}, (1, 2, 3)),
        ("s = SpaceToDepth<blocksize=4>(x)\n y = Conv(s, v)", {"v": np.ones((4, 64, 1, 1))}, (1, 2, 3)),
        ("y = Reshape(x, s)", {"s": np.array([0, 4, 12, 8])}, None),
        ("y = Reshape(x, s)", {"s": np.array([0, 8, 12, 4])}, None),
        ("y = Gather<axis=3>(x, i)", {"i": np.arange(12)[::-1].copy()}, None),
        ("y = Gather<axis=3>(x, i)", {"i": np.arange(0, 12, 2)}, (1, 2, 3)),
        ("y = Gather<axis=1>(x, i)", {"i": np.array([2, 0, 1])}, (1, 2, 3)),
        ("a, b = Split<axis=2>(x, i)\n y = Relu(a)", {"i": np.array([4, 4])}, None),
        ("a, b = Split<axis=2>(x, i)\n y = Concat<axis=2>(b, a)", {"i": np.array([4, 4])}, None),
        ("a, b = Split<axis=1>(x, i)\n y = Concat<axis=1>(b, a)", {"i": np.array([2, 2])}, (1, 2, 3)),
        ("m = ReduceMean<keepdims=0>(x, i)\n y = Mul(x, m)", {"i": np.array([0, 1])}, (1, 2, 3)),
    ],
)  # fmt: skip
def test_what_carries_places_on(
    body: str,
    params: dict[str, np.ndarray],
    expected: tuple[int, int, int] | None,  # type: ignore[type-arg]
) -> None:
    assert axes_of_y(body, **params) == expected


def rearranged(rng: np.random.Generator, shape: list[int]) -> tuple[str, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    """Reshapes and Transposes of x, undone in reverse order, two in three with a mistake that keeps the shapes."""
    dims, undo, lines, params = [1, *shape], [], [], {}

    def reshape(to: list[int]) -> None:
        params[f"s{len(lines)}"] = np.array([0, *to[1:]])
        lines.append(f"t{len(lines)} = Reshape({{source}}, s{len(lines)})")

    def transpose(order: list[int]) -> None:
        lines.append(f"t{len(lines)} = Transpose<perm=[{','.join(map(str, order))}]>({{source}})")

    for _ in range(2):
        undo.append(("reshape", dims))
        dims = [
            1,
            *(int(f) for d in dims[1:] for f in ([2, d // 2] if d > 2 and rng.random() < 0.7 else [d])),
        ]
        reshape(dims)
        order = [0, *(1 + rng.permutation(len(dims) - 1))]
        undo.append(("transpose", [int(i) for i in np.argsort(order)]))
        dims = [dims[i] for i in order]
        transpose(order)
    wrong = int(rng.integers(0, 3))
    for step, (what, given) in enumerate(undo[::-1]):
        if what == "reshape":
            dims = given
            reshape(dims)
            continue
        if step == 2 * wrong:  # 4 is beyond the last: no mistake
            pairs = [(i, j) for i in range(1, len(dims)) for j in range(1, i) if dims[i] == dims[j]]
            for i, j in pairs[: int(rng.integers(0, 2))]:
                given = [{i: j, j: i}.get(axis, axis) for axis in given]
        dims = [dims[i] for i in given]
        transpose(given)
    transpose([0, *(int(i) for i in 1 + rng.permutation(3))])
    body = "\n".join(line.format(source=f"t{i - 1}" if i else "x") for i, line in enumerate(lines))
    return f"{body}\n y = Identity(t{len(lines) - 1})", params


@pytest.mark.parametrize("seed", range(80))
def test_random_rearrangements(seed: int) -> None:
    """A map in the end exactly where rows and columns are in order.

    The picture holds the number of its row (or column); a tensor is a map if these numbers count up along one axis and
    are constant along all others.
    """
    shape = [2, 4, 8]  # small powers of two, so that mistakes keep the shapes
    body, params = rearranged(np.random.default_rng(seed), shape)
    made = graph_of(body, params, (1, *shape), np.float32)
    found = map_axes(label_axes(made.graph)[made.graph.outputs[0]])
    session = onnxruntime.InferenceSession(
        ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    _, row, column = np.meshgrid(*map(np.arange, shape), indexing="ij")
    name = session.get_inputs()[0].name
    read = {
        what: session.run(None, {name: numbers[None].astype(np.float32)})[0]
        for what, numbers in (("row", row), ("column", column))
    }
    truth = None
    if read["row"].ndim == 4:
        places = [_axis_of(read["row"], shape[1]), _axis_of(read["column"], shape[2])]
        if None not in places and places[0] != places[1]:
            truth = (6 - sum(places), *places)  # type: ignore[arg-type]
    assert found == truth


def _axis_of(numbers: np.ndarray, length: int) -> int | None:  # type: ignore[type-arg]
    """The axis (behind the first) along which an array counts up to its length."""
    for axis in range(1, numbers.ndim):
        shape = [1] * numbers.ndim
        shape[axis] = numbers.shape[axis]
        if numbers.shape[axis] == length and np.array_equal(
            numbers, np.broadcast_to(np.arange(length).reshape(shape), numbers.shape)
        ):
            return axis
    return None


def test_a_finer_and_a_coarser_axis_span_the_picture() -> None:
    made = graph("y = Resize(x, , scales)", scales=np.array([1, 1, 2, 0.5], np.float32))
    labels = label_axes(made)[made.outputs[0]]
    assert labels is not None
    assert [place_axis(label) for label in labels] == [None, None, "height", "width"]


STRIPS = """
 rows = ReduceMean<keepdims=1>(x, three)
 columns = ReduceMean<keepdims=1>(x, two)
 turned = Transpose<perm=[0,1,3,2]>(columns)
 strips = Concat<axis=2>(rows, turned)
 mixed = Conv(strips, w)
 s = Relu(mixed)
"""
STRIP_CONSTANTS = {"two": np.array([2]), "three": np.array([3]), "w": W, "sizes": np.array([8, 12])}
SLICES = {"zero": np.array([0]), "eight": np.array([8]), "end": np.array([2**62]), "minus": np.array([-12])}


@pytest.mark.parametrize(
    ("cut", "is_map"),
    [("a, b = Split<axis=2>(s, sizes)", True),
     ("a = Slice(s, zero, eight, two)\n b = Slice(s, minus, end, two)", True),
     ("b0, a0 = Split<axis=2>(s, turned_sizes)\n a = Slice(a0, zero, eight, two)\n b = Pad(b0, pads)", False)],
)  # fmt: skip
def test_strips_that_are_put_side_by_side_and_cut_apart(cut: str, is_map: bool) -> None:
    """Coordinate attention: rows before columns, cut where they meet, are rows and columns again; elsewhere they are not."""
    more = {"turned_sizes": np.array([12, 8]), "pads": np.zeros(8, np.int64)}
    more = {k: v for k, v in {**STRIP_CONSTANTS, **SLICES, **more}.items() if k in STRIPS + cut}
    body = STRIPS + f" {cut}\n t = Transpose<perm=[0,1,3,2]>(b)\n g = Mul(x, a)\n y = Mul(g, t)"
    assert axes_of_y(body, **more) == ((1, 2, 3) if is_map else None)


def test_a_window_over_the_seam_of_two_strips_mixes_them() -> None:
    body = STRIPS.replace("Conv(strips, w)", "Conv<pads=[1,0,1,0]>(strips, w)")
    body += " a, b = Split<axis=2>(s, sizes)\n y = Mul(x, a)"
    assert axes_of_y(body, **{**STRIP_CONSTANTS, "w": np.ones((4, 4, 3, 1))}) is None
