"""Tells an HTTP server about parts, by POST."""

from __future__ import annotations

import hashlib
import hmac

import httpx

from sise_ort.errors import OutputError, first_line
from sise_ort.line.evidence.outbox import Waiting

SECONDS = 10.0
"""Longest time that a server may take to answer."""


class Webhook:
    """Posts each message as JSON; any answer of 2xx takes it.

    Parameters
    ----------
    url : str
        Address to post to.
    name : str
        Under which messages wait.
    token : str, optional
        Bearer token of each request.
    secret : str, optional
        Key with which each body is signed.
    seconds : float
        Longest time that an answer may take.

    Notes
    -----
    Headers: ``X-Sise-Line``, ``X-Sise-Number`` and ``X-Sise-Kind`` say which message it is, also when it comes again;
    ``X-Sise-Signature`` is ``sha256=`` and the HMAC-SHA-256 of the body, where there is a secret. Answers that lead elsewhere
    are not followed.
    """

    def __init__(
        self,
        url: str,
        name: str = "webhook",
        *,
        token: str | None = None,
        secret: str | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self.name, self._url, self._secret = name, url, secret
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=seconds, headers=headers, follow_redirects=False)

    def deliver(self, message: Waiting) -> None:
        """Post a message; see `Sink`."""
        headers = {
            "Content-Type": "application/json",
            "X-Sise-Line": message.line.encode("ascii", "backslashreplace").decode(),
            "X-Sise-Number": str(message.number),
            "X-Sise-Kind": message.kind,
        }
        if self._secret:
            digest = hmac.new(self._secret.encode(), message.message, hashlib.sha256).hexdigest()
            headers["X-Sise-Signature"] = f"sha256={digest}"
        try:
            answer = self._client.post(self._url, content=message.message, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise OutputError(f"{type(error).__name__}: {first_line(error)}") from error
        if not answer.is_success:
            raise OutputError(f"it answers {answer.status_code}")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
