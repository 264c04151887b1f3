"""What Ray costs: `explain_dataset` beside a plain loop over the same pictures, and what Ray's head does for each task.

    python benchmarks/scale.py                                   # MobileNetV2 with random weights, 64 passes
    python benchmarks/scale.py --network tiny --pictures 64 --rounds 1
    python benchmarks/scale.py --bundle model.sise --workers 2 --cores 1

Each round explains the pictures by a plain loop (`explain_many`, results thrown away), by the same loop that writes what a
worker writes, by one worker of Ray, and by `--workers` workers; all with the same threads each. A loop's pace is that from its
first task's end to its last one's, so that starting Ray and loading the bundle do not count; both are printed apart. Ratios
are of medians. CPU seconds of Ray's head are those of the driver, its GCS and its raylet for each of `--tasks` tasks that do
nothing: they do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import sise_ort
from sise_ort.line.cluster.dataset import tasks_of
from sise_ort.line.cluster.results import Results
from sise_ort.line.cluster.sources import listed
from sise_ort.line.cluster.starting import connected
from sise_ort.line.cluster.work import Job, Worker
from sise_ort.line.cluster.workers import Workers


def bundle_of(network: str, folder: Path) -> Path:
    """A bundle with random weights."""
    if network == "tiny":
        import sys

        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
        import onnx
        from tiny import tiny_model

        onnx.save(tiny_model(), folder / "tiny.onnx")
        sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf")
    else:
        sise_ort.export(network, folder / f"{network}.sise", weights="NONE")
    return folder / f"{network}.sise"


def pace(moments: list[tuple[float, int]]) -> float:
    """Seconds a picture between the first moment and the last."""
    (begin, first), (end, last) = moments[0], moments[-1]
    return (end - begin) / max(last - first, 1)


def plain(bundle: Path, pictures: list[str], passes: int, threads: int, task: int) -> float:
    moments = []
    with sise_ort.load(bundle, "cpu", threads=threads) as explainer:
        for number, _ in enumerate(explainer.explain_many(pictures, passes=passes), 1):
            if number % task == 0:
                moments.append((time.perf_counter(), number))
    return pace(moments)


def written(bundle: Path, pictures: list[str], passes: int, threads: int, task: int, out: Path) -> float:
    with sise_ort.load(bundle, "cpu") as explainer:
        digest = explainer.model.digest
    results = Results(str(out))
    job = Job(
        str(bundle), digest, str(out), results.begin({}), Workers(provider="cpu"), threads, None, "sise", {"passes": passes}, ()
    )  # fmt: skip
    worker, moments, done = Worker(job), [], 0
    for one in tasks_of(listed(pictures), set(), task):
        done += worker.do(one).explained
        moments.append((time.perf_counter(), done))
    return pace(moments)


def on_ray(
    bundle: Path, pictures: list[str], passes: int, workers: Workers, out: Path
) -> tuple[float, float]:
    """Seconds a picture, and seconds until the first task was done."""
    began, moments = time.perf_counter(), list[tuple[float, int]]()

    def hear(done: int, everything: int) -> None:
        if done:
            moments.append((time.perf_counter(), done))

    sise_ort.explain_dataset(bundle, pictures, out, passes=passes, workers=workers, progress=hear)
    return pace(moments), moments[0][0] - began


class Idle:
    """An actor that does nothing."""

    def __call__(self, batch: Any) -> Iterator[dict[str, Any]]:
        for task in batch["task"]:
            yield {"outcome": [task]}


def cpu_seconds(ray: Any) -> float:
    """CPU seconds so far of the driver, the GCS and the raylets of this machine that it has started."""
    total, ticks = time.process_time(), os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")[0]
            if words.endswith((b"/gcs_server", b"/raylet")):
                numbers = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                total += (int(numbers[11]) + int(numbers[12])) / ticks
        except OSError:
            continue
    return total


def head(ray: Any, tasks: int, workers: int) -> tuple[float, float]:
    """CPU seconds of Ray's head and seconds in all, for each task of a run that does nothing."""
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False

    def run(count: int) -> tuple[float, float]:
        items = [{"task": b"x" * 8000} for _ in range(count)]
        data = ray.data.from_items(items, override_num_blocks=count).map_batches(
            Idle, batch_size=1, compute=ActorPoolStrategy(size=workers), num_cpus=1
        )
        began, before = time.perf_counter(), cpu_seconds(ray)
        for _ in data.iter_rows():
            pass
        return cpu_seconds(ray) - before, time.perf_counter() - began

    few, many = run(max(tasks // 10, 1)), run(tasks)
    more = tasks - max(tasks // 10, 1)
    return (many[0] - few[0]) / more, (many[1] - few[1]) / more


def measure(options: argparse.Namespace, bundle: Path, folder: Path) -> None:
    generator = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number in range(options.pictures):
        small = generator.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "pictures" / f"{number:05}.jpg"), cv2.resize(small, (448, 448)))
    pictures = [str(path) for path in sorted((folder / "pictures").iterdir())]
    rounds: dict[str, list[float]] = {}
    starts = []
    with connected(Workers(count=options.workers, cores=options.cores)) as ray:
        for number in range(options.rounds):
            common = (bundle, pictures, options.passes, options.cores, options.task)
            one = Workers(count=1, cores=options.cores, pictures=options.task, provider="cpu")
            several = Workers(
                count=options.workers, cores=options.cores, pictures=options.task, provider="cpu"
            )
            rounds.setdefault("plain loop", []).append(plain(*common))
            rounds.setdefault("plain loop that writes", []).append(
                written(*common, folder / f"plain{number}")
            )
            for name, workers in (("Ray, 1 worker", one), (f"Ray, {options.workers} workers", several)):
                each, start = on_ray(bundle, pictures, options.passes, workers, folder / f"{name}{number}")
                rounds.setdefault(name, []).append(each)
                starts.append(start)
        cpu, wall = head(ray, options.tasks, options.workers)
    size = sum(f.stat().st_size for f in (folder / "Ray, 1 worker0" / "results").iterdir()) / len(pictures)
    bare = np.median(rounds["plain loop"])
    print(f"{bundle.name}, {options.passes} passes, {len(pictures)} pictures, {options.cores} cores each, "
          f"{os.cpu_count()} cores of {platform.machine()}")  # fmt: skip
    for name, seconds in rounds.items():
        print(f"| {name} | {1e3 * np.median(seconds):.1f} ms a picture | {np.median(seconds) / bare:.2f} |")
    print(f"until the first task is done, with Ray running: {np.median(starts):.1f} s (median)")
    print(f"Ray's head for each task: {1e3 * cpu:.2f} ms of CPU time, {1e3 * wall:.2f} ms in all")
    print(f"a row of the results: {size / 1e3:.1f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--passes", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--task", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(options, options.bundle or bundle_of(options.network, folder), folder)


if __name__ == "__main__":
    main()
