"""Times and sizes as users write them: 90d, 10y, 500GB, 2026-11-25."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timezone

from sise_ort.errors import ParameterError, option, shown

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 365.25 * 86_400.0}
"""Seconds of each unit; a year has 365.25 days."""
BYTES = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}
"""Bytes of each unit."""


def seconds(name: str, text: str) -> float:
    """A duration such as "90d" in seconds.

    Parameters
    ----------
    name : str
        The option, for the error.
    text : str
        A number and one of s, m, h, d, w, y.

    Raises
    ------
    ParameterError
        It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdwy])\s*", text.lower())
    value = float(found[1]) * SECONDS[found[2]] if found else math.inf
    if not value < 1e12:
        raise ParameterError(f"{option(name)} is {shown(text)}; a duration such as 90d, 12h or 10y is needed")
    return value


def size(name: str, text: str) -> int:
    """A size such as "500GB" in bytes.

    Parameters
    ----------
    name : str
        The option, for the error.
    text : str
        A number, with KB, MB, GB, TB, KiB, MiB or GiB behind it.

    Raises
    ------
    ParameterError
        It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", text.upper())
    unit = found[2] if found else "?"
    unit = "" if unit == "B" else unit
    if found is None or unit not in BYTES or len(found[1]) > 20:
        raise ParameterError(f"{option(name)} is {shown(text)}; a size such as 500GB or 20GiB is needed")
    return int(float(found[1]) * BYTES[unit])


def moment(name: str, text: str) -> float:
    """A moment as `time.time` counts: a date, a date with a time, or a duration before now.

    Parameters
    ----------
    name : str
        The option, for the error.
    text : str
        Such as "2026-11-25", "2026-11-25T14:30", "2026-11-25T14:30+01:00" or "24h"; in UTC where it names no zone.

    Raises
    ------
    ParameterError
        It is none.
    """
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*[smhdwy]\s*", text.lower()):
        return time.time() - seconds(name, text)
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ParameterError(
            f"{option(name)} is {shown(text)}; a moment such as 2026-11-25, 2026-11-25T14:30 or 24h ago is needed"
        ) from error
