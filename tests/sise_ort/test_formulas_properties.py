"""What must hold of formulas for any numbers, however large, small, equal or few."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference_sise
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from sise_ort.formulas.fusion import fuse
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.otsu import otsu, otsu_thresholds
from sise_ort.formulas.scaling import scale_unless_flat
from sise_ort.formulas.selection import select_maps
from sise_ort.heads import KINDS, Head

OP = NumpyOps()
SHARES = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])
SCORES = st.floats(-1e4, 1e4, width=32)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)


@given(hnp.arrays(np.float64, SHAPES, elements=SHARES))
def test_otsu_is_the_definition(rows: NDArray[Any]) -> None:
    found = otsu_thresholds(rows).tolist()
    assert found == otsu(OP, rows.reshape(len(rows), 1, 1, -1)).ravel().tolist()
    assert found == [reference_sise.otsu(row) for row in rows]


@given(
    hnp.arrays(np.float64, SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32)), st.floats(0, 1e35)
)
def test_scaled_maps_lie_between_0_and_1(rows: NDArray[Any], reach: float) -> None:
    maps = rows.reshape(len(rows), 1, 1, -1)
    scaled, kept = scale_unless_flat(OP, maps, [1, 2, 3], np.full((len(rows), 1, 1, 1), reach))
    assert np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1 + 1e-12
    for row, ours, uneven in zip(rows, scaled, kept.ravel(), strict=True):
        assert uneven == (np.ptp(row) > 1e-5 * reach)
        assert ours.any() == uneven


@given(
    hnp.arrays(np.float64, SHAPES, elements=st.floats(-1e3, 1e3, width=32)),
    st.sampled_from([0.0, 0.5, 0.99, "adaptive"]),
    st.integers(-40, 40),
)
def test_a_positive_factor_does_not_change_the_selection(
    alpha: NDArray[Any], mu: float | str, power: int
) -> None:
    spans = np.ones(alpha.shape[1])
    chosen = select_maps(alpha, spans, mu)
    assert (select_maps(alpha * 2.0**power, spans, mu) == chosen).all()
    best = alpha.max(axis=1) > 0
    assert (chosen.any(axis=1) == best).all()  # the largest is always above its share
    assert not (chosen & (alpha <= 0)).any()


@given(
    st.lists(
        st.tuples(hnp.arrays(np.float64, (3, 4), elements=SHARES), st.booleans()), min_size=1, max_size=4
    )
)
def test_heat_maps_lie_between_0_and_1(blocks: list[tuple[NDArray[Any], bool]]) -> None:
    for values, evidence in blocks:
        values[0, 0], values[2, 3] = 0, 1  # as scaled maps have
        values *= evidence
    heat = fuse(OP, [(m[None, None], np.full((1, 1, 1, 1), float(e))) for m, e in blocks])[0, 0]
    expected = reference_sise.fuse([m if e else None for m, e in blocks])
    assert heat.min() >= 0 and heat.max() == any(e for _, e in blocks)
    np.testing.assert_allclose(heat, 0 if expected is None else expected, atol=1e-12)


@given(hnp.arrays(np.float64, SHAPES, elements=SCORES), st.sampled_from(KINDS))
def test_confidences_keep_the_order_of_scores(scores: NDArray[Any], kind: Any) -> None:
    head = Head(kind, scores.shape[1])
    psi = head.confidences(scores)
    assert np.isfinite(psi).all()
    order = np.argsort(scores, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(psi, order, axis=1), axis=1) >= 0).all()
    if head.bounded:
        assert psi.min() >= 0 and psi.max() <= 1 + 1e-12
    if kind == "softmax":
        np.testing.assert_allclose(psi.sum(axis=1), 1, rtol=1e-12)
    if kind == "sigmoid":
        np.testing.assert_allclose(psi + head.absence(scores), 1, rtol=1e-12)
