"""Evidence: one record for each part, in a database, with its pictures and maps as files beside it."""

from sise_ort.line.evidence.record import Explained, Part, Picture, Region, StoredFile, json_schema
from sise_ort.line.evidence.store import Entry, Evidence, File
from sise_ort.verdicts import Verdict

__all__ = [
    "Entry",
    "Evidence",
    "Explained",
    "File",
    "Part",
    "Picture",
    "Region",
    "StoredFile",
    "Verdict",
    "json_schema",
]
