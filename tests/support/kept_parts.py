"""Records of parts, as a line would write them, without any network."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from sise_ort.line.evidence import Explained, File, Part, Region, Verdict

BEGAN = datetime(2026, 11, 25, 6, 0, tzinfo=timezone.utc)


def region(**facts: Any) -> Region:
    """A region of 20 pixels."""
    usual: dict[str, Any] = {
        "box": (2, 3, 6, 8),
        "polygon": ((2.0, 3.0), (5.0, 3.0), (5.0, 7.0), (2.0, 7.0)),
        "share": 0.6,
        "peak": 1.0,
        "peak_at": (3, 4),
        "area": 20,
    }
    return Region(**{**usual, **facts})


def explained(label: str = "crack", trust: str = "sound", **facts: Any) -> Explained:
    """An explanation with one region and a verdict."""
    return Explained(
        label=label,
        target=1,
        confidence=0.93,
        method="sise",
        parameters={"mu": 0.3},
        mask_counts=(4, 5),
        forward_passes=11,
        heatmap_sha256="a" * 64,
        heatmap_size=(32, 48),
        regions=(region(),),
        verdict=Verdict(trust, "hiding the region lowers the confidence", {"drop": 0.7}),
        **facts,
    )


def part(number: int, *, line: str = "north", **facts: Any) -> Part:
    """The record of part `number`; every second one is a reject."""
    usual: dict[str, Any] = {
        "part_id": str(48_000 + number),
        "key": f"strip-{number}.png",
        "submitted": BEGAN + timedelta(seconds=number),
        "decision": "rejected" if number % 2 else "accepted",
        "label": "crack",
        "confidence": number / 10,
    }
    if number % 2:
        usual |= {"explained": "in time", "explanations": (explained(),)}
    return Part(line=line, **{**usual, **facts})


def files(number: int) -> list[File]:
    """Files that belong to it."""
    return [
        File("frame", f"frame {number}".encode(), ".png"),
        File("map-1", f"map {number}".encode(), ".npz"),
    ]
