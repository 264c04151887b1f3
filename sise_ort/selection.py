"""The old name of `sise_ort.formulas.selection`."""

from __future__ import annotations

from sise_ort.formulas.scaling import FLAT
from sise_ort.formulas.selection import check_mu, select_maps

__all__ = ["FLAT", "check_mu", "select_maps"]
