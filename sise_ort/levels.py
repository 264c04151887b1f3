"""Levels: which pixel values mean black and white, where that is not 0 and 255."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import FrameError, ParameterError, option

Range = float | tuple[float, float] | None
"""What users give: None, the value of white, or the values of black and white."""


@dataclass(frozen=True)
class Levels:
    """Pixel values that mean black and white.

    Attributes
    ----------
    low, high : float
        Values that become 0 and 255; those between in proportion.
    window : bool
        Values outside are cut to the ends. Otherwise the two are the range that the camera can give, and a value
        outside is an error.
    """

    low: float
    high: float
    window: bool = False

    def apply(self, pixels: NDArray[Any], name: str) -> tuple[NDArray[np.float32], str]:
        """Bring pixel values to 0 to 255.

        Parameters
        ----------
        pixels : array
            Finite whole or floating-point numbers.
        name : str
            What the picture is called in errors.

        Returns
        -------
        pixels : float32, of the same shape
            ``(value - low) / (high - low) * 255``.
        note : str
            What was done, in words.

        Raises
        ------
        FrameError
            The pixels cannot have this range, or a value lies outside of it.
        """
        if not self.window:
            self._check(pixels, name)
        with np.errstate(over="ignore"):  # what is beyond any number lies outside
            values = (pixels.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        note = f"pixel values {self.low:g} to {self.high:g} were taken as 0 to 255"
        outside = float(((values < 0) | (values > 255)).mean())
        if outside:
            note += f"; {100 * outside:.2g} % of the values lay outside and were cut"
        return np.clip(values, 0, 255).astype(np.float32), note

    def _check(self, pixels: NDArray[Any], name: str) -> None:
        if pixels.dtype.kind in "iu" and self.high > np.iinfo(pixels.dtype).max:
            raise FrameError(
                f"{name} has {pixels.dtype} pixels, which cannot reach {self.high:g}: "
                f"{option('levels', self.high)} is not its range"
            )
        least, most = pixels.min(), pixels.max()
        if least < self.low or most > self.high:
            raise FrameError(
                f"{name} has values from {least:g} to {most:g}, outside {self.low:g} to {self.high:g}; give the range "
                f"that it can have, or both ends ({option('levels', [0, 100])}) to cut what lies outside"
            )


def check_levels(levels: Any) -> Levels | None:
    """Read the parameter `levels`.

    Parameters
    ----------
    levels : None, float, or pair of floats
        None takes 0 to 255. A number is the value of white, such as 4095 for 12 bits; black is 0. A pair
        ``(low, high)`` is a window.

    Returns
    -------
    Levels or None

    Raises
    ------
    ParameterError
        It is neither, not finite, or empty.
    """
    if levels is None or isinstance(levels, Levels):
        return levels
    several = isinstance(levels, Sequence) and not isinstance(levels, (str, bytes))
    ends = tuple(levels) if several else (0.0, levels)
    if len(ends) != 2 or not all(isinstance(v, Real) and not isinstance(v, bool) for v in ends):
        raise ParameterError(
            f"{option('levels')} is {levels!r}; a number such as 4095 is needed, or two: the values of black and white"
        )
    try:
        low, high = float(ends[0]), float(ends[1])
    except OverflowError:
        low, high = 0.0, math.inf
    if not (math.isfinite(high - low) and low < high):
        raise ParameterError(f"{option('levels')} is {low:g} to {high:g}; the first must be under the second")
    return Levels(low, high, window=several)
