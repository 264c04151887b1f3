"""Metrics by hand, in closed form, and against slow references that read like the definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sise_ort.metrics import (
    area_under_curve,
    bbox_share,
    correlation,
    drop,
    energy_pointing_game,
    hard_mask,
    increase,
    intersection_over_union,
    pixel_order,
    tied_share,
)

LOCALISATION = [energy_pointing_game, intersection_over_union, bbox_share]


def rectangle() -> Any:
    truth = np.zeros((20, 30), bool)
    truth[2:7, 3:9] = True
    return truth


# Localisation ----------------------------------------------------------------------------------------


def test_by_hand() -> None:
    heatmap = np.array([[1.0, 0.5], [0.25, 0.25]])
    assert energy_pointing_game(heatmap, np.array([[1, 0], [0, 0]])) == 0.5
    assert energy_pointing_game(heatmap, np.array([[True, True], [False, True]])) == 0.875
    assert bbox_share(heatmap, np.array([[1, 0], [0, 1]])) == 0.5
    assert bbox_share(heatmap, np.array([[1, 1], [1, 0]])) == (2 + 0.5) / 3  # one of two equal pixels fits
    assert intersection_over_union(heatmap, np.array([[1, 0], [0, 1]]), 0.5) == pytest.approx(1 / 3)


def test_a_perfect_map() -> None:
    truth = rectangle()
    heatmap = truth * 0.9
    assert energy_pointing_game(heatmap, truth) == bbox_share(heatmap, truth) == 1
    assert intersection_over_union(heatmap, truth, truth.mean()) == 1
    # A fifth of 600 pixels holds all 30 of the truth.
    assert intersection_over_union(heatmap, truth) == pytest.approx(30 / 120)


def test_an_even_map_scores_as_chance() -> None:
    truth = rectangle()
    even = np.full((20, 30), 0.3, np.float32)
    assert energy_pointing_game(even, truth) == pytest.approx(30 / 600)
    assert bbox_share(even, truth) == pytest.approx(30 / 600)
    hits = 120 * 30 / 600
    assert intersection_over_union(even, truth) == pytest.approx(hits / (120 + 30 - hits))
    assert bbox_share(0 * even, truth) == pytest.approx(30 / 600)


def hits_by_enumeration(heatmap: Any, truth: Any, count: int) -> float:
    """The mean over every order of the pixels that sorts them from high to low."""
    flat, marked = heatmap.ravel(), truth.ravel()
    orders = [
        p
        for p in itertools.permutations(range(flat.size))
        if all(flat[a] >= flat[b] for a, b in itertools.pairwise(p))
    ]
    return float(np.mean([marked[list(p[:count])].sum() for p in orders]))


@pytest.mark.parametrize("seed", range(5))
def test_ties_by_enumeration(seed: int) -> None:
    local = np.random.default_rng(seed)
    heatmap = local.integers(0, 3, (2, 4)) / 2
    truth = local.random((2, 4)) < 0.5
    truth[0, 0] = True
    size = int(truth.sum())
    assert bbox_share(heatmap, truth) == pytest.approx(hits_by_enumeration(heatmap, truth, size) / size)
    hits = hits_by_enumeration(heatmap, truth, 3)
    assert intersection_over_union(heatmap, truth, 3 / 8) == pytest.approx(hits / (3 + size - hits))


def test_without_ties_against_sorting(rng: np.random.Generator) -> None:
    heatmap, truth = rng.random((20, 30)), rectangle()
    highest = np.argsort(heatmap.ravel())[::-1]
    top = np.zeros(600, bool)
    top[highest[:120]] = True
    top = top.reshape(20, 30)
    assert intersection_over_union(heatmap, truth) == pytest.approx((top & truth).sum() / (top | truth).sum())
    assert bbox_share(heatmap, truth) == pytest.approx(truth.ravel()[highest[:30]].mean())


@pytest.mark.parametrize("metric", LOCALISATION)
def test_an_empty_truth_is_left_out(metric: Callable[..., float]) -> None:
    assert math.isnan(metric(np.ones((2, 2)), np.zeros((2, 2))))


def test_an_empty_map_has_no_energy() -> None:
    assert math.isnan(energy_pointing_game(np.zeros((2, 2)), np.ones((2, 2))))


@pytest.mark.parametrize("metric", LOCALISATION)
def test_bad_maps(metric: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="heatmap has shape"):
        metric(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="not finite"):
        metric(np.full((2, 2), np.nan), np.ones((2, 2)))


# Faithfulness ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.15, 0.001, 0.5, 1.0])
def test_hard_masks_keep_exactly_the_share(share: float, rng: np.random.Generator) -> None:
    heatmap = np.maximum(rng.normal(0, 1, (21, 31)), 0)
    mask = hard_mask(heatmap, share)
    assert mask.sum() == max(1, round(share * 651))
    assert heatmap[mask].min() >= heatmap[~mask].max(initial=0)


def test_ties_are_broken_alike_for_all_maps() -> None:
    flat = np.zeros((9, 9))
    bump = flat.copy()
    bump[4, 4] = 1
    order = pixel_order(flat)
    assert sorted(order) == list(range(81)) and order[0] != 0
    assert pixel_order(bump)[0] == 40
    assert [p for p in order if p != 40] == list(pixel_order(bump)[1:])
    assert list(pixel_order(flat, seed=1)) != list(order)
    # One order for every method: a map of other values, but as flat, gives the same 12 of 81 pixels, spread out.
    mask = hard_mask(flat)
    assert (hard_mask(np.full((9, 9), 0.7, np.float32)) == mask).all() and mask.sum() == 12
    assert set(np.flatnonzero(mask)) == set(order[:12])
    assert mask.any(axis=0).sum() > 4 and mask.any(axis=1).sum() > 4
    steps = np.repeat([1.0, 0.5, 0.0], 27).reshape(
        9, 9
    )  # ties at three heights keep the order among themselves
    expected = [p for height in (1.0, 0.5, 0.0) for p in order if steps.flat[p] == height]
    assert list(pixel_order(steps)) == expected


def test_tied_share(rng: np.random.Generator) -> None:
    heatmap = np.zeros((10, 10))
    heatmap[0, :5] = 1
    assert tied_share(heatmap, 0.15) == 0.95  # 15 pixels: 5 ones, and 10 of 95 zeros
    assert tied_share(heatmap, 0.05) == 0
    assert tied_share(rng.random((10, 10))) == 0


def test_drop_and_increase() -> None:
    assert drop(0.8, 0.2) == pytest.approx(0.75)
    assert drop(0.5, 0.9) == drop(0.0, 0.0) == 0
    assert increase(0.5, 0.9) and not increase(0.5, 0.5)
    with pytest.raises(ValueError, match="raw-score heads"):
        drop(3.5, 1.0)


def test_area_under_curve() -> None:
    assert area_under_curve(np.linspace(0, 1, 11)) == pytest.approx(0.5)
    assert area_under_curve(np.full(5, 0.3)) == pytest.approx(0.3)
    x = np.linspace(0, 1, 1001)
    assert area_under_curve(x**2) == pytest.approx(1 / 3, abs=1e-6)
    with pytest.raises(ValueError, match="two finite numbers"):
        area_under_curve(np.array([0.1]))


def test_correlation(rng: np.random.Generator) -> None:
    a, b = rng.random((2, 4, 7))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert correlation(a, 3 * a + 1) == pytest.approx(1) and correlation(a, -a) == pytest.approx(-1)
    flat = np.full((4, 7), 0.5)
    assert correlation(flat, flat) == 1 and correlation(flat, a) == correlation(flat, flat + 1) == 0
