"""Formulas: NumPy and the ONNX graph compute the same; and each against a case worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference
import onnx_ir as ir
import onnxruntime
import pytest
import reference_sise
from numpy.typing import NDArray

from sise_ort.exporter.ops import Ops
from sise_ort.formulas import (
    confidence,
    detection,
    fitting,
    fusion,
    likeness,
    masks,
    otsu,
    region,
    resampling,
    scaling,
    seed,
    selection,
    sketch,
    weights,
)
from sise_ort.formulas.numpy_ops import NumpyOps

Array = NDArray[Any]
Formula = Callable[..., Any]
OP = NumpyOps()


def graph_of(formula: Formula, inputs: list[Array], dtype: ir.DataType) -> onnx.ModelProto:
    """The formula written as ONNX nodes; float inputs and constants are of one type."""
    values = [
        ir.Value(
            name=f"x{i}",
            type=ir.TensorType(dtype if x.dtype.kind == "f" else ir.DataType.from_numpy(x.dtype)),
            shape=ir.Shape([f"d{i}_{axis}" for axis in range(x.ndim)]),
        )
        for i, x in enumerate(inputs)
    ]
    graph = ir.Graph(values, [], nodes=[], opset_imports={"": 20}, name="formula")
    found = formula(Ops(graph, dtype), *values)
    graph.outputs.extend(found if isinstance(found, tuple) else (found,))
    for output in graph.outputs:
        output.type = ir.TensorType(
            ir.DataType.BOOL if output.producer().op_type in ("And", "Equal") else dtype
        )  # type: ignore[union-attr]
    return ir.to_proto(ir.Model(graph, ir_version=10))


def by_numpy(formula: Formula, inputs: list[Array], dtype: Any) -> list[Array]:
    given = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    found = formula(NumpyOps(dtype), *given)
    return list(found) if isinstance(found, tuple) else [found]


def numbers(rng: np.random.Generator, *shape: int) -> Array:
    """Numbers that float32 holds exactly."""
    return rng.normal(0, 1, shape).astype(np.float32).astype(np.float64)


def unit(rng: np.random.Generator, *shape: int) -> Array:
    """Maps in [0, 1] whose minimum is 0 and maximum 1."""
    maps = rng.random(shape).astype(np.float32).astype(np.float64)
    maps[..., 0, 0], maps[..., -1, -1] = 0, 1
    return maps


def region_weights(rng: np.random.Generator, *shape: int) -> Array:
    """Weights of places, some of them 0."""
    found = rng.random(shape) * (rng.random(shape) < 0.6)
    found[:, 0, 0] = 1
    return np.asarray((found / found.sum((1, 2), keepdims=True)).astype(np.float32).astype(np.float64))


def counted(rng: np.random.Generator) -> Array:
    """Which of six candidates count, for three questions."""
    found = (rng.random((3, 6)) < 0.5).astype(np.float64)
    found[:, 3] = 1
    return found


def _fuse(op: Any, *blocks: Any) -> Any:
    half = len(blocks) // 2
    return fusion.fuse(op, list(zip(blocks[:half], blocks[half:], strict=True)))


def _flat(found: Any) -> tuple[Any, ...]:
    return tuple(value for part in found for value in (part if isinstance(part, tuple) else (part,)))


# name: the formula, its inputs, and the roundings that one number of the result can collect
CASES: dict[str, tuple[Formula, Callable[[np.random.Generator], list[Array]], float]] = {
    "softmax": (confidence.softmax, lambda r: [4 * numbers(r, 3, 7)], 16),
    "sigmoid": (confidence.sigmoid, lambda r: [4 * numbers(r, 3, 7)], 8),
    "absence": (confidence.absence, lambda r: [4 * numbers(r, 3, 7)], 8),
    "scale": (lambda op, x: scaling.scale(op, x, [2, 3]), lambda r: [numbers(r, 3, 2, 5, 6)], 4),
    "scale_unless_flat": (
        lambda op, x, reach: scaling.scale_unless_flat(op, x, [1, 2, 3], reach),
        lambda r: [numbers(r, 2, 1, 5, 6), np.array([1.0, 1e9]).reshape(2, 1, 1, 1)],
        4,
    ),
    "scale_unless_flat of its own": (
        lambda op, x: scaling.scale_unless_flat(op, op.Abs(x), [2, 3]), lambda r: [numbers(r, 2, 3, 5, 6)], 4,
    ),
    "scale_by_peak": (scaling.scale_by_peak, lambda r: [np.array([1.0, 0.0, 3.0]).reshape(3, 1, 1, 1) * unit(r, 3, 1, 4, 5)], 2),
    "upsample": (lambda op, x: resampling.upsample(op, x, 17, 12), lambda r: [numbers(r, 2, 3, 5, 4)], 16),
    "downsample": (lambda op, x: resampling.upsample(op, x, 3, 5), lambda r: [numbers(r, 2, 1, 8, 12)], 16),
    "otsu": (otsu.otsu, lambda r: [unit(r, 4, 1, 9, 8) ** 2], 0),
    "otsu of some": (otsu.otsu, lambda r: [unit(r, 4, 1, 9, 8), r.integers(0, 2, (4, 1, 9, 8)).astype(float)], 0),
    "attribution_masks": (
        lambda op, x: masks.attribution_masks(op, x, 12, 20), lambda r: [numbers(r, 3, 1, 4, 5)], 12 * 20,
    ),
    "see_through": (masks.see_through, lambda r: [numbers(r, 1, 3, 4, 5), unit(r, 2, 1, 4, 5)], 1),
    "see_through black": (
        masks.see_through, lambda r: [numbers(r, 1, 3, 4, 5), unit(r, 2, 1, 4, 5), numbers(r, 1, 3, 1, 1)], 8,
    ),
    "mask_weights": (weights.mask_weights, lambda r: [numbers(r, 3, 9), 0.5 + r.random(9).astype(np.float32).astype(float)], 4),
    "visualization_map": (
        lambda op, a, w: fusion.visualization_map(op, a, w, (6, 4, 5), (12, 20)),
        lambda r: [numbers(r, 1, 6, 4, 5), np.abs(numbers(r, 2, 6)) * np.array([[1.0], [0.0]])],
        400,
    ),
    "fuse": (
        _fuse,
        lambda r: [unit(r, 4, 1, 6, 7) ** 3 for _ in range(3)]
        + [np.array(e, float).reshape(4, 1, 1, 1) for e in ([1, 0, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1])],
        8,
    ),
    "class_seed": (
        lambda op, z, c, d, k: seed.class_seed(op, z, c, d, k, 5),
        lambda r: [3 * numbers(r, 1, 5), np.array([2, -1, 0, 1]), np.array([-1, -1, 3, -2]), np.array(1.0)],
        16,
    ),
    "share_one": (
        lambda op, c, a: selection.share_one(op, c, a, 4), lambda r: [np.array([0.0, 1, 1, 4]), np.array([2.0, 1, 3, 4])], 0,
    ),
    "largest_first": (
        lambda op, a, s: op.Cast(selection.largest_first(op, a, op.Greater(s, 0.5), 6), to=op.dtype),
        lambda r: [np.array([[1.0, 4, 2, 4, -3, 8]]), np.array([[1.0, 1, 0, 1, 0, 1]])],
        0,
    ),
    **{
        f"{name} {mode}": (
            lambda op, h, w, mode=mode, name=name: _flat(getattr(fitting, name)(op, (h, w), (6, 8), mode, (8, 12))),
            lambda r: [np.array([16.0]), np.array([20.0])],
            64,
        )
        for name in ("fit_matrices", "back_matrices")
        for mode in ("stretch", "crop", "letterbox")
    },
    "is_index": (lambda op, i: seed.is_index(op, i, 5, [-1, 1]), lambda r: [np.array([3, 0, -1])], 0),
    "log_sigmoid": (
        seed.log_sigmoid, lambda r: [np.concatenate([20 * numbers(r, 30), [0, 1e-3, -1e-3, 60, -60]])], 8,
    ),
    "margin": (
        lambda op, z, c: seed.margin(op, z, seed.is_index(op, c, 5, [-1, 1]), 1, True),
        lambda r: [4 * numbers(r, 1, 5, 6), np.array([2, 0, 4])],
        16,
    ),
    "margin of a sigmoid": (
        lambda op, z, c: seed.margin(op, z, seed.is_index(op, c, 5, [-1, 1]), 1, False),
        lambda r: [4 * numbers(r, 1, 5, 6), np.array([2, 0, 4])],
        1,
    ),
    **{
        f"region_seed {kind} {contrast}": (
            lambda op, z, c, w, k, kind=kind: region.region_seed(op, z, c, w, k, kind, 5),
            lambda r, contrast=contrast: [
                3 * numbers(r, 1, 5, 3, 4), np.array([2, 0]), region_weights(r, 2, 3, 4), np.array(contrast)
            ],
            64,
        )
        for kind in ("softmax", "sigmoid", "none")
        for contrast in (0.0, 1.0)
    },
    **{
        f"region_values {kind}": (
            lambda op, z, c, w, kind=kind: region.region_values(op, z, c, w, kind),
            lambda r: [3 * numbers(r, 4, 5, 3, 4), np.array([2, 0]), region_weights(r, 2, 3, 4)],
            32,
        )
        for kind in ("softmax", "sigmoid", "none")
    },
    **{
        f"detection_seed {softmax} {there} {contrast}": (
            lambda op, z, c, w, k, softmax=softmax, there=there: detection.detection_seed(
                op, z, c, w, k, (6, 5, there), softmax
            ),
            lambda r, there=there, contrast=contrast: [
                3 * numbers(r, 1, 6, 5 + there), np.array([2, 0, 4]), counted(r), np.array(contrast)
            ],
            32,
        )
        for softmax in (False, True)
        for there in (False, True)
        for contrast in (0.0, 1.0)
    },
    **{
        f"detection_values {softmax} {there}": (
            lambda op, z, c, w, softmax=softmax, there=there: detection.detection_values(
                op, z, c, w, (6, 5, there), softmax
            ),
            lambda r, there=there: [3 * numbers(r, 4, 6, 5 + there), np.array([2, 0, 4]), counted(r)],
            16,
        )
        for softmax in (False, True)
        for there in (False, True)
    },
    "likeness_seed": (likeness.likeness_seed, lambda r: [numbers(r, 1, 7), 3 * numbers(r, 3, 7)], 16),
    "likeness_values": (likeness.likeness_values, lambda r: [numbers(r, 4, 7), 3 * numbers(r, 3, 7)], 16),
    "pooled_gradients": (selection.pooled_gradients, lambda r: [numbers(r, 2, 3, 5, 6)], 30),
    "spans": (selection.spans, lambda r: [numbers(r, 1, 4, 5, 6) * np.array([1, 0, 2, 3.0]).reshape(1, 4, 1, 1)], 4),
    "is_selected": (
        lambda op, a, s: selection.is_selected(op, a, s, 0.25),
        lambda r: [numbers(r, 3, 40), np.abs(numbers(r, 1, 40)) * 2e-5],
        0,
    ),
    "is_selected adaptive": (
        lambda op, a, s: selection.is_selected(op, a, s, "adaptive"), lambda r: [numbers(r, 3, 40), np.abs(numbers(r, 1, 40))], 0,
    ),
    "to_cells": (lambda op, x: sketch.to_cells(op, x, (6, 9), (32, 48)), lambda r: [unit(r, 3, 6, 9)], 64),
    "small_masks": (sketch.small_masks, lambda r: [numbers(r, 3, 6, 9)], 4),
    "texture": (lambda op, x: sketch.texture(op, x, (6, 9)), lambda r: [unit(r, 3, 6, 9)], 64),
    "texture of one row": (lambda op, x: sketch.texture(op, x, (1, 9)), lambda r: [unit(r, 3, 1, 9)], 64),
    "evidence": (lambda op, a, w: sketch.evidence(op, a, w, (6, 4, 5)), lambda r: [numbers(r, 1, 6, 4, 5), numbers(r, 2, 6)], 40),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_numpy_and_the_graph_compute_the_same(name: str) -> None:
    formula, make, roundings = CASES[name]
    inputs = make(np.random.default_rng(len(name)))
    exact = by_numpy(formula, inputs, np.float64)

    model = graph_of(formula, inputs, ir.DataType.DOUBLE)
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    for ours, theirs in zip(exact, onnx.reference.ReferenceEvaluator(model).run(None, feeds), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13 * max(1, np.abs(theirs).max()))

    feeds = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in feeds.items()}
    session = onnxruntime.InferenceSession(
        graph_of(formula, inputs, ir.DataType.FLOAT).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    single = by_numpy(formula, inputs, np.float32)
    for ours, ort, truth in zip(single, session.run(None, feeds), exact, strict=True):
        assert ours.dtype == ort.dtype
        bound = roundings * 2.0**-23 * max(1.0, np.abs(truth).max())
        for found in (ours, ort):
            assert found.shape == truth.shape
            assert np.abs(found.astype(np.float64) - truth).max() <= bound


def test_numpy_evaluation_is_strict_about_types() -> None:
    """As ONNX is: a formula that mixes types is wrong there, too."""
    with pytest.raises(TypeError, match="float32, float64"):
        NumpyOps(np.float32).Add(np.zeros(2, np.float32), np.zeros(2))
    assert NumpyOps(np.float32).Add(np.zeros(2, np.float32), 1.0).dtype == np.float32


def test_every_formula_has_a_case() -> None:
    rooms = (
        confidence, detection, fitting, fusion, likeness, masks, otsu, region, resampling, scaling, seed, selection, sketch, weights,
    )  # fmt: skip
    formulas = {
        name
        for room in rooms
        for name, thing in vars(room).items()
        if getattr(thing, "__module__", "") == room.__name__
        and not name.startswith("_")
        and "op" in getattr(thing, "__annotations__", {})
    }
    # parts of other formulas
    covered = {
        *(name.split()[0] for name in CASES),
        "class_is",
        "is_uneven",
        "reach_of_sum",
        "accumulate",
        "above_otsu",
        "due_block",
        "scaled_sizes",
    }
    assert formulas <= covered


def row(*values: float) -> Array:
    return np.array(values, np.float64).reshape(1, 1, 1, -1)


def test_scaling_by_hand() -> None:
    scaled, width = scaling.scale(OP, row(-1, 1, 3), [1, 2, 3])
    assert scaled.tolist() == row(0, 0.5, 1).tolist() and width.item() == 4
    assert scaling.scale(OP, row(7, 7), [1, 2, 3])[0].tolist() == row(0, 0).tolist()
    assert scaling.scale_by_peak(OP, row(0, 1, 4)).tolist() == row(0, 0.25, 1).tolist()
    assert scaling.scale_by_peak(OP, row(0, 0)).tolist() == row(0, 0).tolist()


@pytest.mark.parametrize(("width", "kept"), [(1e-5, 0.0), (1.0001e-5, 1.0), (0.0, 0.0), (3.0, 1.0)])
def test_a_map_is_flat_up_to_a_hundred_thousandth_of_its_reach(width: float, kept: float) -> None:
    scaled, found = scaling.scale_unless_flat(OP, row(0, width), [1, 2, 3], row(1.0))
    assert found.item() == kept
    assert scaled.tolist() == row(0, kept).tolist()
    assert scaling.is_uneven(OP, row(width), 1.0).item() == bool(kept)
    assert scaling.scale_unless_flat(OP, row(1 - width, 1), [1, 2, 3])[1].item() == kept  # of the maximum


def test_upsampling_by_hand() -> None:
    assert resampling.upsample(OP, row(0, 1), 1, 4).tolist() == row(0, 0.25, 0.75, 1).tolist()
    plane = np.add.outer(np.arange(3.0), 10 * np.arange(4.0))[None, None]
    wide = resampling.upsample(OP, plane, 6, 4)[0, 0]
    assert wide[:, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]
    assert np.diff(wide, axis=1).tolist() == [[10] * 3] * 6
    thirds = resampling.cell_means(2, 3)
    np.testing.assert_allclose(thirds, [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-15)


def test_masks_by_hand() -> None:
    found, extent, total = masks.attribution_masks(OP, row(2, 6), 1, 4)
    assert found.tolist() == row(0, 0.25, 0.75, 1).tolist()
    assert extent.tolist() == [4] and total.tolist() == [2]
    x = row(8, 8, 8, 8)
    assert masks.see_through(OP, x, found).tolist() == row(0, 2, 6, 8).tolist()
    assert masks.see_through(OP, x, found, row(4)).tolist() == row(4, 5, 7, 8).tolist()


def test_weights_by_hand() -> None:
    found = weights.mask_weights(
        OP, np.array([[1.0, 0.0, 4.0], [0, 0, 0], [1e-300, 0, 0]]), np.array([1.0, 2, 8])
    )
    assert found.tolist() == [[1, 0, 0.5], [0, 0, 0], [1, 0, 0]]
    assert weights.mask_weights(OP, np.array([[-2.0, 1.0]]), np.ones(2)).tolist() == [[-1, 0.5]]  # raw scores


def test_a_visualization_map_is_the_mean_of_the_weighted_masks() -> None:
    """Paper's form, mean of s_k m_k / Σ m_k at full size, against one weighted sum at feature resolution."""
    rng = np.random.default_rng(1)
    features, scores = rng.normal(0, 1, (5, 4, 6)), rng.random(5)
    wide, extent, total = masks.attribution_masks(OP, features[:, None], 12, 30)
    by_definition = np.mean([s * m[0] / m.sum() for s, m in zip(scores, wide, strict=True)], axis=0)
    expected = (by_definition - by_definition.min()) / np.ptp(by_definition)
    weight = weights.mask_weights(OP, scores[None], extent * total)
    found, evidence = fusion.visualization_map(OP, features[None], weight, (5, 4, 6), (12, 30))
    assert evidence.item() == 1
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-12)


def test_maps_that_cancel_are_flat() -> None:
    """Two opposite maps add up to rounding noise: nothing of it becomes a visualization map."""
    rng = np.random.default_rng(2)
    one = rng.normal(0, 1, (4, 6))
    features = np.stack([one, 3 - one + 1e-7 * rng.normal(0, 1, one.shape)])[None]
    found, evidence = fusion.visualization_map(
        OP, features, np.array([[1.0, 1], [1, 0.5]]), (2, 4, 6), (8, 12)
    )
    assert evidence.ravel().tolist() == [0, 1]
    assert not found[0].any() and found[1].max() == pytest.approx(1, abs=1e-12)
    reach = fusion.reach_of_sum(OP, np.array([[-1.0, 2]]), np.array([[1.0, -3], [0, 0.5]]))
    assert reach.tolist() == [[4]]


@pytest.mark.parametrize("evidence", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (0, 0, 1), (0, 0, 0), (0, 1, 0)])
def test_fusion_against_the_definition(evidence: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    maps = [unit(rng, 1, 1, 5, 6) * e for e in evidence]
    heat = fusion.fuse(OP, [(m, row(float(e))) for m, e in zip(maps, evidence, strict=True)])
    expected = reference_sise.fuse([m[0, 0] if e else None for m, e in zip(maps, evidence, strict=True)])
    np.testing.assert_allclose(heat[0, 0], 0 if expected is None else expected, atol=1e-14)


def test_fusion_by_hand() -> None:
    """Otsu's threshold of [0, 0.2, 0.8, 1] lies in the bin of 0.2: its two upper places stay."""
    first, second = row(1, 0, 0.5, 0.25), row(0, 0.2, 0.8, 1)
    assert otsu.otsu(OP, second).item() == (51 + 0.5) / 256
    heat = fusion.fuse(OP, [(first, row(1.0)), (second, row(1.0))])
    np.testing.assert_allclose(heat, row(0, 0, 1.3 / 1.3, 1.25 / 1.3), atol=1e-15)


def test_the_seed_by_hand() -> None:
    scores = np.log(np.array([[2.0, 1.0, 3.0]]))
    asked = np.array([0, -1])  # the top class is 2
    alone = np.full(2, seed.NO_OTHER)
    found = seed.class_seed(OP, scores, asked, alone, np.array(1.0), 3)
    np.testing.assert_allclose(found, [[1, -1 / 4, -3 / 4], [-2 / 3, -1 / 3, 1]], atol=1e-15)
    assert seed.class_seed(OP, scores, asked, alone, np.array(0.0), 3).tolist() == [[1, 0, 0], [0, 0, 1]]
    probability = np.array([2.0, 1.0, 3.0]) / 6
    jacobian = probability[0] * (np.eye(3)[0] - probability)  # of p_0
    np.testing.assert_allclose(probability[0] * (1 - probability[0]) * found[0], jacobian, atol=1e-15)


def test_sharing_by_hand() -> None:
    """Importance 1, 2, 4: of seven masks each block gets its importance; a block that has no more passes its part on."""
    counts, order = np.zeros(3), []
    for _ in range(7):
        more = selection.share_one(OP, counts, np.array([9.0, 9, 9]), 3)
        order.append(int(np.argmax(more - counts)))
        counts = more
    assert counts.tolist() == [1, 2, 4] and order[:3] == [2, 1, 2]
    assert selection.share_one(OP, np.array([0.0, 0, 1]), np.array([5.0, 0, 1]), 3).tolist() == [1, 0, 1]


def test_the_largest_first_by_hand() -> None:
    alpha, chosen = np.array([[3.0, 9, 5, 5]]), np.array([[True, False, True, True]])
    assert selection.largest_first(OP, alpha, chosen, 4).tolist() == [2, 3, 0, 1]


def test_spans_and_pooled_gradients_by_hand() -> None:
    maps = np.array([[[1.0, 3]], [[-4, 0]], [[0, 0]], [[2, 2]]])[None]
    assert selection.spans(OP, maps).tolist() == [[2 / 3, 1, 0, 0]]
    assert selection.pooled_gradients(OP, maps).tolist() == [[4, -4, 0, 4]]


def test_sketch_by_hand() -> None:
    assert sketch.grid(224, 224) == (14, 14) and sketch.grid(10, 1000) == (1, 140)
    maps = np.array([[[0.0, 1], [0.5, 0.25]]])
    assert sketch.texture(OP, maps, (2, 2)).tolist() == [[(0.5 + 0.75) / 2 + (1 + 0.25) / 2, 1.3125 / 4]]
    cells = sketch.to_cells(OP, np.ones((1, 3, 5)), (3, 5), (30, 50))
    np.testing.assert_allclose(cells, np.ones((1, *sketch.grid(30, 50))), atol=1e-14)
    found = sketch.evidence(OP, np.array([[[[1.0, -1]], [[2, 2]]]]), np.array([[1.0, 0], [0, -1]]), (2, 1, 2))
    assert found.tolist() == [[[1, 0]], [[0, 0]]]


def test_references_never_use_formulas() -> None:
    """What formulas are compared with must not be made of them."""
    tests = Path(__file__).parents[1]
    for path in (
        tests / "support" / "reference_sise.py",
        *(tests / "reference").glob("*.py"),
        tests / "support" / "gradcheck.py",
    ):
        assert "formulas" not in path.read_text(encoding="utf-8"), path
