"""A copy of the server, as Ray Serve keeps it, answers as `sise-ort serve` does; without Ray Serve's own proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")
pytest.importorskip("fastapi")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray Serve itself
def test_a_copy_answers_as_the_application(tiny_bundle: Path, frame: np.ndarray) -> None:
    """Without Ray's own part: a request in, the application's response out, with all its headers."""
    from fastapi.testclient import TestClient
    from serving import client, png
    from starlette.requests import Request

    from sise_ort.line.cluster.serving import Server

    copy = Server({"tiny": str(tiny_bundle)}, provider="cpu", threads=1)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await (await copy(Request(scope, receive)))(scope, receive, send)

    ours, picture = TestClient(asgi, base_url="http://localhost"), png(frame)
    with client({"tiny": tiny_bundle}) as plain:
        for address in ("/v2/health/ready", "/v1/models", "/v1/models/none", "/v2/models/tiny", "/"):
            one, other = ours.get(address), plain.get(address)
            assert (one.status_code, one.content, one.headers) == (
                other.status_code,
                other.content,
                other.headers,
            )
        for accept in ("application/x-npz", "image/png"):
            headers = {"Content-Type": "image/png", "Accept": accept}
            one, other = (
                c.post("/v1/models/tiny:explain?mu=0.3", content=picture, headers=headers)
                for c in (ours, plain)
            )
            assert one.status_code == 200 and one.headers["content-type"] == other.headers["content-type"]
        assert one.content == other.content
        refused = ours.get("/v1/models", headers={"Host": "example.org"})
        assert (
            refused.status_code == 403 == plain.get("/v1/models", headers={"Host": "example.org"}).status_code
        )
    copy.close()
