"""Sources: where a line's frames come from, one file per kind."""

from sise_ort.line.sources.item import Item, Ledger, Source
from sise_ort.line.sources.opening import SourceSettings, open_source

__all__ = ["Item", "Ledger", "Source", "SourceSettings", "open_source"]
