"""Draw rolled-steel strips with known defects: the pictures that the built-in demo model learns from.

Every strip comes with the exact mask of its defect, so a heat map can be held against the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Field = NDArray[np.float64]
HEIGHT, WIDTH = 256, 800
CLASSES = ("scratch", "pitting", "patch", "crack")


def draw_strip(kinds: Sequence[str], rng: np.random.Generator) -> tuple[Picture, NDArray[np.bool_]]:
    """Draw one strip.

    Parameters
    ----------
    kinds : the defects to draw, out of ``CLASSES``; none for a sound strip.
    rng : source of all randomness; the same state draws the same strip.

    Returns
    -------
    strip : uint8 [256, 800], gray.
    masks : bool [len(kinds), 256, 800], True on each defect.
    """
    draw = {"scratch": _scratch, "pitting": _pitting, "patch": _patch, "crack": _crack}
    strip = _surface(rng)
    masks = np.zeros((len(kinds), HEIGHT, WIDTH), bool)
    for mask, kind in zip(masks, kinds, strict=True):
        strength = draw[kind](rng)
        strip += strength
        mask[:] = np.abs(strength) > 6.0
    strip += rng.normal(0, 3.0, strip.shape)
    return np.clip(strip, 0, 255).astype(np.uint8), masks


def smooth_noise(rng: np.random.Generator, sigma_x: float, sigma_y: float) -> Field:
    """Noise blurred by sigmas in pixels, mean 0, deviation 1; wide blurs are drawn small and enlarged."""
    step_x, step_y = max(1, int(sigma_x / 3)), max(1, int(sigma_y / 3))
    small = rng.normal(0, 1, (-(-HEIGHT // step_y), -(-WIDTH // step_x)))
    small = cv2.GaussianBlur(small, (0, 0), sigmaX=sigma_x / step_x, sigmaY=sigma_y / step_y)
    field = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.mean()) / field.std())


def _surface(rng: np.random.Generator) -> Field:
    """Base tone, uneven light, streaks along the rolling direction, a few faint stains."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    tone = rng.uniform(105, 160)
    light = rng.uniform(-18, 18) * (columns / WIDTH - 0.5) + rng.uniform(-22, 22) * (rows / HEIGHT - 0.5)
    return np.asarray(
        tone
        + light
        + rng.uniform(4, 9) * smooth_noise(rng, 45, 0.9)
        + rng.uniform(2, 6) * smooth_noise(rng, 30, 30)
        + rng.uniform(2, 5) * smooth_noise(rng, 1.1, 1.1)
    )


def _scratch(rng: np.random.Generator) -> Field:
    """One to three thin bright lines, nearly along the rolling direction."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    x, y = rng.uniform(60, WIDTH - 300), rng.uniform(40, HEIGHT - 40)
    angle = rng.uniform(-0.35, 0.35)
    for _ in range(rng.integers(1, 4)):
        length, bend = rng.uniform(120, 300), rng.uniform(-12, 12)
        t = np.linspace(0, 1, 40)
        points = np.stack(
            [x + t * length * np.cos(angle), y + t * length * np.sin(angle) + bend * np.sin(np.pi * t)],
            axis=1,
        )
        cv2.polylines(
            canvas,
            [np.round(points * 16).astype(np.int32)],
            False,
            1.0,
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
            4,
        )
        x, y = x + rng.uniform(-30, 30), y + rng.uniform(6, 22)
    return np.asarray(rng.uniform(45, 85) * cv2.GaussianBlur(canvas, (0, 0), 0.8), np.float64)


def _pitting(rng: np.random.Generator) -> Field:
    """A cluster of small dark round pits."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    centre = np.array([rng.uniform(90, WIDTH - 90), rng.uniform(60, HEIGHT - 60)])
    spread = np.array([rng.uniform(25, 60), rng.uniform(18, 38)])
    for _ in range(rng.integers(14, 40)):
        point = centre + rng.normal(0, 1, 2) * spread
        radius = rng.uniform(1.5, 4.5)
        cv2.circle(
            canvas, (int(point[0] * 16), int(point[1] * 16)), int(radius * 16), 1.0, -1, cv2.LINE_AA, 4
        )
    return np.asarray(-rng.uniform(40, 75) * cv2.GaussianBlur(canvas, (0, 0), 0.9), np.float64)


def _patch(rng: np.random.Generator) -> Field:
    """A cloudy stain with a ragged edge, darker or brighter than the strip."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    x, y = rng.uniform(120, WIDTH - 120), rng.uniform(75, HEIGHT - 75)
    a, b = rng.uniform(50, 105), rng.uniform(30, 60)
    radius = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2
    inside = (radius + 0.45 * smooth_noise(rng, 9, 9) < 1.0) & (radius < 2.2)
    body = cv2.GaussianBlur(inside.astype(np.float64), (0, 0), 2.0) * (1 + 0.25 * smooth_noise(rng, 2.5, 2.5))
    return np.asarray(-rng.uniform(26, 45) * body)


def _crack(rng: np.random.Generator) -> Field:
    """A dark branching line across the rolling direction."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    branches = [(rng.uniform(80, WIDTH - 80), rng.uniform(20, 90), np.pi / 2 + rng.uniform(-0.4, 0.4), 1.0)]
    length = rng.integers(14, 28)
    while branches:
        x, y, angle, share = branches.pop()
        for _ in range(int(length * share)):
            angle += rng.normal(0, 0.32)
            nx, ny = x + 6 * np.cos(angle), y + 6 * np.sin(angle)
            cv2.line(
                canvas,
                (int(x * 16), int(y * 16)),
                (int(nx * 16), int(ny * 16)),
                1.0,
                2 if share == 1.0 else 1,
                cv2.LINE_AA,
                4,
            )
            x, y = nx, ny
            if share > 0.4 and rng.random() < 0.09:
                branches.append((x, y, angle + rng.choice([-0.8, 0.8]), share * 0.5))
    return np.asarray(-rng.uniform(50, 85) * cv2.GaussianBlur(canvas, (0, 0), 0.8), np.float64)
