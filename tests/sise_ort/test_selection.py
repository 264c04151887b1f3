from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference_sise

from sise_ort.errors import ParameterError
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.otsu import otsu, otsu_thresholds
from sise_ort.formulas.selection import check_mu, flat_maps, select_maps

SPANS = np.ones(5)


@pytest.mark.parametrize(
    ("alpha", "mu", "kept"),
    [
        ([4, 2, 1, 0, -3], 0.0, [0, 1, 2]),
        ([4, 2, 1, 0, -3], 0.25, [0, 1]),  # strictly above 0.25 · 4 = 1
        ([4, 2, 1, 0, -3], 0.5, [0]),
        ([0, 0, 0, 0, 0], 0.0, []),
        ([-1, -2, -3, -4, -5], 0.0, []),
        ([0, 0, -1, 0, 0], "adaptive", []),
        ([-1, -2, -3, -4, -5], "adaptive", []),
        ([0.5, 0.5, -2, 0.4999, 0], "adaptive", [0, 1, 3]),  # all in one of Otsu's bins
        ([1, 1, 1, 1, 1], "adaptive", [0, 1, 2, 3, 4]),
        ([1.0, 0.9, 0.1, 0.2, -1], "adaptive", [0, 1]),
        ([3, -1, -1, -1, -1], "adaptive", [0]),
    ],
)
def test_selection_by_hand(alpha: list[float], mu: float | str, kept: list[int]) -> None:
    assert np.flatnonzero(select_maps(alpha, SPANS, mu)).tolist() == kept


def test_flat_maps_by_hand() -> None:
    assert flat_maps(np.array([0, 1e-5, 1.01e-5, 1], np.float32)).tolist() == [True, True, False, False]
    assert select_maps([1, 1, 1], [1e-5, 1.01e-5, 1]).tolist() == [False, True, True]


def test_flat_maps_are_dropped_but_still_set_beta() -> None:
    spans = np.array([1e-6, 1, 1, 1, 1])
    assert np.flatnonzero(select_maps([10, 4, 6, 1, 1], spans, 0.5)).tolist() == [2]


@pytest.mark.parametrize("seed", range(30))
def test_otsu_against_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.clip(rng.normal(rng.choice([0.2, 0.7], 500), 0.1 * rng.random()), 0, 1)
    rows = np.stack([values, np.sqrt(values), np.full(500, 0.4), values**3])
    expected = [reference_sise.otsu(row) for row in rows]
    assert otsu_thresholds(rows).tolist() == expected
    assert otsu(NumpyOps(), rows.reshape(4, 1, 20, 25)).ravel().tolist() == expected


@pytest.mark.parametrize(
    ("values", "threshold"),
    [([0.0, 1.0], 0.5 / 256), ([0.0, 0.0, 0.5, 0.5], 0.5 / 256), ([0.0, 0.4, 0.6, 1.0], (102 + 0.5) / 256)],
)
def test_otsu_takes_the_first_of_equal_maxima(values: list[float], threshold: float) -> None:
    assert otsu_thresholds(np.array([values])).tolist() == [threshold]
    assert otsu(NumpyOps(), np.array(values).reshape(1, 1, 1, -1)).item() == threshold


def test_otsu_over_some_of_the_numbers() -> None:
    rng = np.random.default_rng(3)
    values, counted = rng.uniform(0, 1, (5, 1, 7, 9)), rng.integers(0, 2, (5, 1, 7, 9)).astype(float)
    found = otsu(NumpyOps(), values, counted).ravel().tolist()
    assert found == [reference_sise.otsu(v[c > 0]) for v, c in zip(values, counted, strict=True)]


@pytest.mark.parametrize("mu", [0.0, 0.3, "adaptive"])
def test_selection_against_the_definition(mu: float | str) -> None:
    """Many classes at once, some of them without a positive gradient; some maps flat."""
    rng = np.random.default_rng(6)
    alpha = rng.normal(0, 1, (8, 60))
    alpha[3] = -np.abs(alpha[3])
    alpha[5] = np.where(alpha[5] > 0, 0.25, alpha[5])
    features = rng.normal(0, 1, (60, 4, 4))
    features[::7] = 2 + 1e-6 * features[::7]
    spans = np.ptp(features, axis=(1, 2)) / np.abs(features).max(axis=(1, 2))
    found = select_maps(alpha, spans, mu)
    for row, ours in zip(alpha, found, strict=True):
        assert np.flatnonzero(ours).tolist() == reference_sise.select(row, features, mu)
        assert select_maps(row, spans, mu).tolist() == ours.tolist()


@pytest.mark.parametrize("mu", [-0.1, 1.0, 7, "much", float("nan"), None, True])
def test_mu_out_of_range(mu: Any) -> None:
    with pytest.raises(ParameterError, match=r"must be a number in \[0, 1\) or"):
        check_mu(mu)


def test_mu_in_range() -> None:
    assert [check_mu(m) for m in (0, "0.3", 0.999, "adaptive")] == [0.0, 0.3, 0.999, "adaptive"]
