"""The server on a local Ray Serve answers as `sise-ort serve` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import ray_processes

import sise_ort

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


@pytest.mark.services
def test_the_same_app_on_ray_serve(tiny_bundle: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    (port,) = ray_processes.free_ports(1)
    program = Path(ray_processes.__file__).with_name("ray_serving.py")
    with (
        ray_processes.cluster() as cluster,
        ray_processes.started(program, cluster.address, tiny_bundle, picture, port) as process,
    ):
        code, text = ray_processes.finished(process)
    assert code == 0, text
    found = json.loads(text[text.index('{"ready"') :].splitlines()[0])
    assert {name: answer[0] for name, answer in found.items()} == {
        "ready": 200, "models": 200, "none": 404, "explain": 200, "npz": 200, "bad": 400, "foreign": 403,
    }  # fmt: skip
    assert json.loads(found["models"][2]) == {"models": ["tiny"]}
    with sise_ort.load(tiny_bundle, "cpu", threads=1) as explainer:
        plain = explainer.explain(picture, mu=0.3)
    (answer,) = json.loads(found["explain"][2])["explanations"]
    assert answer["label"] == plain.label and answer["confidence"] == pytest.approx(
        plain.confidence, abs=1e-6
    )
    kept = tmp_path / "kept.npz"
    kept.write_bytes(found["npz"][2].encode("latin-1"))
    with np.load(kept) as arrays:
        assert np.abs(arrays["heatmap"].astype(np.float32) - plain.heatmap).max() < 2e-3
