"""Processes of Ray for tests: a cluster on this machine, programs that use it, and an end for all of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECONDS = 400
"""How long a program may take; Ray takes a minute to start where others use the cores."""
PATIENT = {
    "RAY_raylet_start_wait_time_s": "200",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # a cluster's processes know one another by a token (from Ray 2.52 on); that of the tests' cluster is made here
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def below(process: int) -> list[tuple[int, str]]:
    """Processes that a process has started, and those that these have started, with their titles."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, left = [], [process]
    while left:
        for child in children.get(left.pop(), []):
            left.append(child)
            with contextlib.suppress(OSError):
                title = (Path("/proc") / str(child) / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append((child, title.decode(errors="replace").strip()))
    return found


@contextlib.contextmanager
def started(*words: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python program; whatever it has started is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **PATIENT},
    )
    try:
        yield process
    finally:
        for number in [n for n, _ in below(process.pid)] + [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a program's end: its exit code and what it wrote."""
    text, _ = process.communicate(timeout=SECONDS)
    return process.returncode, text


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until something is the case while a program runs."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        if found := condition():
            return found
        if process.poll() is not None:
            raise AssertionError(process.stdout.read() if process.stdout else "")
        time.sleep(0.02)
    raise AssertionError("it takes too long")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """A cluster of one machine with two cores.

    Attributes
    ----------
    address : str
    process : Popen
    """

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address, self.process = address, process

    def workers(self) -> list[int]:
        """Numbers of the processes that explain pictures."""
        return [n for n, title in below(self.process.pid) if title.startswith("ray::MapWorker")]


@contextlib.contextmanager
def cluster(cores: int = 2) -> Iterator[Cluster]:
    """Start a cluster. Its ports are given: Ray waits 15 s, and no longer, for processes that choose their own."""
    port, *others = free_ports(6)
    names = (
        "dashboard-agent-grpc",
        "dashboard-agent-listen",
        "runtime-env-agent",
        "metrics-export",
        "dashboard",
    )
    with started(
        "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
        f"--num-cpus={cores}", "--num-gpus=0", f"--object-store-memory={100 << 20}", "--include-dashboard=false", "--disable-usage-stats",
        *(f"--{name}-port={number}" for name, number in zip(names, others, strict=True)),
    ) as process:  # fmt: skip
        # it prints more than a pipe holds, now and then
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Ray runtime started" in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield Cluster(f"127.0.0.1:{port}", process)
