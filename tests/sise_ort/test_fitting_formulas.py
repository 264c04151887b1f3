"""Frames brought to network size by two matrices: OpenCV's pixels, within one level of 255."""

from __future__ import annotations

import numpy as np
import pytest

from sise_ort.bundle import Fit, InputSpec
from sise_ort.fitting import fit_frame, place_back
from sise_ort.formulas.fitting import back_matrices, fit_matrices
from sise_ort.formulas.numpy_ops import NumpyOps

TARGET = (32, 48)
SIZES = [
    (32, 48), (64, 96), (100, 77), (20, 20), (31, 500), (16, 200), (200, 16), (33, 49), (40, 56), (300, 400), (1, 1), (1, 300),
    (45, 47), (7, 9),
]  # fmt: skip
FITS = [Fit("stretch", TARGET), Fit("crop", (40, 56)), Fit("letterbox", TARGET, (7, 80, 200))]


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.mode)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_frame_is_fitted_as_by_opencv(fit: Fit, size: tuple[int, int], rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    expected, placement = fit_frame(frame, InputSpec(*TARGET, 3), fit)
    op, lengths = NumpyOps(), (np.array([float(size[0])]), np.array([float(size[1])]))
    (rows, columns), (down, along) = fit_matrices(op, lengths, TARGET, fit.mode, fit.resize)
    found = np.einsum("ij,jkc,lk->ilc", rows, frame.astype(np.float64), columns)
    if fit.border:
        found += (1 - down @ along.T)[:, :, None] * np.array(fit.border)
    # OpenCV's weights have eleven bits where it enlarges, and it rounds halves up where it takes means of four
    assert np.abs(found - expected).max() < 1
    if size == TARGET:
        assert (found == frame).all()

    heatmap = rng.random(TARGET).astype(np.float32)
    back = back_matrices(op, lengths, TARGET, fit.mode, fit.resize)
    np.testing.assert_allclose(
        back[0] @ heatmap @ back[1].T, place_back(heatmap, placement), rtol=0, atol=2e-6
    )


def test_rows_add_up_to_one() -> None:
    (rows, columns), inside = fit_matrices(
        NumpyOps(), (np.array([77.0]), np.array([301.0])), (6, 8), "letterbox", (6, 8)
    )
    for matrix, there in zip((rows, columns), inside, strict=True):
        np.testing.assert_allclose(matrix.sum(axis=1), there[:, 0], atol=1e-12)
    assert inside[0].sum() == 2 and inside[1].sum() == 8
