"""The expected fusion against the hard one, and against the mean over many draws."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import reference_sise

from sise_ort.metrics import correlation
from sise_ort.runtime.methods.budget.fusion import DrawnMaps


def hard(maps: Any) -> Any:
    """The fusion of the method, with the reference's own Otsu."""
    return reference_sise.fuse(list(maps))


def drawn_maps(sums: Any) -> DrawnMaps:
    """With the largest numbers as what the summands could have added up to."""
    return DrawnMaps(sums, [np.abs(block).max(axis=(1, 2)) for block in sums])


def test_fusion_of_draws_that_are_all_alike() -> None:
    rng = np.random.default_rng(5)
    for blocks in (1, 2, 4):
        maps = rng.uniform(0, 1, (blocks, 6, 9)).cumsum(axis=2)
        maps -= maps.min(axis=(1, 2), keepdims=True)
        maps /= maps.max(axis=(1, 2), keepdims=True)
        maps = maps.astype(np.float32)
        drawn = drawn_maps([np.repeat(3 * m[None] + 1, 5, axis=0) for m in maps])
        np.testing.assert_allclose(drawn.fuse(maps), hard(maps), atol=1e-5)
        assert drawn.agreement == pytest.approx(1)


def test_an_unsure_step_is_its_probability() -> None:
    """Two blocks, hand-computed: in the second one, a row of places beside Otsu's threshold moves with the draws."""
    first = np.full((4, 4), 0.5, np.float32)
    first[0, 0], first[3, 3] = 0.0, 1.0
    second = np.zeros((4, 4), np.float32)
    second[2:] = 1.0
    second[1] = 0.45
    draws = np.repeat(second[None], 201, axis=0)
    quantiles = [NormalDist(0, 0.1).inv_cdf((i + 0.5) / 200) for i in range(200)]
    draws[1:, 1] += np.array(quantiles, np.float32)[:, None]
    heat = drawn_maps([np.repeat(first[None], 201, axis=0), draws]).fuse(np.stack([first, second]))
    brute = np.mean([hard(np.stack([first, d])) for d in draws[1:]], axis=0)
    np.testing.assert_allclose(heat, brute, atol=0.05)
    assert np.abs(hard(np.stack([first, second])) - brute).max() > 0.1  # the step alone is far from it


def test_expected_fusion_is_nearer_to_the_draws_than_the_fusion_of_the_expected() -> None:
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[0:12, 0:12]
    ours, theirs = [], []
    for _ in range(6):
        waves = [
            np.sin(rows / rng.uniform(1, 4) + rng.uniform(0, 6)) + np.cos(columns / rng.uniform(1, 4))
            for _ in range(9)
        ]
        sums = []
        for b in range(3):
            weights = rng.normal(0, 0.4, (61, 3)) + np.array([1, 0, 0])
            weights[0] = [1, 0, 0]
            sums.append(np.einsum("dk,khw->dhw", weights, waves[3 * b : 3 * b + 3]).astype(np.float32))
        scaled = [[(v - v.min()) / np.ptp(v) for v in block] for block in sums]
        expected = np.stack([block[0] for block in scaled]).astype(np.float32)
        brute = np.mean([hard([block[d] for block in scaled]) for d in range(1, 61)], axis=0)
        ours.append(correlation(drawn_maps(sums).fuse(expected), brute))
        theirs.append(correlation(hard(expected), brute))
    assert np.mean(ours) > np.mean(theirs) + 0.02 and min(ours) > 0.9


def test_blocks_without_masks_are_left_out_of_the_fusion() -> None:
    rng = np.random.default_rng(3)
    full = rng.normal(0, 1, (9, 5, 5)).astype(np.float32)
    empty = np.zeros((9, 5, 5), np.float32)
    visualization = full[0] - full[0].min()
    visualization /= visualization.max()
    without = drawn_maps([full])
    for sums, maps in (
        ([empty, full], [empty[0], visualization]),
        ([full, empty], [visualization, empty[0]]),
    ):
        drawn = drawn_maps(sums)
        np.testing.assert_array_equal(drawn.fuse(np.stack(maps)), without.fuse(visualization[None]))
        assert drawn.agreement == without.agreement
    assert not drawn_maps([empty]).fuse(empty[:1]).any()


def test_a_flat_block_is_left_out_as_in_the_fusion_of_known_maps() -> None:
    """Rounding noise, up to 1e-5 of what the summands could have added up to, is no evidence; the same map above is."""
    rng = np.random.default_rng(8)
    full = rng.normal(0, 1, (9, 5, 5)).astype(np.float32)
    noise = rng.uniform(0, 1, (9, 5, 5)).astype(np.float32)
    noise[:, 0, 0], noise[:, 4, 4] = 0, 1
    visualization = (full[0] - full[0].min()) / np.ptp(full[0])
    ones = np.ones(9, np.float32)
    alone = DrawnMaps([full], [ones])
    flat = DrawnMaps([noise, full], [1.001e5 * ones, ones])
    maps = np.stack([np.zeros((5, 5), np.float32), visualization])
    np.testing.assert_array_equal(flat.fuse(maps), alone.fuse(maps[1:]))
    assert flat.agreement == alone.agreement
    even = DrawnMaps([noise, full], [0.999e5 * ones, ones])
    assert even.agreement != alone.agreement


def test_each_draw_has_its_own_evidence() -> None:
    """Where the first block is flat in one draw, that draw starts with the second."""
    rng = np.random.default_rng(4)
    first, second = rng.uniform(0, 1, (2, 3, 6, 6)).astype(np.float32)
    first[2] = 0
    drawn = drawn_maps([first, second])
    scaled = [(m - m.min()) / np.ptp(m) for m in (first[1], second[1], second[2])]
    own = [hard([scaled[0], scaled[1]]), hard([scaled[2]])]
    for ours, theirs in zip(drawn._fused[:, 0], own, strict=True):
        np.testing.assert_allclose(ours / ours.max(), theirs, atol=1e-6)


def test_leverage_is_the_slope_of_the_expected_fusion() -> None:
    """Against finite differences of a fusion written down anew, at every place of every block."""
    rng = np.random.default_rng(6)
    sums = [np.cumsum(rng.normal(1, 1, (17, 5, 7)), axis=2) for _ in range(4)]
    sums[1][:] = 0  # a block without evidence
    for block in sums:
        block[1:] += 0.3 * rng.normal(0, 1, (16, 5, 7))
    drawn = drawn_maps([block.astype(np.float32) for block in sums])
    maps, means, spreads, widths = [], [], [], []
    for block in sums:
        width = np.maximum(np.ptp(block, axis=(1, 2), keepdims=True), 1e-9)
        scaled = (block - block.min(axis=(1, 2), keepdims=True)) / width
        margins = scaled - np.array([reference_sise.otsu(m) for m in scaled])[:, None, None]
        maps.append(scaled[0])
        means.append(margins[1:].mean(axis=0))
        spreads.append(np.sqrt(margins[1:].var(axis=0) + 0.1**2))
        widths.append(width[0])

    def fused(changed: int, change: float) -> Any:
        total = maps[0]
        for b in (2, 3):
            margin = means[b] + (change / widths[b] if b == changed else 0)
            u = np.clip(0.5 + margin / (3.8 * spreads[b]), 0, 1)
            total = (total + maps[b]) * (u * u * (3 - 2 * u))
        return total

    for b in (2, 3):
        slope = (fused(b, 1e-4) - fused(b, -1e-4)) / 2e-4
        assert (slope > 0).any()
        np.testing.assert_allclose(
            drawn.leverage[b], slope.ravel() ** 2, rtol=2e-3, atol=1e-5 * slope.max() ** 2
        )
    assert not drawn.leverage[0].any() and not drawn.leverage[1].any()  # no step depends on them
