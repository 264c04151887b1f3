"""Checks of the values that a method's parameters take."""

from __future__ import annotations

from typing import Any

import numpy as np

from sise_ort.errors import ParameterError, option, shown

LONGEST_DEADLINE = 24 * 60 * 60
"""Seconds that may be asked for at most."""
OPTIONS = frozenset({"mu", "passes", "deadline", "tolerance"})
"""Parameters of methods that are options of the command line themselves; the others are given with `--set`."""


def option_of(name: str) -> str:
    """A method's parameter as an error's message names it (`sise_ort.errors.option`)."""
    return option(name if name in OPTIONS else f"method.{name}")


def whole_number(name: str, value: Any, least: int = 1, most: int = 10**6) -> int:
    """A parameter's value that must be a whole number from `least` to `most`.

    Raises
    ------
    ParameterError
        It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise ParameterError(
            f"{option_of(name)} is {shown(value)}; it must be a whole number from {least} to {most}"
        )
    return int(value)


def share(name: str, value: Any) -> float:
    """A parameter's value that must lie strictly between 0 and 1.

    Raises
    ------
    ParameterError
        It does not.
    """
    if not _is_number(value) or not 0 < value < 1:
        raise ParameterError(f"{option_of(name)} is {shown(value)}; it must be a number between 0 and 1")
    return float(value)


def seconds(name: str, value: Any) -> float:
    """A parameter's value that must be a number of seconds over 0, at most a day.

    Raises
    ------
    ParameterError
        It is none.
    """
    if not _is_number(value) or not 0 < value <= LONGEST_DEADLINE:
        raise ParameterError(
            f"{option_of(name)} in seconds is {shown(value)}; it must be a number over 0, at most {LONGEST_DEADLINE}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
