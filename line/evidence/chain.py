"""The hash chain: each link's digest covers its content and the link before it."""

from __future__ import annotations

import hashlib
import json

START = "0" * 64
"""What stands in front of a chain's first link."""
PART, PRUNED = "part", "pruned"
"""Kinds of links."""


def link(before: str, line: str, number: int, kind: str, content_sha256: str) -> str:
    """The digest of a link.

    Parameters
    ----------
    before : str
        Digest of the link before it; `START` for the first one.
    line : str
        Name of the line whose chain it is.
    number : int
        Its number, from 1.
    kind : str
        "part" or "pruned".
    content_sha256 : str
        SHA-256 of the content's bytes.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    SHA-256 of the JSON array ``[before, line, number, kind, content_sha256]`` in ASCII without spaces. The chain shows that
    nothing before a known digest was changed, removed or put in between. It holds no secret: who may write into the database
    can make another chain, which does not hold the digest that was kept elsewhere.
    """
    text = json.dumps([before, line, number, kind, content_sha256], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
