"""Request bodies: bounded in bytes and in seconds."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from sise_ort.line.server.memory import Share
from sise_ort.line.server.refusal import Refusal
from sise_ort.line.server.settings import Settings

CLOSE = {"Connection": "close"}
"""Header of answers to bodies that were not read to their end."""


async def body_of(request: Request, settings: Settings, share: Share) -> bytes:
    """A request's body.

    Parameters
    ----------
    request : Request
    settings : Settings
        Bytes and seconds that it may take.
    share : Share
        Where its bytes are counted.

    Raises
    ------
    Refusal
        408: it comes too slowly. 411, 413, 415: its length is no number, it is too long, it is compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "compressed bodies are not read: send it without Content-Encoding", headers=CLOSE)
    length = request.headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdecimal() and len(length) < 19):
        raise Refusal(411, "Content-Length is no number of bytes", headers=CLOSE)
    if length is not None and int(length) > settings.max_upload:
        raise _too_long(settings)
    try:
        return await asyncio.wait_for(_read(request, settings, share), settings.upload_seconds)
    except (asyncio.TimeoutError, TimeoutError):
        raise Refusal(
            408, f"the body did not arrive within {settings.upload_seconds:g} seconds", headers=CLOSE
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "the client went away before its body had arrived", headers=CLOSE) from None


async def _read(request: Request, settings: Settings, share: Share) -> bytes:
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > settings.max_upload:
            raise _too_long(settings)
        share.hold(len(part))
        parts.append(part)
    return b"".join(parts)


def _too_long(settings: Settings) -> Refusal:
    return Refusal(413, f"the body has more than {settings.max_upload} bytes", headers=CLOSE)
