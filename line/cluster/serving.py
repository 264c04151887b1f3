"""The server of `sise-ort serve` on Ray Serve, which starts further copies as requests wait."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from sise_ort.line.server.app import application
from sise_ort.line.server.metrics import Metrics
from sise_ort.line.server.models import Models, Options
from sise_ort.line.server.settings import TOKEN_VARIABLE, Settings, read_token

AUTOSCALING = {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 2}
"""Copies of the server; Ray starts another one where each of those there has more requests than the target."""


class Server:
    """A copy of the server, with its bundles loaded.

    Parameters
    ----------
    bundles : mapping of str to str
        Folders of bundles by the name that they are served under; each machine must find them under the same path.
    settings : Settings, optional
        What the server allows.
    token : str, optional
        The bearer token that requests must bear; None takes the environment variable SISE_ORT_TOKEN of the copy. Without
        one, only requests to localhost are answered.
    **loading
        ``provider``, ``batch_size``, ``threads``, ``trusted`` and ``precision``, as for `sise_ort.load`.
    """

    def __init__(
        self,
        bundles: Mapping[str, str],
        settings: Settings | None = None,
        token: str | None = None,
        **loading: Any,
    ) -> None:
        allowed, metrics = settings or Settings(), Metrics()
        token = token or read_token(None, os.environ.get(TOKEN_VARIABLE))
        self._models = Models(Options(dict(bundles), **loading), allowed, metrics)
        self._app = application(lambda: self._models, allowed, token, metrics)
        self._app.state.models = self._models

    async def __call__(self, request: Request) -> Response:
        """Answer a request as the application does."""
        response = Response()
        headers: list[tuple[bytes, bytes]] = []
        body: list[bytes] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.status_code = message["status"]
                headers.extend(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                body.append(message.get("body", b""))

        await self._app(dict(request.scope), request.receive, send)
        response.body = b"".join(body)
        response.raw_headers = headers
        return response

    def close(self) -> None:
        """End after what waits is done."""
        self._models.close()

    def __del__(self) -> None:
        if hasattr(self, "_models"):  # Ray Serve drops a copy when it ends it
            self.close()


serve_app = serve.deployment(autoscaling_config=AUTOSCALING, max_ongoing_requests=64)(Server)
"""The server as a deployment of Ray Serve: ``serve.run(serve_app.bind({"strips": "/models/strips.sise"}))``. `options` sets
copies and what each of them needs, such as ``serve_app.options(ray_actor_options={"num_gpus": 1})``."""
