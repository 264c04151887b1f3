"""How long an explanation will take, as far as it is known when it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """How long an explanation will take, by the pace measured before it or in its first steps.

    Attributes
    ----------
    steps : int
        Steps of the method in all, such as masks that are scored.
    unit : str
        What they are, in the plural: "masks".
    seconds : float
        Time of the whole explanation, from its call on.
    after : float
        Seconds from the call on until this was known.
    passes : int
        Passes of a budget that would shorten it; 0 where none would.
    passes_seconds : float
        Time of the whole explanation within that budget; `seconds` where `passes` is 0.
    """

    steps: int
    unit: str
    seconds: float
    after: float
    passes: int
    passes_seconds: float

    def record(self) -> dict[str, Any]:
        """Collect the estimate for the record of an explanation: seconds expected, and when that was known."""
        found = {
            "estimated_seconds": round(self.seconds, 3),
            "estimate_known_after_seconds": round(self.after, 3),
        }
        if self.passes:
            found[f"estimated_seconds_with_passes_{self.passes}"] = round(self.passes_seconds, 3)
        return found
