"""RISE: its masks, and its heat map against torch with the same masks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.runtime.methods.rise import random_masks

torch = pytest.importorskip("torch")


def scaled(values: Any) -> Any:
    return (values - values.min()) / (values.max() - values.min())


def test_rise_against_torch_with_the_same_masks(reference_explainers: Any, networks: Any) -> None:
    explainer, net, frame = reference_explainers["plain"], networks.plain().double(), networks.pictures(1)[0]
    count, cells, probability, seed = 50, 5, 0.4, 9
    rng = np.random.default_rng(seed)
    side = [-(-n // cells) for n in networks.SIZE]
    grids = torch.from_numpy((rng.random((count, cells, cells)) < probability).astype(np.float64))
    shifts = [rng.integers(0, s, count) for s in side]
    wide = torch.nn.functional.interpolate(
        grids[:, None], size=[(cells + 1) * s for s in side], mode="bilinear", align_corners=False
    )
    masks = torch.stack(
        [
            m[:, y : y + networks.SIZE[0], x : x + networks.SIZE[1]]
            for m, y, x in zip(wide, *shifts, strict=True)
        ]
    )
    ours = np.concatenate(list(random_masks(networks.SIZE, count, cells, probability, seed, 7)))
    np.testing.assert_allclose(ours, masks.numpy(), atol=1e-6)
    with torch.no_grad():
        psi = torch.softmax(net(networks.network_input(frame).double() * masks), 1)[:, 2]
    theirs = scaled((psi[:, None, None, None] * masks).sum(0)[0].numpy())
    settings: dict[str, Any] = {"masks": count, "cells": cells, "probability": probability, "seed": seed}
    result = explainer.explain(frame, 2, method="rise", **settings)
    assert np.abs(result.heatmap - theirs).max() < 1e-3
    assert result.forward_passes == 1 + count and result.backward_passes == 0
    again = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=50)
    np.testing.assert_allclose(
        again.explain(frame, 2, method="rise", **settings).heatmap, result.heatmap, atol=1e-4
    )


def test_rise_never_holds_all_masks() -> None:
    sizes = [len(part) for part in random_masks((30, 40), 20, 7, 0.5, 0, 8)]
    assert sizes == [8, 8, 4]


def test_random_masks_are_those_drawn_at_once() -> None:
    """Drawn batch by batch, from two places of one stream: grids first, then where each is cut out."""
    size, masks, cells = (30, 44), 13, 5
    rng = np.random.default_rng(6)
    grids = rng.random((masks, cells, cells)) < 0.4
    shifts = [rng.integers(0, -(-length // cells), masks) for length in size]
    found = np.concatenate(list(random_masks(size, masks, cells, 0.4, 6, 4)))
    for mask, grid, y, x in zip(found, grids, *shifts, strict=True):
        wide = cv2.resize(
            grid.astype(np.float64), ((cells + 1) * 9, (cells + 1) * 6), interpolation=cv2.INTER_LINEAR
        )
        np.testing.assert_allclose(mask[0], wide[y : y + size[0], x : x + size[1]], atol=1e-6)
