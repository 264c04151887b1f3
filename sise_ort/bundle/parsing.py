"""The manifest from its text: refused where it is damaged, foreign, or of another version."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec

from sise_ort.bundle.format import FORMAT, FORMAT_VERSION, MANIFEST, WEIGHTS, Manifest
from sise_ort.errors import BundleError


def parse_manifest(text: bytes, folder: Path) -> Manifest:
    """The manifest that stands in a text; `folder` is only named in errors."""
    try:
        facts = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_number)
        json.dumps(
            facts, ensure_ascii=False
        ).encode()  # half a character (a lone surrogate) cannot be written
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} cannot be read ({str(error)[:200]}); export it again"
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BundleError(f"'{folder}': {MANIFEST} belongs to something else than sise-ort")
    version = facts.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} has the version {str(version)[:40]!r}; export it again"
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            f"bundle '{folder}' has format version {str(version)[:40]}, this sise-ort reads {FORMAT_VERSION}: update sise-ort"
        )
    if version < FORMAT_VERSION:
        raise BundleError(
            f"bundle '{folder}' has the old format version {version}, this sise-ort reads {FORMAT_VERSION}: export the "
            f"model again with `sise-ort export MODEL -o NAME.sise` and the options used before{_origin(facts)}"
        )
    try:
        manifest = msgspec.convert(facts, Manifest)
    except (ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} is damaged ({str(error)[:200]}); export it again"
        ) from error
    missing = [
        name for name in (*(f"{p}.onnx" for p in manifest.phases), WEIGHTS) if name not in manifest.files
    ]
    if missing:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} does not list {', '.join(missing)}; export it again"
        )
    return manifest


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 63:
        raise ValueError(f"the number {digits[:20]} has more than 64 bits")
    return int(digits)


def _number(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"the number {digits[:20]} is not finite")
    return float(digits)


def _origin(facts: dict[str, object]) -> str:
    """Which model an old manifest says it was made from, in words; "" where it does not."""
    origin = facts.get("origin")
    known = (
        [str(origin[key])[:80] for key in ("file", "model", "name") if origin.get(key)]
        if isinstance(origin, dict)
        else []
    )
    return f" (MODEL was {known[0]})" if known else ""
