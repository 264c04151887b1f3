"""Servers for tests: the application in this process, and `sise-ort serve` as a process of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def png(pixels: Any) -> bytes:
    """RGB pixels as a PNG file."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))[1].tobytes()


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@contextlib.contextmanager
def client(bundles: dict[str, Path], token: str | None = None, **settings: Any) -> Iterator[Any]:
    """A client of the application in this process; its bundles are loaded."""
    from fastapi.testclient import TestClient

    from sise_ort.line.server.app import serve_app
    from sise_ort.line.server.models import Options
    from sise_ort.line.server.settings import Settings

    options = Options({name: str(folder) for name, folder in bundles.items()}, "cpu", threads=1)
    with TestClient(serve_app(options, Settings(**settings), token), base_url="http://localhost") as found:
        yield found


class Running:
    """`sise-ort serve` as a process.

    Attributes
    ----------
    url : str
        Where it answers.
    process : Popen
    lines : list of str
        What it has written on standard error so far.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, list[str]()
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(120), "".join(self.lines)
        found = re.search(r"http://\S+", "".join(self.lines))
        assert found, "".join(self.lines)
        self.url = found[0].replace("0.0.0.0", "127.0.0.1")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "http://" in line:
                self._ready.set()
        self._ready.set()

    def close(self) -> None:
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(120)


@contextlib.contextmanager
def running(*arguments: Any, token: str | None = None) -> Iterator[Running]:
    """`sise-ort serve ARGUMENTS` on a free port, ready to answer."""
    import httpx

    command = [
        sys.executable,
        "-m",
        "sise_ort.cli.main",
        "serve",
        *map(str, arguments),
        "--port",
        "0",
        "--provider",
        "cpu",
    ]
    environment = {**os.environ, **({"SISE_ORT_TOKEN": token} if token else {})}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    server = None
    try:
        server = Running(process)
        httpx.get(
            f"{server.url}/v2/health/ready", timeout=120
        ).raise_for_status()  # answered when bundles are loaded
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)
        if server is not None:
            server.close()
