"""Draw the surface of a rolled-steel strip without any defect, as a line-scan camera sees it.

What varies is what varies on real strips: exposure and fall-off of the light, vertical bands, the grain of rolled steel,
ripples, glints, scale, water marks, the sheet's edge with black beyond it, and now and then chalk marks, a raised pattern,
drops and dust. All of it is sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from noise import HEIGHT, WIDTH, Field, above, fractal_noise, smooth_noise, soft_step


@dataclass(frozen=True)
class Surface:
    """A sound strip before the camera.

    Attributes
    ----------
    brightness : float32, [256, 1600]
        Gray levels, not yet cut to 0 to 255.
    sheet : float32, [256, 1600]
        1 on the sheet, 0 beyond its edge.
    left, right : int
        First column of the sheet, and the one after its last.
    """

    brightness: Field
    sheet: Field
    left: int
    right: int


def draw_surface(rng: np.random.Generator) -> Surface:
    """Draw a sound strip."""
    left, right = _extent(rng)
    light = _light(rng, left, right)
    relative = np.ones((HEIGHT, WIDTH), np.float32)
    relative += _bands(rng) + _grain(rng)
    if rng.random() < 0.5:
        relative += _ripples(rng)
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.25, 0.4, 0.25, 0.1])):
        relative += _scale(rng)
    if rng.random() < 0.4:
        relative += _water(rng)
    if rng.random() < 0.5:
        relative += _dust(rng)
    if rng.random() < 0.1:
        relative += _raised_pattern(rng)
    brightness = light * np.maximum(relative, 0.1)
    if rng.random() < 0.6:
        brightness += _glints(rng, light)
    if rng.random() < 0.18:
        brightness = _chalk(rng, brightness)
    brightness, sheet = _edges(rng, brightness, left, right)
    return Surface(brightness, sheet, left, right)


def _extent(rng: np.random.Generator) -> tuple[int, int]:
    """Where the sheet begins and ends; half of the strips lie wholly on it."""
    left, right = 0, WIDTH
    if rng.random() < 0.5:
        off = int(WIDTH * rng.beta(1.0, 2.2) * 0.75)
        left, right = (off, WIDTH) if rng.random() < 0.5 else (0, WIDTH - off)
    return left, right


def _light(rng: np.random.Generator, left: int, right: int) -> Field:
    """Exposure with its fall-off: brightest around a column, often tilted from top to bottom."""
    x = np.linspace(0, 1, WIDTH, dtype=np.float32)[None]
    y = np.linspace(-0.5, 0.5, HEIGHT, dtype=np.float32)[:, None]
    tone = float(np.exp(rng.normal(np.log(100), 0.28)))
    centre, wide = rng.uniform(0, 1), rng.uniform(0.25, 0.9)
    lamp = 1 - rng.uniform(0.05, 0.5) * np.minimum(((x - centre) / wide) ** 2, 1.2)
    field = (
        tone
        * lamp
        * (1 + rng.normal(0, 0.14) * y)
        * (1 + rng.uniform(0.02, 0.1) * smooth_noise(rng, 220, 110))
    )
    return np.asarray(np.maximum(field, 6), np.float32)


def _bands(rng: np.random.Generator) -> Field:
    """Bands along the rolling direction, from broad ones to single lines."""
    line = np.zeros(WIDTH, np.float32)
    for sigma, strength in ((90, 0.08), (25, 0.06), (7, 0.045), (1.2, 0.025)):
        one = cv2.GaussianBlur(rng.standard_normal((1, WIDTH), np.float32), (0, 0), sigma)[0]
        line += rng.uniform(0, 1.3) * strength * one / one.std()
    drift = 1 + 0.35 * smooth_noise(rng, 60, 90)
    return np.asarray(line[None] * drift, np.float32)


def _grain(rng: np.random.Generator) -> Field:
    """Rolled texture: fine noise, longer in one direction, stronger in places."""
    where = 0.6 + 0.4 * np.clip(1 + smooth_noise(rng, 150, 80), 0, 3)
    fine = rng.uniform(0.04, 0.1) * smooth_noise(rng, rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.8))
    upright = rng.uniform(0, 0.045) * smooth_noise(rng, rng.uniform(0.7, 2.0), rng.uniform(6, 30))
    level = rng.uniform(0, 0.03) * smooth_noise(rng, rng.uniform(6, 25), 0.7)
    cloud = rng.uniform(0.005, 0.04) * smooth_noise(rng, rng.uniform(8, 25), rng.uniform(10, 40))
    return np.asarray(where * (fine + upright + level) + cloud, np.float32)


def _ripples(rng: np.random.Generator) -> Field:
    """Waves across the rolling direction, a few pixels apart, in part of the strip."""
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    bend = rng.uniform(2, 9) * smooth_noise(rng, 120, 60) + rng.uniform(-0.03, 0.03) * np.arange(
        WIDTH, dtype=np.float32
    )
    wave = np.sin(2 * np.pi * (y + bend) / rng.uniform(3.5, 11))
    where = soft_step(
        smooth_noise(rng, 130, 90), above(smooth_noise(rng, 130, 90), rng.uniform(0.2, 0.8)), 1.2
    )
    strength = rng.uniform(0.02, 0.1) * (1 + 0.5 * smooth_noise(rng, 14, 4))
    return np.asarray(strength * where * wave, np.float32)


def _scale(rng: np.random.Generator) -> Field:
    """Patches of scale with sharp edges, drawn out along the rolling direction; lighter or darker than the strip."""
    field = fractal_noise(rng, rng.uniform(4, 16), 3, rng.uniform(1.5, 7))
    window = soft_step(smooth_noise(rng, rng.uniform(40, 140), 90), rng.uniform(-0.3, 0.8), 1.0)
    flakes = soft_step(field, above(field, rng.uniform(0.1, 0.4)), rng.uniform(0.1, 0.5)) * window
    tone = rng.choice([-1, 1]) * rng.uniform(0.07, 0.32)
    return np.asarray(tone * flakes * (1 + 0.3 * smooth_noise(rng, 2, 5)), np.float32)


def _water(rng: np.random.Generator) -> Field:
    """Water marks: large areas with one sharp side."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(rng.integers(1, 4)):
        field = smooth_noise(rng, rng.uniform(90, 260), rng.uniform(60, 160))
        level = rng.uniform(0.2, 1.2)
        inside = soft_step(field, level, 0.03)
        fading = np.exp(-np.maximum(field - level, 0) * rng.uniform(0.3, 3))
        total += rng.choice([-1, 1]) * rng.uniform(0.04, 0.16) * inside * fading
    return total


def _dust(rng: np.random.Generator) -> Field:
    """Single dark or bright points, and short hairs."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(rng.integers(2, 18)):
        x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        tone = float(rng.choice([-1, 1], p=[0.7, 0.3]) * rng.uniform(0.15, 0.5))
        cv2.circle(
            canvas, (int(16 * x), int(16 * y)), int(16 * rng.uniform(0.6, 2.0)), tone, -1, cv2.LINE_AA, 4
        )
    return canvas


def _glints(rng: np.random.Generator, light: Field) -> Field:
    """Bright points of the grain, in rows, where the light falls flat."""
    points = smooth_noise(rng, rng.uniform(0.6, 1.6), 0.6)
    where = np.clip(smooth_noise(rng, 120, 70) + rng.uniform(-0.6, 0.6), 0, 2)
    level = rng.uniform(1.6, 2.8)
    return np.asarray(light * rng.uniform(0.3, 1.2) * where * np.clip(points - level, 0, 1.5), np.float32)


def _raised_pattern(rng: np.random.Generator) -> Field:
    """The bars of a floor plate, crossing at an angle, lit from one side."""
    period, slope = rng.uniform(70, 140), rng.uniform(1.6, 2.8)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    height = np.zeros((HEIGHT, WIDTH), np.float32)
    for sign in (-1, 1):
        distance = (x + sign * y / slope) % period - period / 2
        height = np.maximum(height, soft_step(-np.abs(distance), -rng.uniform(4, 7), rng.uniform(2, 6)))
    slope_x = np.gradient(cv2.GaussianBlur(height, (0, 0), 1.2), axis=1)
    return np.asarray(
        rng.choice([-1, 1]) * rng.uniform(1.5, 4) * slope_x + rng.uniform(0, 0.3) * height, np.float32
    )


def _chalk(rng: np.random.Generator, brightness: Field) -> Field:
    """Letters in chalk or paint: strokes of splashed white, with drops around them."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    x0, y0 = rng.uniform(60, WIDTH - 260), rng.uniform(20, HEIGHT - 60)
    for _ in range(rng.integers(1, 5)):
        start = np.array([x0 + rng.uniform(0, 200), y0 + rng.uniform(-40, 140)])
        turn = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(3, 30)):
            turn += rng.normal(0, 0.5)
            start += rng.uniform(3, 9) * np.array([np.cos(turn), np.sin(turn)])
            cv2.circle(canvas, (int(start[0]), int(start[1])), int(rng.uniform(2, 11)), 1.0, -1)
    ragged = cv2.GaussianBlur(canvas, (0, 0), 3)
    ragged = ragged + 0.35 * np.minimum(1, 4 * ragged) * (
        0.6 * smooth_noise(rng, 1.6, 1.6) + 0.6 * smooth_noise(rng, 4, 4)
    )
    paint = soft_step(ragged, 0.45, 0.2)
    drops = _drops(rng, x0, y0)
    paint = np.maximum(paint, drops)
    holes = soft_step(smooth_noise(rng, 4, 5), rng.uniform(0.6, 1.6), 0.5) * (rng.random() < 0.5)
    paint = paint * (1 - 0.8 * holes)
    tone = rng.uniform(180, 330)
    return np.asarray(brightness * (1 - paint) + tone * paint, np.float32)


def _drops(rng: np.random.Generator, x0: float, y0: float) -> Field:
    """Drops of paint around a place."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(rng.integers(10, 80)):
        x, y = x0 + rng.normal(80, 110), y0 + rng.normal(40, 60)
        x2, y2 = (x, y) + rng.normal(0, 4, 2) * (rng.random() < 0.4)
        cv2.line(canvas, (int(x), int(y)), (int(x2), int(y2)), 1.0, int(rng.integers(1, 4)), cv2.LINE_AA)
    return cv2.GaussianBlur(canvas, (0, 0), 0.6)


def _edges(rng: np.random.Generator, brightness: Field, left: int, right: int) -> tuple[Field, Field]:
    """Black beyond the sheet, and what lies along its edge: a rim, a dark band, rough scale."""
    x = np.arange(WIDTH, dtype=np.float32)[None]
    wobble = (
        rng.uniform(0, 0.8) * smooth_noise(rng, 3, 30)[:, :1]
        + rng.uniform(-0.01, 0.01) * np.arange(HEIGHT, dtype=np.float32)[:, None]
    )
    inside = (
        np.minimum(x - left, right - 1 - x) + wobble
        if left or right < WIDTH
        else np.full_like(brightness, 1e3)
    )
    if left:
        inside = np.broadcast_to(x - left + wobble, brightness.shape)
    elif right < WIDTH:
        inside = np.broadcast_to(right - 1 - x + wobble, brightness.shape)
    sheet = soft_step(np.asarray(inside, np.float32), 0, rng.uniform(1.5, 6))
    near = np.exp(-np.maximum(inside, 0) / rng.uniform(8, 60))
    rough = rng.uniform(-0.35, 0.35) + rng.uniform(0, 0.25) * smooth_noise(rng, 2, rng.uniform(4, 20))
    brightness = brightness * (1 + near * rough)
    dark = rng.uniform(1, 6)
    return np.asarray(sheet * brightness + (1 - sheet) * dark, np.float32), sheet
