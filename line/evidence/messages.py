"""What sinks are told about a part: the short form of its record."""

from __future__ import annotations

from typing import Any

import msgspec

from sise_ort.line.evidence.record import Part


def part_message(part: Part, number: int, link: str) -> bytes:
    """The message about a part, as JSON.

    Parameters
    ----------
    part : Part
        Its record.
    number : int
        The record's number in the line's chain.
    link : str
        Digest of its link, which is the chain's head at that moment.

    Returns
    -------
    bytes
        One JSON object: ``kind`` "part", ``line``, ``number``, ``head``, ``part_id``, ``submitted``, ``decision``, ``reason``,
        ``label``, ``confidence``, ``explained``, ``trust``, ``explanations`` (label, confidence, verdict, regions), ``files``
        and ``meta``.
    """
    return _json(
        {
            "kind": "part",
            "line": part.line,
            "number": number,
            "head": link,
            "part_id": part.part_id,
            "key": part.key,
            "submitted": part.submitted,
            "decision": part.decision,
            "reason": part.reason,
            "label": part.label,
            "confidence": part.confidence,
            "explained": part.explained,
            "trust": part.trust,
            "explanations": [
                {
                    "label": one.label,
                    "confidence": one.confidence,
                    "trust": one.verdict.trust,
                    "reason": one.verdict.reason,
                    "regions": [
                        {"box": r.box, "share": r.share, "peak": r.peak, "area": r.area, "box_mm": r.box_mm}
                        for r in one.regions
                    ],
                }
                for one in part.explanations
            ],
            "files": [{"role": f.role, "name": f.name} for f in part.files],
            "meta": part.meta,
        }
    )


def head_message(line: str, number: int, link: str, moment: float) -> bytes:
    """The message about a chain's head, as JSON: ``kind`` "head", ``line``, ``number``, ``head`` and ``time``."""
    return _json({"kind": "head", "line": line, "number": number, "head": link, "time": moment})


def _json(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content)
