"""Random fields that the strips are drawn from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
HEIGHT, WIDTH = 256, 1600
"""Pixels of a strip, as Severstal's are."""


def smooth_noise(rng: np.random.Generator, sigma_x: float, sigma_y: float) -> Field:
    """Blurred white noise [256, 1600] of mean 0 and deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    sigma_x, sigma_y : float
        Deviations of the blur in pixels; 0 leaves the noise as it is in that direction.
    """
    steps = [max(1, int(sigma / 3)) for sigma in (sigma_y, sigma_x)]
    rows, columns = (-(-length // step) + 8 for length, step in zip((HEIGHT, WIDTH), steps, strict=True))
    small = rng.standard_normal((rows, columns), np.float32)
    small = _blurred(small, sigma_x / steps[1], sigma_y / steps[0])[4:-4, 4:-4]
    field = (
        small
        if small.shape == (HEIGHT, WIDTH)
        else cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    )
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def _blurred(field: Field, sigma_x: float, sigma_y: float) -> Field:
    def kernel(sigma: float) -> Field:
        return (
            cv2.getGaussianKernel(2 * int(3 * sigma + 0.5) + 1, sigma, cv2.CV_32F)
            if sigma
            else np.ones((1, 1), np.float32)
        )

    return np.asarray(cv2.sepFilter2D(field, -1, kernel(sigma_x), kernel(sigma_y)))


def fractal_noise(rng: np.random.Generator, largest: float, octaves: int, stretch: float = 1.0) -> Field:
    """Noise of several sizes, each half as large and as strong as the one before; deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    largest : float
        Deviation of the widest blur in pixels, across the strip's length.
    octaves : int
        Number of sizes.
    stretch : float
        How much longer features are from top to bottom than from left to right.
    """
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    for k in range(octaves):
        field += 0.5**k * smooth_noise(rng, largest * 0.5**k, stretch * largest * 0.5**k)
    return np.asarray(field / field.std())


def soft_step(field: Field, level: float, width: float) -> Field:
    """1 where a field is above a level, 0 below, with a ramp of a width."""
    return np.clip((field - level) / width + 0.5, 0, 1)


def above(field: Field, share: float) -> float:
    """The level above which a share of a field lies."""
    return float(np.quantile(field[::4, ::4], 1 - share))
