"""Sinks: at least once, in order, across failures and restarts; against a real HTTP server."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sise_ort.errors import OutputError, ParameterError
from sise_ort.line.evidence import Evidence, Part
from sise_ort.line.evidence.outbox import Waiting
from sise_ort.line.sinks import Delivery, delivery
from sise_ort.line.sinks.opening import open_mqtt, open_webhook


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(delivery, "POLL", 0.01)


class Server:
    """An HTTP server that answers as it is told.

    Attributes
    ----------
    taken : list of dict
        Messages that it has answered with 200.
    headers : list of dict
    answers : list of int
        What it answers next; 200 when there is no more, 302 leads elsewhere.
    """

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.answers.pop(0) if outer.answers else 200
                if status == 200:
                    outer.taken.append(json.loads(body))
                    outer.headers.append(dict(self.headers))
                    outer.bodies.append(body)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/parts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def add(evidence: Evidence, *names: str, sink: str = "webhook") -> None:
    for name in names:
        evidence.add(Part(line="north", part_id=name, decision="accepted"), sinks=[sink])


def wait_until(ready: Callable[[], bool]) -> None:
    for _ in range(3000):
        if ready():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen within 30 s")


def test_parts_arrive_in_order_with_their_headers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SISE_ORT_WEBHOOK_TOKEN", "abc")
    monkeypatch.setenv("SISE_ORT_WEBHOOK_SECRET", "key")
    with Evidence(tmp_path) as evidence:
        add(evidence, "1", "2", "3")
        sink = Delivery(evidence.outbox, open_webhook(server.url))
        evidence.send_heads(["webhook"])
        sink.close(30)
        assert evidence.outbox.counts() == {}
    assert [one.get("part_id") for one in server.taken] == ["1", "2", "3", None]
    assert server.taken[3]["kind"] == "head" and server.taken[3]["head"] == server.taken[2]["head"]
    first = server.headers[0]
    assert (first["Authorization"], first["X-Sise-Number"], first["X-Sise-Line"]) == (
        "Bearer abc",
        "1",
        "north",
    )
    signed = hmac.new(b"key", server.bodies[0], hashlib.sha256).hexdigest()
    assert first["X-Sise-Signature"] == f"sha256={signed}"


def test_a_server_that_fails_holds_up_what_is_behind(server: Server, tmp_path: Path) -> None:
    server.answers = [500, 302, 404, 200, 503]
    with Evidence(tmp_path) as evidence:
        add(evidence, "1", "2")
        sink = Delivery(evidence.outbox, open_webhook(server.url))
        wait_until(lambda: len(server.taken) == 2)
        sink.close(30)
    assert [one["part_id"] for one in server.taken] == ["1", "2"]


def test_without_a_server_messages_wait_for_the_next_process(server: Server, tmp_path: Path) -> None:
    with Evidence(tmp_path) as evidence:
        add(evidence, "1")
        sink = Delivery(evidence.outbox, open_webhook("http://127.0.0.1:1/parts"))
        wait_until(lambda: bool(sink.failing))
        wait_until(lambda: evidence.outbox.waiting("webhook")[0].attempts > 1)
        sink.close(30)
        add(evidence, "2")
    with Evidence(tmp_path) as evidence:
        Delivery(evidence.outbox, open_webhook(server.url)).close(30)
        assert evidence.outbox.counts() == {}
    assert [one["part_id"] for one in server.taken] == ["1", "2"]


def test_what_was_taken_but_not_noted_comes_again(tmp_path: Path) -> None:
    class Taker:
        name = "taker"

        def __init__(self) -> None:
            self.taken: list[str] = []

        def deliver(self, message: Waiting) -> None:
            self.taken.append(message.part_id)
            if len(self.taken) == 2:
                raise OutputError("the answer was lost")

        def close(self) -> None:
            pass

    taker = Taker()
    with Evidence(tmp_path) as evidence:
        add(evidence, "1", "2", "3", sink="taker")
        found = Delivery(evidence.outbox, taker)
        wait_until(lambda: len(taker.taken) == 4)
        found.close(30)
    assert taker.taken == ["1", "2", "2", "3"]


@pytest.mark.parametrize("words", ["ftp://host/x", "http://", "host", "http://host:port", "a=b"])
def test_addresses_that_are_none(words: str) -> None:
    with pytest.raises(ParameterError):
        open_webhook(words)


@pytest.mark.parametrize(
    "words", ["http://host", "mqtt://", "mqtt://host/a/+/b", "mqtt://host/%23", "mqtt://host/$SYS"]
)
def test_brokers_that_are_none(words: str) -> None:
    with pytest.raises(ParameterError):
        open_mqtt(words)


def test_names_stand_in_front_of_addresses() -> None:
    assert open_webhook("http://host/a?b=c").name == "webhook"
    assert open_webhook("mes=https://host/a").name == "mes"
    assert open_mqtt("mqtts://user:p%40ss@host/a/b").name == "mqtt"
