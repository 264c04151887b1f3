"""The server as it runs: KServe's and Triton's own clients, load, slow and broken connections, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("fastapi")
import httpx
from serving import png, running

import sise_ort

pytestmark = pytest.mark.services
CLIENTS = os.environ.get("SISE_ORT_CLIENTS", "")
SCRIPT = Path(__file__).parents[1] / "support" / "kserve_clients.py"


@pytest.mark.skipif(
    not Path(CLIENTS).is_file(), reason="SISE_ORT_CLIENTS names no Python with kserve and tritonclient"
)
@pytest.mark.parametrize(
    "more", [("--queue", "16"), ("--workers", "2", "--exact")], ids=["one", "two-processes"]
)
def test_64_clients_of_kserve_and_triton_lose_nothing(
    tiny_bundle: Path, tmp_path: Path, rng: np.random.Generator, more: tuple[str, ...]
) -> None:
    pixels = rng.integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    files = [np.frombuffer(png(one), np.uint8) for one in pixels]
    padded = np.stack([np.pad(one, (0, max(map(len, files)) - len(one))) for one in files])
    np.savez(tmp_path / "pictures.npz", pixels=pixels, files=padded, lengths=[len(one) for one in files])
    serial = sise_ort.load(tiny_bundle, "cpu", threads=1)
    expected = [serial.explain(one, 1, passes=8) for one in pixels]

    with running(tiny_bundle, "--threads", "1", *more) as server:
        command = [
            CLIENTS,
            str(SCRIPT),
            server.url,
            str(tmp_path / "pictures.npz"),
            str(tmp_path / "answers.npz"),
        ]
        run = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert run.returncode == 0, run.stderr[-3000:]
        metrics = httpx.get(f"{server.url}/metrics").text
        assert server.stop() == 0

    facts = json.loads(run.stdout.splitlines()[-1])
    assert all(value is True for name, value in facts.items() if re.search("live|ready|server|lost", name)), (
        facts
    )
    assert facts["extensions"] == ["binary_tensor_data"] and facts["outputs"] == ["scores", "confidence"]
    assert facts["triton error"][0] == "400" and "one is needed" in facts["triton error"][1]
    with np.load(tmp_path / "answers.npz") as answers:
        assert len({name.split()[0] for name in answers.files}) == 2000
        for name in answers.files:
            _, _, kind, number = name.split()
            wanted = expected[int(number)]
            if kind == "predict":
                np.testing.assert_allclose(answers[name], wanted.scores, rtol=1e-5, atol=1e-6)
            elif "v1" in name:  # numbers of six decimals
                np.testing.assert_allclose(answers[name], wanted.heatmap, atol=5.1e-7)
            else:
                np.testing.assert_array_equal(answers[name], wanted.heatmap)
    counts = re.findall(
        r'sise_ort_requests_total\{kind="(?:predict|explain)",model="tiny",status="(\d+)"\} (\S+)', metrics
    )
    assert sum(float(count) for status, count in counts if status == "200") == 2000
    assert sum(float(count) for status, count in counts if status == "429") == facts["busy"]
    assert {status for status, _ in counts} <= {"200", "400", "429"}


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Any:
    with running(tiny_bundle, "--threads", "1", "--max-upload-mib", "1") as found:
        yield found


def exchange(url: str, data: bytes, seconds: float = 60.0) -> bytes:
    """Send bytes, and read until the server closes the connection."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=seconds) as connection:
        connection.sendall(data)
        found = b""
        while part := connection.recv(65536):
            found += part
    return found


HEAD = b"POST /v1/models/tiny:explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 99999999\r\n\r\n", b"413"),
        (HEAD + b"Content-Length: 2000000\r\n\r\n" + b"x" * 5000, b"413"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
         + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 20, b"413"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (HEAD + b"Content-Length: -5\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\nabcde", b"415"),
    ],
    ids=["nonsense", "long-header", "too-long", "too-long-begun", "too-long-chunked", "bad-chunk", "negative", "gzip"],
)  # fmt: skip
def test_broken_requests_end_with_their_status(server: Any, request_: bytes, status: bytes) -> None:
    try:
        answer = exchange(server.url, request_)
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    except ConnectionError:  # closed while the rest was on its way
        assert len(request_) > 5000
    assert httpx.get(f"{server.url}/v2/health/live").json() == {"live": True}


def test_slow_uploads_and_headers_end(tiny_bundle: Path, frame: Any) -> None:
    with running(tiny_bundle, "--threads", "1", "--upload-seconds", "1.5") as server:
        with ThreadPoolExecutor(3) as threads:
            began = time.monotonic()
            body = threads.submit(exchange, server.url, HEAD + b"Content-Length: 5000\r\n\r\nabc")
            head = threads.submit(exchange, server.url, HEAD)
            silent = threads.submit(exchange, server.url, b"")
            answer = httpx.post(
                f"{server.url}/v1/models/tiny:explain",
                content=png(frame),
                headers={"Content-Type": "image/png"},
            )
            assert answer.status_code == 200  # meanwhile
            assert body.result().startswith(b"HTTP/1.1 408")
            assert head.result() == b"" and silent.result() == b""
            assert time.monotonic() - began < 50
        with httpx.Client() as client:  # a second request on a connection that is kept
            assert client.get(f"{server.url}/v2/health/live").status_code == 200
            assert client.get(f"{server.url}/v2/health/live").status_code == 200
        assert server.stop() == 0


def test_a_token_opens_the_server(tiny_bundle: Path) -> None:
    token = "a-token-of-some-length"
    with running(tiny_bundle, "--threads", "1", "--host", "0.0.0.0", token=token) as server:
        url = server.url
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        commands = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert token.encode() not in commands
        assert server.stop() == 0
    assert not any(token in line for line in server.lines)


def test_other_addresses_are_refused_without_a_token(tiny_bundle: Path) -> None:
    import sys

    command = [
        sys.executable,
        "-m",
        "sise_ort.cli.main",
        "serve",
        str(tiny_bundle),
        "--host",
        "0.0.0.0",
        "--port",
        "0",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and "--token-file" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_what_has_begun(tiny_bundle: Path, frame: Any, number: int, workers: str) -> None:
    with (
        running(tiny_bundle, "--threads", "1", "--workers", workers) as server,
        ThreadPoolExecutor(6) as threads,
    ):
        address = f"{server.url}/v1/models/tiny:explain?method=rise&masks=3000&heatmap=none"

        def ask() -> int:
            return httpx.post(
                address, content=png(frame), headers={"Content-Type": "image/png"}, timeout=120
            ).status_code

        asked = [threads.submit(ask) for _ in range(6)]
        time.sleep(1.5)
        assert not all(one.done() for one in asked)
        assert server.stop(number) == 0
        assert [one.result() for one in asked] == [200] * 6
    assert not any("Traceback" in line for line in server.lines), server.lines


def test_a_client_that_goes_away_is_given_up(tiny_bundle: Path, frame: Any) -> None:
    with running(tiny_bundle, "--threads", "1") as server:
        address = f"{server.url}/v1/models/tiny:explain?method=rise&masks=90000"
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(address, content=png(frame), headers={"Content-Type": "image/png"}, timeout=1)
        answer = httpx.post(
            f"{server.url}/v1/models/tiny:predict",
            content=png(frame),
            headers={"Content-Type": "image/png"},
            timeout=60,
        )
        assert answer.status_code == 200  # the endless one no longer stands in the way
        assert server.stop() == 0
