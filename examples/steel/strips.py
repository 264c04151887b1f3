"""Draw strips of rolled steel with known defects: the pictures that the built-in demo model learns from.

Every strip comes with the exact masks of its defects, so that a heat map can be held against the truth. They are drawn after
the strips of Severstal's data set: 256 × 1600, gray, four kinds of defects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from defects import DRAW
from noise import HEIGHT, WIDTH
from numpy.typing import NDArray
from surface import draw_surface

CLASSES = tuple(DRAW)
__all__ = ["CLASSES", "HEIGHT", "WIDTH", "draw_strip"]


def draw_strip(kinds: Sequence[str], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one strip.

    Parameters
    ----------
    kinds : sequence of str
        The defects to draw, out of ``CLASSES``; none for a sound strip.
    rng : numpy.random.Generator
        Source of all randomness; the same state draws the same strip.

    Returns
    -------
    strip : uint8, [256, 1600]
        Gray.
    masks : bool, [len(kinds), 256, 1600]
        True on each kind's defects.
    """
    surface = draw_surface(rng)
    strip = surface.brightness
    level = float(strip[surface.sheet > 0.5].mean())
    masks = np.zeros((len(kinds), HEIGHT, WIDTH), bool)
    for mask, kind in zip(masks, kinds, strict=True):
        while not mask.any():
            defect = DRAW[kind](rng, (surface.left, surface.right))
            mask[:] = defect.mask & (surface.sheet > 0.5)
        strip = strip * (1 + surface.sheet * (defect.factor - 1)) + surface.sheet * defect.shine * level
    noise = rng.standard_normal(strip.shape, np.float32)
    strip = strip + rng.uniform(0.5, 2.0) * noise
    return np.clip(strip, 0, 255).astype(np.uint8), masks
