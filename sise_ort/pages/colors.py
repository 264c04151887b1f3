"""Colours of pages and plots, in one place."""

from __future__ import annotations

INK = "#1d2329"
"""Text."""

MUTED = "#5a6672"
"""Captions and notes."""

RULE = "#dde2e7"
"""Lines of tables."""

SERIES = ("#2a6fb0", "#d1652c", "#3a8f5c", "#8a55a8", "#b8443c", "#7a6a2f", "#4a8f9c")
"""Colours of plotted series; the first one is SISE's."""

HEAT = ("#2fb2f4", "#19e3b9", "#61fc6c", "#b1f936", "#ebd339", "#fe9b2d", "#ed5510", "#c12302", "#7a0403")
"""Colours of heat 0, 1/8, … 1 in an overlay: OpenCV's turbo map from its level 60 to 255."""
