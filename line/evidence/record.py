"""The record of a part, as typed structs, and its JSON Schema (docs/evidence.schema.json)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sise_ort.errors import ParameterError
from sise_ort.verdicts import Verdict

FORMAT = "sise-ort part"
FORMAT_VERSION = 1
LARGEST_RECORD = 16 << 20
"""Bytes of a record's JSON at most."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
if TYPE_CHECKING:  # whoever builds a struct has plain strings; what is read from a database is checked
    Decision = str
    Outcome = str
else:
    Decision = Literal["accepted", "rejected", "unclassified", "failed"]
    Outcome = Literal["", "in time", "late", "dropped", "failed"]


class StoredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that belongs to a part, named by what it holds.

    Attributes
    ----------
    role : str
        What it is, once per record: "frame"; "map-1" and "overlay-1" of the first explanation; or another word.
    sha256 : str
        SHA-256 of its content.
    size : int
        Its bytes.
    ending : str
        Ending of its name, such as ".png".
    """

    role: Annotated[str, Meta(min_length=1, max_length=300)]
    sha256: Digest
    size: Annotated[int, Meta(ge=0)]
    ending: Annotated[str, Meta(pattern=r"^(\.[a-z0-9]{1,10})?$")] = ""

    @property
    def name(self) -> str:
        """The file's name in the store."""
        return f"{self.sha256}{self.ending}"


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The frame that was looked at.

    Attributes
    ----------
    sha256 : str
        SHA-256 of the picture as it was given: of the file's bytes, or of an array's numbers in C order.
    source : str
        Path of the file; empty where the frame was none.
    size : (int, int)
        Height and width; (0, 0) where it could not be read.
    channels : int
        1 for gray, 3 for colour.
    dtype : str
        Type of a pixel, "uint8" or "float32".
    color : str
        Channel order of an array, "rgb" or "bgr".
    levels : (float, float) or None
        Pixel values of black and white where they are not 0 and 255.
    """

    sha256: Digest
    source: str = ""
    size: tuple[int, int] = (0, 0)
    channels: int = 3
    dtype: str = "uint8"
    color: str = "rgb"
    levels: tuple[float, float] | None = None


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A connected hot region of a heat map, in pixels of the frame.

    Attributes
    ----------
    box : tuple of int
        Top, left, bottom and right; bottom and right lie outside of it.
    polygon : tuple of (float, float)
        The outline's corners as (row, column).
    share : float
        Share of the map's whole heat that lies in it, 0 to 1.
    peak : float
        Largest value in it, 0 to 1.
    peak_at : (int, int)
        Row and column of that value.
    area : int
        Its pixels.
    box_mm, area_mm2 : tuple of float, float
        The same in millimetres and square millimetres, where a pixel's size is known.
    """

    box: tuple[int, int, int, int]
    polygon: tuple[tuple[float, float], ...]
    share: float
    peak: float
    peak_at: tuple[int, int]
    area: int
    box_mm: tuple[float, float, float, float] | None = None
    area_mm2: float | None = None


class Explained(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one explanation of a part says.

    Attributes
    ----------
    label, target : str, int
        What is explained in words, and the index of the class; -1 where it is no class.
    readout : str
        What the network's outputs are: "classes", "segmentation", "detection", "embedding" or "value".
    confidence, score, bounded, head : float, float, bool, str
        Ψ, the number behind it, whether Ψ lies in [0, 1], and the kind of head.
    method, parameters, facts : str, mapping, mapping
        The method, its parameters, and numbers that it reports about itself.
    mask_counts, forward_passes, backward_passes : tuple of int, int, int
        Masks scored per block, network passes, gradients.
    agreement : float or None
        How well the maps of halves of a budget's masks agree; None without a budget.
    timings : mapping of str to float
        Seconds per phase.
    notes : tuple of str
        What was assumed, skipped or chosen.
    asked : str
        Digest of the region or candidates that are explained; empty for class scores.
    heatmap_sha256, heatmap_size : str, (int, int)
        SHA-256 of the heat map's float32 numbers at network size, and that size.
    regions : tuple of Region
        Its hot regions, the one with the largest share first.
    zones : mapping of str to float
        Share of the heat per named zone or per cell of a grid.
    against : tuple of Region
        Regions that speak against the class, where they were asked for.
    verdict : Verdict
    """

    label: str
    target: int = -1
    readout: str = "classes"
    confidence: float
    score: float = 0.0
    bounded: bool = True
    head: str = ""
    method: str
    parameters: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
    mask_counts: tuple[int, ...] = ()
    forward_passes: int = 0
    backward_passes: int = 0
    agreement: float | None = None
    timings: Mapping[str, float] = {}
    notes: tuple[str, ...] = ()
    asked: str = ""
    heatmap_sha256: Digest
    heatmap_size: tuple[int, int]
    regions: tuple[Region, ...] = ()
    zones: Mapping[str, float] = {}
    against: tuple[Region, ...] = ()
    verdict: Verdict = Verdict()


def _new_key() -> str:
    return secrets.token_hex(16)


def now() -> datetime:
    """This moment by the computer's clock, in UTC."""
    return datetime.now(timezone.utc)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of one part: what came, what was decided, why, by what, and which files show it.

    Attributes
    ----------
    format, version : str, int
        Always "sise-ort part" and 1.
    line : str
        Name of the line that wrote it; each line has a chain of its own.
    key : str
        Names this look at the part, once per line: a second record of the same key is not written.
    part_id : str
        The part's name as it was submitted.
    submitted : datetime
        When it was submitted, by the computer's clock, in UTC.
    decision : str
        "accepted", "rejected", "unclassified" (no time to look) or "failed" (it could not be read).
    reason : str
        Why it is unclassified or failed, or why a reject has no map.
    label, confidence : str, float
        The class that decided, and its confidence.
    confidences : mapping of str to float
        Of every class by its label.
    scores : tuple of float
        Raw class scores.
    explained : str
        For a reject "in time", "late", "dropped" or "failed".
    without_passes : bool
        Whether the maps were made without scoring masks, for lack of time.
    explanations : tuple of Explained
    picture : Picture or None
        None where the frame was not read.
    model : mapping
        Name and digest of the bundle, provider, precision, batch size.
    versions : mapping of str to str
        Of sise-ort, ONNX Runtime, NumPy, OpenCV and Python.
    machine : mapping of str to str
        System and processor.
    settings : mapping
        Threshold, deadline and what else the line was told.
    seconds : mapping of str to float
        Seconds per phase.
    meta : mapping
        What was submitted with the part.
    files : tuple of StoredFile
        Filled in by `Evidence.add`.
    """

    format: Literal["sise-ort part"] = "sise-ort part"
    version: Literal[1] = 1
    line: Name
    key: Annotated[str, Meta(min_length=1, max_length=300)] = msgspec.field(default_factory=_new_key)
    part_id: Name
    submitted: Annotated[datetime, Meta(tz=True)] = msgspec.field(default_factory=now)
    decision: Decision
    reason: str = ""
    label: str = ""
    confidence: float = 0.0
    confidences: Mapping[str, float] = {}
    scores: tuple[float, ...] = ()
    explained: Outcome = ""
    without_passes: bool = False
    explanations: tuple[Explained, ...] = ()
    picture: Picture | None = None
    model: Mapping[str, Any] = {}
    versions: Mapping[str, str] = {}
    machine: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {}
    seconds: Mapping[str, float] = {}
    meta: Mapping[str, Any] = {}
    files: tuple[StoredFile, ...] = ()

    @property
    def trust(self) -> str:
        """The weakest verdict of its explanations; empty where none was judged."""
        found = {one.verdict.trust for one in self.explanations}
        return next((trust for trust in ("none", "weak", "sound") if trust in found), "")


def to_json(part: Part) -> bytes:
    """The record as JSON in UTF-8, the same bytes for equal records.

    Raises
    ------
    ParameterError
        It holds what JSON cannot, a value is out of its range, or it is too large.
    """
    try:
        text = msgspec.json.encode(part, enc_hook=_plain, order="deterministic")
        text.decode()
        from_json(text)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ParameterError(f"the record of part {part.part_id!r} cannot be written: {error}") from error
    if len(text) > LARGEST_RECORD:
        raise ParameterError(
            f"the record of part {part.part_id!r} has {len(text)} bytes; {LARGEST_RECORD} is the most"
        )
    return text


def from_json(text: str | bytes) -> Part:
    """The record that a JSON text holds.

    Raises
    ------
    msgspec.DecodeError
        It is no record of this format.
    """
    return msgspec.json.decode(text, type=Part)


def sha256(content: bytes | memoryview) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def as_bytes(value: object) -> bytes:
    """What a column of bytes holds, also where somebody else has put text or a number there."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return str(value).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    """NumPy's numbers and texts, as JSON has them."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in a record")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a part's record."""
    schema = msgspec.json.schema(Part)
    for definition in schema["$defs"].values():
        definition["description"] = definition["description"].split("\n\n")[0]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"record of a {FORMAT}, version {FORMAT_VERSION}",
        **schema,
    }
