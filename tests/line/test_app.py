"""Tokens, pages and metrics."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from serving import b64, client, png

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def closed(tiny_bundle: Path) -> Iterator[Any]:
    """A server that needs a token."""
    with client({"tiny": tiny_bundle}, TOKEN) as found:
        yield found


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Any]:
    with client({"tiny": tiny_bundle}) as found:
        yield found


@pytest.mark.parametrize(
    "address", ["/v1/models", "/v1/models/tiny", "/v2", "/v2/models/tiny", "/metrics", "/x"]
)
def test_a_token_is_needed(closed: Any, address: str) -> None:
    wrong = ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xff"]
    for header in wrong:
        answer = closed.get(address, headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert closed.post("/v1/models/tiny:explain", json={"instances": []}).status_code == 401
    right = closed.get(address, headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == (404 if address == "/x" else 200)


@pytest.mark.parametrize("address", ["/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"])
def test_what_needs_no_token_names_no_model(closed: Any, address: str) -> None:
    answer = closed.get(address, headers={"Accept": "text/html"})
    assert answer.status_code == 200 and "tiny" not in answer.text and TOKEN not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "127.0.0.1:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[x"}, 403),
        ({"Origin": "http://localhost:8080"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_elsewhere_cannot_ask_without_a_token(
    server: Any, headers: dict[str, str], status: int
) -> None:
    assert server.get("/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize(("address", "part"), [("/", "Drop a picture"), ("/docs", "/v2/models/NAME/infer")])
def test_pages_ask_nothing_of_others(server: Any, address: str, part: str) -> None:
    page = server.get(address, headers={"Accept": "text/html"})
    assert part in page.text
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", page.headers["content-security-policy"])
    assert nonce and page.text.count(f'nonce="{nonce[1]}"') == page.text.count("<style") + page.text.count(
        "<script"
    )
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_programs_hear_that_it_is_alive(server: Any) -> None:
    assert server.get("/").json() == {"status": "alive"}
    lost = server.get("/v3")
    assert lost.status_code == 404 and "/docs" in lost.json()["error"]
    assert server.post("/v1/models").status_code == 405


def test_every_address_is_documented(server: Any) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/", "/docs", "/metrics", "/v1/models", "/v1/models/{name}", "/v1/models/{name}:predict",
        "/v1/models/{name}:explain", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}",
        "/v2/models/{name}/ready", "/v2/models/{name}/infer",
    }  # fmt: skip
    page = server.get("/docs").text
    assert all(path.replace("{name}", "NAME") in page for path in paths)


def test_metrics_count_requests_by_model_kind_and_status(tiny_bundle: Path, frame: Any) -> None:
    body = {"instances": [b64(png(frame))], "parameters": {"passes": 5}}
    with client({"tiny": tiny_bundle}) as server:
        for _ in range(3):
            server.post("/v1/models/tiny:explain", json=body)
        server.post("/v1/models/tiny:predict", json={"instances": [frame.tolist()]})
        server.post("/v1/models/tiny:explain", json={})
        server.post("/v1/models/unknown:explain", json=body)
        text = server.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    count = 'sise_ort_requests_total{{kind="{0}",model="{1}",status="{2}"}}'
    assert lines[count.format("explain", "tiny", 200)] == "3.0"
    assert lines[count.format("explain", "tiny", 400)] == "1.0"
    assert lines[count.format("predict", "tiny", 200)] == "1.0"
    assert lines[count.format("other", "", 404)] == "1.0"  # no name that a client has made up
    assert lines['sise_ort_queue_length{model="tiny"}'] == "0.0"
    assert lines['sise_ort_phase_seconds_count{model="tiny",phase="wait"}'] == "4.0"
    assert float(lines['sise_ort_forward_passes_total{model="tiny"}']) >= 3 * 5 + 1


def test_the_log_has_a_line_for_each_request_and_no_query(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sise_ort.serve.requests"):
        server.get("/v1/models/%1b[31mred?token=secret")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "sise_ort.serve.requests"]
    assert " GET /v1/models/" in line and " 404 " in line and "secret" not in line and "\x1b" not in line


def test_memory_is_given_back(server: Any, frame: Any) -> None:
    for body in ({"instances": [frame.tolist()]}, {"instances": ["x"]}, {}):
        server.post("/v1/models/tiny:explain", json=body)
    assert server.app.state.models.memory.used == 0


def test_too_much_at_once_is_refused(tiny_bundle: Path, frame: Any) -> None:
    with client({"tiny": tiny_bundle}, max_memory=6000) as server:
        answer = server.post(
            "/v1/models/tiny:predict", content=png(frame), headers={"Content-Type": "image/png"}
        )
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert server.app.state.models.memory.used == 0


def test_a_bug_is_one_plain_answer(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    from sise_ort.line.server import protocol_v1

    async def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    with client({"tiny": tiny_bundle}) as server:
        monkeypatch.setattr(protocol_v1, "explain", broken)
        quiet = TestClient(server.app, base_url="http://localhost", raise_server_exceptions=False)
        answer = quiet.post("/v1/models/tiny:explain", json={})
        assert answer.status_code == 500 and "secret" not in answer.text and answer.json()["error"]
