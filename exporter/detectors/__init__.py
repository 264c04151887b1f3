"""Detection heads: from a file's own layout to scores and boxes of all candidates, one file per layout."""

from __future__ import annotations

from sise_ort.exporter.detectors.layout import DetectorLayout
from sise_ort.exporter.detectors.register import LAYOUTS, FoundDetector, detector

__all__ = ["LAYOUTS", "DetectorLayout", "FoundDetector", "detector"]
