"""Requests a second and latencies of `sise-ort serve` at 1, 8 and 64 clients, beside the bare explainer.

    python benchmarks/serve.py                              # MobileNetV2 with random weights
    python benchmarks/serve.py --bundle model.sise --seconds 10 --rounds 5
    python benchmarks/serve.py --network tiny --seconds 2   # a quick look

Each round runs the bare explainer (one call after the other, in this process) and every server (one process, then
`--workers` of them) with every number of clients in turn; the table shows medians over the rounds. Clients are threads of
this process with one connection each; a client that is told 429 waits a little and asks again, and its latency counts from its
first try. All cores are shared between clients and server, as on one machine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

import sise_ort

CLIENTS = (1, 8, 64)
KINDS = {
    "predict": ("predict", {}),
    "explain, SISE μ = 0.75": ("explain", {"mu": 0.75}),
    "explain, 32 passes": ("explain", {"passes": 32}),
}


@dataclass
class Count:
    """What one run of some clients gave."""

    latencies: list[float] = field(default_factory=list)
    busy: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def pace(self) -> float:
        return len(self.latencies) / self.seconds


def bundle_of(network: str, folder: Path) -> Path:
    """A bundle to be served."""
    target = folder / f"{network}.sise"
    if network == "tiny":
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
        import onnx
        from tiny import tiny_model

        onnx.save(tiny_model(), folder / "tiny.onnx")
        sise_ort.export(folder / "tiny.onnx", target, normalize="tf")
    else:
        sise_ort.export(network, target, weights="NONE")
    return target


@contextmanager
def served(bundle: Path, workers: int, threads: int) -> Iterator[str]:
    """The address of a server that is ready."""
    command = [sys.executable, "-m", "sise_ort.cli.main", "serve", f"model={bundle}", "--port", "0", "--provider", "cpu",
               "--workers", str(workers), "--threads", str(threads)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = ""
    while not address and (line := process.stderr.readline()):
        found = re.search(r"http://(\S+)", line)
        address = found[1] if found else ""
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
    try:
        connection = http.client.HTTPConnection(address, timeout=300)
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().read()
        yield address
    finally:
        process.terminate()
        process.wait(60)


def ask(address: str, path: str, body: bytes, clients: int, seconds: float) -> Count:
    """Let some clients ask for some seconds."""
    count, lock, end = Count(), threading.Lock(), time.perf_counter() + seconds
    place = urlsplit(f"//{address}")

    def client() -> None:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=300)
        while time.perf_counter() < end:
            began, status = time.perf_counter(), 429
            while status == 429:
                connection.request("POST", path, body, {"Content-Type": "image/png"})
                answer = connection.getresponse()
                answer.read()
                status = answer.status
                if status == 429:
                    with lock:
                        count.busy += 1
                    time.sleep(0.05)
            with lock:
                count.latencies.append(time.perf_counter() - began)
                count.failed += status != 200
        connection.close()

    began = time.perf_counter()
    running = [threading.Thread(target=client) for _ in range(clients)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    count.seconds = time.perf_counter() - began
    return count


def alone(
    explainer: sise_ort.Explainer, data: bytes, kind: str, fields: dict[str, Any], seconds: float
) -> float:
    """Pictures a second of the bare explainer, the file decoded each time."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        if kind == "predict":
            frame, _ = explainer.prepare(data)
            model = explainer.model
            model.predict(model.network_input(model.upload(frame)))
        else:
            explainer.explain(data, **fields)
        done += 1
    return done / (time.perf_counter() - began)


def measure(options: argparse.Namespace, bundle: Path) -> None:
    explainer = sise_ort.load(bundle, "cpu")
    explainer.warm_up()
    spec, cores = explainer.manifest.input, os.cpu_count() or 1
    frame = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    body = cv2.imencode(".png", cv2.GaussianBlur(frame, (0, 0), 3))[1].tobytes()
    print(f"{explainer.manifest.name}, {platform.processor() or platform.machine()}, {cores} cores, "
          f"{options.rounds} rounds of {options.seconds:g} s\n")  # fmt: skip
    print(
        "| request | processes | clients | requests a second | beside the bare explainer | p50 ms | p95 ms | p99 ms | 429 | failed |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with ExitStack() as stack:
        servers = {
            workers: stack.enter_context(served(bundle, workers, max(1, cores // workers)))
            for workers in dict.fromkeys((1, options.workers))
        }
        for name, (kind, fields) in KINDS.items():
            path = f"/v1/models/model:{kind}?" + "&".join(f"{k}={v}" for k, v in fields.items())
            path += "&heatmap=npz" if kind == "explain" else ""
            runs: dict[tuple[int, int], list[Count]] = {}
            ratios: dict[tuple[int, int], list[float]] = {}
            for _ in range(options.rounds):
                bare = alone(explainer, body, kind, fields, options.seconds)
                for workers, address in servers.items():
                    for clients in CLIENTS:
                        found = ask(address, path, body, clients, options.seconds)
                        runs.setdefault((workers, clients), []).append(found)
                        ratios.setdefault((workers, clients), []).append(found.pace / bare)
            for (workers, clients), counts in runs.items():
                latencies = 1e3 * np.concatenate([one.latencies for one in counts])
                p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
                pace, ratio = np.median([one.pace for one in counts]), np.median(ratios[workers, clients])
                busy, failed = sum(one.busy for one in counts), sum(one.failed for one in counts)
                print(f"| {name} | {workers} | {clients} | {pace:.1f} | {ratio:.2f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | "
                      f"{busy} | {failed} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, options.bundle or bundle_of(options.network, Path(folder)))


if __name__ == "__main__":
    main()
