"""Who may ask: a bearer token, and on this machine alone only pages of its own; and one line in the log for each request."""

from __future__ import annotations

import hmac
import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sise_ort.errors import printable
from sise_ort.line.server.metrics import Metrics
from sise_ort.line.server.settings import is_loopback

LOG = logging.getLogger("sise_ort.serve.requests")
OPEN = ("/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready")
"""Addresses that show nothing of models and pictures, and need no token."""


class Access:
    """Lets requests through that may be answered, counts them, and writes a line about each.

    Parameters
    ----------
    app : ASGI application
        What answers.
    token : str or None
        The bearer token that requests must bear; None where only this machine can connect.
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        scope["state"] = {**scope.get("state", {}), "label": ("", "other")}

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refusal(scope)
            if refused is None:
                await self._app(scope, receive, watched)
            else:
                await _answer(watched, *refused)
        finally:
            seconds = time.perf_counter() - began
            model, kind = scope["state"]["label"]
            self._metrics.requests.labels(model, kind, str(status)).inc()
            self._metrics.latency.labels(model, kind).observe(seconds)
            client = (scope.get("client") or ("-",))[0]
            LOG.info(
                "%s", printable(f"{client} {scope['method']} {scope['path']} {status} {1e3 * seconds:.1f} ms")
            )

    def _refusal(self, scope: Scope) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        """Status, message and headers of the refusal of a request; None where it may be answered."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._token is not None:
            if scope["path"] in OPEN or hmac.compare_digest(_bearer(headers), self._token):
                return None
            return (
                401,
                "a bearer token is needed: Authorization: Bearer …",
                [(b"www-authenticate", b"Bearer")],
            )
        host = _host(b"//" + headers.get(b"host", b"localhost"))
        if not is_loopback(host):  # the name of a page elsewhere, made to point here
            return 403, "without a token the server answers to localhost and 127.0.0.1 alone", []
        origin = headers.get(b"origin")
        if origin is not None and (origin == b"null" or not is_loopback(_host(origin))):
            return 403, "without a token the server answers to pages of its own alone", []
        return None


def _bearer(headers: dict[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _host(address: bytes) -> str:
    try:
        return urlsplit(address.decode("ascii")).hostname or ""
    except ValueError:
        return ""


async def _answer(send: Send, status: int, message: str, headers: list[tuple[bytes, bytes]]) -> None:
    body: Any = json.dumps({"error": message}).encode()
    kind = (b"content-type", b"application/json")
    length = (b"content-length", str(len(body)).encode())
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [kind, length, (b"connection", b"close"), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
