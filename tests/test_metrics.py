from __future__ import annotations

import math

import numpy as np
import pytest

from sise_ort.metrics import energy_pointing_game


def test_by_hand() -> None:
    heatmap = np.array([[1.0, 0.5], [0.25, 0.25]])
    assert energy_pointing_game(heatmap, np.array([[1, 0], [0, 0]])) == 0.5
    assert energy_pointing_game(heatmap, np.array([[True, True], [False, True]])) == 0.875


def test_an_even_map_scores_the_truths_share() -> None:
    truth = np.zeros((20, 30), bool)
    truth[2:7, 3:9] = True
    assert energy_pointing_game(np.full((20, 30), 0.3, np.float32), truth) == pytest.approx(30 / 600)


def test_empty_map_or_truth_is_left_out() -> None:
    assert math.isnan(energy_pointing_game(np.zeros((2, 2)), np.ones((2, 2))))
    assert math.isnan(energy_pointing_game(np.ones((2, 2)), np.zeros((2, 2))))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="heatmap has shape"):
        energy_pointing_game(np.ones((2, 3)), np.ones((3, 2)))
