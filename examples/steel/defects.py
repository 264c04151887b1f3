"""Draw Severstal's four kinds of defects on a strip, at the sizes and contrasts of real ones, with exact masks.

1. pitted and flecked patches; 2. thin vertical dashes; 3. scratches and abrasions of all lengths; 4. rough torn scabs with
relief.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from noise import HEIGHT, WIDTH, Field, above, fractal_noise, smooth_noise, soft_step
from numpy.typing import NDArray


@dataclass(frozen=True)
class Defect:
    """What a defect does to a strip.

    Attributes
    ----------
    factor : float32, [256, 1600]
        Multiplies the brightness.
    shine : float32, [256, 1600]
        Is added to it, in units of the strip's mean brightness.
    mask : bool, [256, 1600]
        Where the defect is.
    """

    factor: Field
    shine: Field
    mask: NDArray[np.bool_]


Place = tuple[int, int]
"""First column of the sheet, and the one after its last."""


def _blank() -> Field:
    return np.zeros((HEIGHT, WIDTH), np.float32)


def _spot(x: float, y: float, a: float, b: float) -> Field:
    """An ellipse's squared radius in units of its half axes."""
    rows = (np.arange(HEIGHT, dtype=np.float32)[:, None] - y) / b
    columns = (np.arange(WIDTH, dtype=np.float32)[None] - x) / a
    return np.asarray(rows**2 + columns**2)


def _moved(field: Field, right: int, down: int) -> Field:
    """A field moved by some pixels; its border is repeated."""
    return np.asarray(
        cv2.warpAffine(
            field, np.float32([[1, 0, right], [0, 1, down]]), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE
        )
    )


def _column(rng: np.random.Generator, place: Place, margin: float) -> float:
    """A column of the sheet, more often near one of its edges."""
    left, right = place[0] + margin, place[1] - margin
    if right <= left:
        return 0.5 * (place[0] + place[1])
    share = rng.beta(0.8, 0.8)
    return float(left + share * (right - left))


def pitted(rng: np.random.Generator, place: Place) -> Defect:
    """Patches of small pits, dark with bright rims, some with flecks that shine."""
    inside, pits, bright = _blank(), _blank(), _blank()
    for _ in range(rng.integers(1, 5)):
        a, b = rng.uniform(8, 34), rng.uniform(14, 70)
        radius = _spot(_column(rng, place, a), rng.uniform(0, HEIGHT), a, b) + 0.5 * smooth_noise(rng, 5, 8)
        inside = np.maximum(inside, soft_step(-radius, -1, 0.5))
    field = smooth_noise(rng, rng.uniform(1.2, 3.5), rng.uniform(1.5, 6))
    pits = soft_step(field, above(field, rng.uniform(0.2, 0.45)), 0.5) * inside
    rims = np.maximum(0, _moved(pits, 0, 2) - pits)
    flecks = smooth_noise(rng, 1.4, 1.6)
    bright = soft_step(flecks, above(flecks, rng.uniform(0.01, 0.12)), 0.4) * inside
    factor = 1 - rng.uniform(0.25, 0.6) * pits - rng.uniform(0, 0.15) * inside
    shine = rng.uniform(0.1, 0.4) * rims + rng.uniform(0.2, 1.6) * bright
    return Defect(factor, shine, inside > 0.5)


def dashes(rng: np.random.Generator, place: Place) -> Defect:
    """Thin upright dashes: dark slits with a bright side, a few pixels wide."""
    dark, mask = _blank(), np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(rng.integers(1, 5)):
        x, y = _column(rng, place, 8), rng.uniform(0, HEIGHT)
        for _ in range(rng.integers(1, 4)):
            length, wide = rng.uniform(16, 80), rng.uniform(1.5, 5)
            t = np.linspace(0, 1, 12)
            points = np.stack(
                [x + rng.normal(0, 1.5) * np.sin(np.pi * t) + rng.normal(0, 3) * t, y + length * t], 1
            )
            for k in range(11):
                size = max(1, round(wide * np.sin(np.pi * (k + 0.7) / 11.4)))
                cv2.line(
                    dark,
                    *(tuple(int(16 * v) for v in points[j]) for j in (k, k + 1)),
                    1.0,
                    size,
                    cv2.LINE_AA,
                    4,
                )
                cv2.line(
                    mask,
                    *(tuple(int(16 * v) for v in points[j]) for j in (k, k + 1)),
                    1,
                    size + 3,
                    cv2.LINE_8,
                    4,
                )
            x, y = x + rng.normal(0, 10), y + rng.uniform(0.6, 1.6) * length
    dark = cv2.GaussianBlur(dark, (0, 0), 0.7) * np.clip(0.75 + 0.4 * smooth_noise(rng, 1.5, 3), 0, 1.2)
    side = np.maximum(0, _moved(dark, int(rng.choice([-2, 2])), 0) - dark)
    return Defect(1 - rng.uniform(0.3, 0.75) * dark, rng.uniform(0, 0.8) * side, mask > 0)


def scratches(rng: np.random.Generator, place: Place) -> Defect:
    """Scratches and abrasions: long dark lines, or rows of flecks torn along the rolling direction, or rubbed places."""
    return (_lines, _torn, _rubbed)[rng.choice(3, p=[0.4, 0.35, 0.25])](rng, place)


def _lines(rng: np.random.Generator, place: Place) -> Defect:
    dark, mask = _blank(), np.zeros((HEIGHT, WIDTH), np.uint8)
    lean = rng.normal(0, 0.035) if rng.random() < 0.85 else rng.uniform(-1.5, 1.5)
    for _ in range(rng.integers(1, 9)):
        x, length = _column(rng, place, 4), HEIGHT * rng.choice([rng.uniform(0.15, 0.6), 1.6])
        top = rng.uniform(-40, HEIGHT - 30) if length < HEIGHT else -20
        for _ in range(rng.integers(1, 4)):
            wide, tone = int(rng.integers(1, 5)), float(rng.uniform(0.4, 1))
            ends = [(int(16 * (x + lean * s * length)), int(16 * (top + s * length))) for s in (0.0, 1.0)]
            cv2.line(dark, *ends, tone, wide, cv2.LINE_AA, 4)
            cv2.line(mask, *ends, 1, wide + 4, cv2.LINE_8, 4)
            x += rng.normal(0, 8)
    broken = np.clip(1.15 + 0.6 * smooth_noise(rng, 4, rng.uniform(10, 60)), 0, 1)
    dark = cv2.GaussianBlur(dark, (0, 0), 0.8) * broken
    dark_side = rng.random() < 0.75
    side = np.maximum(0, _moved(dark, 2, 0) - dark)
    if dark_side:
        return Defect(
            1 - rng.uniform(0.3, 0.75) * dark, rng.uniform(0, 0.5) * side, (mask > 0) & (broken > 0.15)
        )
    return Defect(1 - 0.3 * side, rng.uniform(0.3, 1.2) * dark, (mask > 0) & (broken > 0.15))


def _torn(rng: np.random.Generator, place: Place) -> Defect:
    window = _blank()
    for _ in range(rng.integers(1, 6)):
        a, b = rng.uniform(5, 26), rng.uniform(30, 170)
        radius = _spot(_column(rng, place, a), rng.uniform(0, HEIGHT), a, b) + 0.4 * smooth_noise(rng, 6, 14)
        window = np.maximum(window, soft_step(-radius, -1, 0.5))
    height = fractal_noise(rng, rng.uniform(2.5, 6), 3, rng.uniform(1.5, 3.5))
    relief = np.gradient(height, axis=1) * rng.choice([-1, 1]) + 0.5 * np.gradient(height, axis=0)
    relief = np.asarray(relief / relief.std(), np.float32)
    flecks = window * soft_step(height, above(height, rng.uniform(0.25, 0.6)), 0.6)
    light, dark = np.maximum(relief - 0.3, 0), np.maximum(-relief - 0.3, 0)
    mask = cv2.morphologyEx((window > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 5), np.uint8)) > 0
    return Defect(
        np.clip(1 - rng.uniform(0.3, 0.7) * flecks * dark, 0.1, 1).astype(np.float32),
        np.asarray(rng.uniform(0.25, 0.9) * flecks * light, np.float32),
        mask,
    )


def _rubbed(rng: np.random.Generator, place: Place) -> Defect:
    window = _blank()
    for _ in range(rng.integers(2, 7)):
        a, b = rng.uniform(10, 50), rng.uniform(8, 40)
        radius = _spot(_column(rng, place, a), rng.uniform(10, HEIGHT - 10), a, b) + 0.6 * smooth_noise(
            rng, 8, 8
        )
        window = np.maximum(window, soft_step(-radius, -1, 0.6))
    texture = smooth_noise(rng, 1.5, rng.uniform(1.5, 6))
    shining = smooth_noise(rng, 2.2, 1.2)
    dark = soft_step(texture, above(texture, 0.4), 0.8) * window
    bright = soft_step(shining, above(shining, rng.uniform(0.03, 0.15)), 0.4) * window
    return Defect(1 - rng.uniform(0.2, 0.55) * dark, rng.uniform(0.3, 1.6) * bright, window > 0.5)


def scabs(rng: np.random.Generator, place: Place) -> Defect:
    """A scab: torn metal that lies on the strip, with folds, a lit and a shadowed side, and a ragged border."""
    a, b = rng.uniform(40, 260), rng.uniform(35, 150)
    x, y = _column(rng, place, 0.5 * a), rng.uniform(0, HEIGHT)
    radius = _spot(x, y, a, b) + 0.75 * fractal_noise(rng, rng.uniform(18, 45), 4)
    inside = soft_step(-radius, -1, 0.08)
    folds = fractal_noise(rng, rng.uniform(8, 24), 5, rng.uniform(0.35, 2.5))
    folds = np.asarray(folds if rng.random() < 0.5 else 1 - 1.6 * np.abs(folds), np.float32)
    swell = cv2.GaussianBlur(inside, (0, 0), rng.uniform(3, 9))
    turn = rng.uniform(0, 2 * np.pi)
    slope = sum(
        _slope(part, turn) * weight for part, weight in ((folds, 1.0), (swell, rng.uniform(0.5, 1.5)))
    )
    slope = np.asarray(slope * inside * rng.uniform(0.5, 1.3), np.float32)
    rim = np.maximum(0, cv2.GaussianBlur(inside, (0, 0), 3) - inside) + np.maximum(
        0, inside - cv2.GaussianBlur(inside, (0, 0), 2)
    )
    shadow = np.maximum(0, _moved(cv2.GaussianBlur(inside, (0, 0), 4), 0, 5) - inside)
    grain = 0.1 * smooth_noise(rng, 1.2, 1.2) * inside
    factor = np.exp(
        np.clip(0.32 * slope, -1.3, 0.55)
        + grain
        - 0.5 * rim
        - rng.uniform(0.3, 1) * shadow
        + rng.uniform(-0.6, 0.0) * inside
    )
    glints = np.clip(slope - 2, 0, 1.5) * rng.uniform(0, 0.5)
    return Defect(np.asarray(factor, np.float32), np.asarray(glints, np.float32), inside > 0.5)


def _slope(height: Field, turn: float) -> Field:
    """A height's slope along a direction, of deviation 1."""
    slope = np.cos(turn) * np.gradient(height, axis=1) + np.sin(turn) * np.gradient(height, axis=0)
    return np.asarray(slope / max(float(np.sqrt((slope**2).mean())), 1e-6), np.float32)


DRAW: Mapping[str, Callable[[np.random.Generator, Place], Defect]] = {
    "pitted": pitted,
    "dashes": dashes,
    "scratches": scratches,
    "scabs": scabs,
}
"""A function per kind, in the order of Severstal's numbers."""
