"""A soak of the inspection line: thousands of frames through `sise-ort watch` and through `Line`, with everything that goes wrong.

    python benchmarks/soak.py                         # 5,000 frames each, 10 SIGKILLs
    python benchmarks/soak.py --frames 200 --kills 3  # a quick look
    python benchmarks/soak.py --only line             # without the command

Through the command: pictures are put into a hot folder by a process of its own, some of them unreadable; `sise-ort watch` moves
them away, is killed by SIGKILL at random moments and started again, and tells an HTTP server that is away a third of the time. In the
end every picture must have one record, no file may be left or halved, the chain must be whole, and the server must have heard of
each part in order. Through `Line`: the process's memory after the first tenth of the frames and at the end.

The last line is JSON with all figures; the exit code is 1 where one of the promises was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import sise_ort
from sise_ort.line.evidence import Evidence
from sise_ort.line.evidence.finding import find
from sise_ort.line.evidence.verifying import verify
from sise_ort.line.line import Line
from sise_ort.line.settings import LineSettings

UNREADABLE = 50
"""Every N-th picture is none."""
FLAT = 0.05
"""How much memory may grow after the first tenth of the frames."""


def bundle_of(folder: Path) -> Path:
    """A network of three blocks with random weights, 32 x 48 pixels."""
    import onnx

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from tiny import tiny_model

    onnx.save(tiny_model(tail="y = Sigmoid(scores)"), folder / "tiny.onnx")
    labels = ["scratch", "crack", "patch", "pit"]
    sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf", labels=labels)
    return folder / "tiny.sise"


def picture(number: int) -> bytes:
    """A picture that no other number has; every N-th one is cut in half."""
    rng = np.random.default_rng(number)
    pixels = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (48, 32))
    data = cv2.imencode(".png", pixels)[1].tobytes()
    return data[: len(data) // 2] if number % UNREADABLE == UNREADABLE - 1 else data


def put_pictures(folder: Path, frames: int, pause: float) -> None:
    """Write all pictures, each in two pieces, one after the other."""
    for number in range(frames):
        data = picture(number)
        with (folder / f"{number:06}.png").open("wb", buffering=0) as file:
            file.write(data[:100])
            file.write(data[100:])
        time.sleep(pause)


class Hearer:
    """An HTTP server that answers 503 for a while, every now and then.

    Attributes
    ----------
    heard : list of str
        Names of parts, in the order in which they came.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                away = int(time.monotonic() / 10) % 3 == 0
                if not away and body["kind"] == "part":
                    outer.heard.append(body["part_id"])
                self.send_response(503 if away else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def watched(options: argparse.Namespace, bundle: Path, work: Path) -> dict[str, Any]:
    """Soak `sise-ort watch`."""
    source, evidence = work / "in", work / "evidence"
    source.mkdir()
    hearer, rng = Hearer(), random.Random(options.seed)
    words = [str(source), str(bundle), "-o", str(evidence), "--after", "move", "--settle-ms", "200"]
    words += ["--set", "passes=8", "--provider", "cpu", "--threads", "1", "--webhook", hearer.url]
    command = [sys.executable, "-c", "from sise_ort.cli.main import main; main()", "watch", *words]
    writer = multiprocessing.Process(target=put_pictures, args=(source, options.frames, options.pause))
    began = time.monotonic()
    writer.start()
    kills = 0
    with (work / "watch.log").open("wb") as log:
        while kills < options.kills:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(options.start + rng.random() * options.between)
                raise SystemExit(f"watch ended by itself, see {work / 'watch.log'}")
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        writer.join()
        subprocess.run([*command, "--once"], stdout=log, stderr=log, check=True)
        process = subprocess.Popen(command, stdout=log, stderr=log)  # what is still to be told
        with Evidence(evidence, create=False) as store:
            while store.outbox.counts():
                time.sleep(0.5)
        process.terminate()
        ended = process.wait(120)
    seconds = time.monotonic() - began
    found = accounted(evidence, [f"{i:06}" for i in range(options.frames)])
    moved = Counter(path.parent.name for path in source.rglob("*.png"))
    leftovers = [p.name for p in work.rglob("*") if p.name.endswith(".part")]
    first_heard = list(dict.fromkeys(hearer.heard))
    with Evidence(evidence, create=False) as store:
        order = [kept.part.part_id for kept in sorted(find(store), key=lambda kept: kept.number)]
    return {
        **found,
        "seconds": round(seconds, 1),
        "kills": kills,
        "exit_code": ended,
        "moved": dict(moved),
        "half_files": leftovers,
        "told": len(first_heard),
        "told_twice": len(hearer.heard) - len(first_heard),
        "told_in_order": first_heard == order,
        "good": found["good"] and not leftovers and first_heard == order and moved["in"] == 0 and ended == 0,
    }


def accounted(evidence: Path, names: list[str]) -> dict[str, Any]:
    """Whether every part has one record, and the chain and all files are whole."""
    with Evidence(evidence, create=False) as store:
        counts = Counter(kept.part.part_id for kept in find(store))
        decisions = Counter(kept.part.decision for kept in find(store))
        report = verify(store)
    lost = [name for name in names if not counts[name]]
    twice = [name for name, count in counts.items() if count > 1]
    return {
        "frames": len(names),
        "records": counts.total(),
        "lost": len(lost),
        "twice": len(twice),
        "decisions": dict(decisions),
        "problems": [str(one) for one in report.findings][:5],
        "good": not lost and not twice and not report.findings and counts.total() == len(names),
    }


def resident() -> float:
    """Memory of this process in MiB, as the system counts it."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmRSS"):
            return int(row.split()[1]) / 1024
    return float("nan")


def memory(options: argparse.Namespace, bundle: Path, work: Path) -> dict[str, Any]:
    """Soak `Line` in this process."""
    evidence = work / "line"
    alarms: Counter[str] = Counter()
    settings = LineSettings(parameters={"passes": 8}, alarm=lambda kind, _: alarms.update([kind]))
    sizes, pending, began = list[float](), deque[Any](), time.monotonic()
    with Line(bundle, evidence, settings=settings, provider="cpu", threads=1, deadline=10.0) as line:
        for number in range(options.frames):
            if len(pending) == 8:
                pending.popleft().result()
            line.wait_for_room()
            pending.append(line.submit(picture(number), f"{number:06}"))
            if number % max(1, options.frames // 50) == 0:
                sizes.append(resident())
    sizes.append(resident())
    early = float(np.median(sizes[len(sizes) // 10 : len(sizes) // 5]))
    late = float(np.median(sizes[-len(sizes) // 10 :]))
    found = accounted(evidence, [f"{i:06}" for i in range(options.frames)])
    return {
        **found,
        "seconds": round(time.monotonic() - began, 1),
        "mib_early": round(early, 1),
        "mib_late": round(late, 1),
        "growth": round(late / early - 1, 4),
        "status": line.status(),
        "good": found["good"] and late <= early * (1 + FLAT),
    }


@contextlib.contextmanager
def folder(place: Path | None) -> Iterator[Path]:
    """The folder to work in; one that vanishes where none is named."""
    if place is not None:
        place.mkdir(parents=True)
        yield place
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two pictures")
    parser.add_argument("--start", type=float, default=3.0, help="seconds that a process runs at least")
    parser.add_argument("--between", type=float, default=8.0, help="seconds of chance on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["watch", "line"])
    parser.add_argument("--work", type=Path, help="new folder to work in, which stays")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with folder(options.work) as work:
        bundle = bundle_of(work)
        if options.only != "line":
            results["watch"] = watched(options, bundle, work)
            print(json.dumps(results["watch"], indent=1), file=sys.stderr)
        if options.only != "watch":
            results["line"] = memory(options, bundle, work)
    print(json.dumps(results))
    if not all(one["good"] for one in results.values() if isinstance(one, dict)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
