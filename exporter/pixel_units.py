"""Whether means and standard deviations are in units of 0 to 255, or were meant for pixels from 0 to 1."""

from __future__ import annotations

from sise_ort.errors import ParameterError, option


def require_pixel_units(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Refuse values meant for pixels from 0 to 1.

    Rule: a standard deviation under 1, or means that all lie in 0 to 1 and are not all 0, cannot be in units of 0 to
    255. Means of 0 with deviations of 1 (no normalisation), and deviations of 1 with any other mean are fine.
    """
    if min(std) < 1 or (max(mean) <= 1 and min(mean) >= 0 and max(mean) > 0):
        in_units = max(map(abs, mean)) <= 1, max(std) <= 1  # each by itself: one of them may be right
        scaled = [
            [round(255 * v, 3) if times else v for v in values]
            for values, times in zip((mean, std), in_units, strict=True)
        ]
        raise ParameterError(
            f"{option('mean')} {mean} and {option('std')} {std} are in units of 0 to 1; pixel units of 0 to 255 are needed: "
            f"{option('mean', scaled[0])} {option('std', scaled[1])}"
        )
