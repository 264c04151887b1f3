"""Beside the peers: the same network, the same pictures, one after the other in one run.

    python benchmarks/peers.py ../shared/data --work peers --limit 20
    python benchmarks/peers.py ../shared/data --work peers --write        # the table of docs/performance.md

Each peer runs in a process and an environment of its own (made in the work folder, 4 GB in all, and kept); they take
turns picture by picture, and only one of them works at a time. Can be stopped and started again. All get the .onnx file,
or what onnx2torch makes of it, and the input that our bundle gives the network. Every map is scaled to [0, 1] by its
minimum and maximum, and a smaller one is upsampled bilinearly, before it is judged.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fetch_data import require
from pages import replace_part
from paper_table import NETWORKS, imagenet, processor
from rows import Rows

import sise_ort
from sise_ort.files import file_name
from sise_ort.readouts import Question
from sise_ort.runtime.evaluation.judge import Judge
from sise_ort.runtime.evaluation.summary import markdown_table
from sise_ort.runtime.maps import upsample
from sise_ort.targets import class_question

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("ebpg", "bbox", "insertion", "deletion")
COLUMNS = ("sample", "variant", "seconds", "passes", "memory", *METRICS)
STEPS = 16
ENVIRONMENTS = {
    "torch": (
        "torch>=2.9,<2.14", "torchvision==0.28.0", "grad-cam==1.5.7", "onnx2torch==1.5.15", "setuptools<81",
    ),
    "dianna": ("torch==2.13.0", "dianna==1.8.1"),
    "openvino": ("openvino-xai==1.1.0",),
}  # fmt: skip
MODELS = {
    "mobilenet_v2": "mobilenet_v2_1.0_224_quant_deq_fp32.onnx",
    "squeezenet1_1": "squeezenet1.1_fp32.onnx",
}
OURS: dict[str, dict[str, Any]] = {
    "sise-ort, μ = 0": {},
    "sise-ort, 64 passes": {"passes": 64},
    "sise-ort, 16 passes": {"passes": 16},
    "sise-ort, no pass": {"passes": 0},
    "sise-ort, Grad-CAM": {"method": "gradcam"},
    "sise-ort, LayerCAM": {"method": "layercam"},
    "sise-ort, Refine": {"method": "refine"},
}
PEERS = {
    "torch-naive": "SISE in torch, naive",
    "torch-careful": "SISE in torch, careful",
    "torch-scorecam": "pytorch-grad-cam 1.5.7, Score-CAM",
    "torch-layercam": "pytorch-grad-cam 1.5.7, LayerCAM",
    "torch-refinecam": "pytorch-grad-cam 1.5.7, RefineCAM",
    "dianna-rise": "DIANNA 1.8.1, RISE",
    "openvino-aise": "OpenVINO XAI 1.1.0, AISE",
    "openvino-reciprocam": "OpenVINO XAI 1.1.0, ReciproCAM",
}


@dataclass(frozen=True)
class Answer:
    """A map [h, w] with its price: seconds, inputs through the network, peak memory of the process in MiB."""

    values: np.ndarray[Any, np.dtype[np.float32]]
    seconds: float
    passes: int
    memory: float


class Worker:
    """A process that explains pictures when it is asked to."""

    def __init__(self, command: list[str], map_file: Path, log: Path) -> None:
        self._map, self._log = map_file, log
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._log} says why this peer stopped")
        found: dict[str, Any] = json.loads(line)
        return found

    def explain(self, number: int) -> Answer:
        assert self._process.stdin
        print(number, self._map, file=self._process.stdin, flush=True)
        told = self._answer()
        return Answer(np.load(self._map), told["seconds"], told["passes"], told["memory"])

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def environment(name: str, work: Path) -> Path:
    """The Python of a peer's environment, made where it is missing."""
    folder = work / "environments" / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {', '.join(ENVIRONMENTS[name])}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *ENVIRONMENTS[name]], check=True)
        (folder / "complete").touch()
    return python


def block_nodes(model: Path, bundle: Path) -> list[str]:
    """Names of the .onnx file's nodes that give the block outputs."""
    graph = onnx.load(model, load_external_data=False).graph
    names = {output: node.name for node in graph.node for output in node.output}
    return [names[layer.tensor] for layer in sise_ort.load(bundle, provider="cpu").manifest.layers]


def prepare(name: str, arguments: argparse.Namespace) -> tuple[Any, list[Any], dict[str, Any]]:
    """The explainer that judges, the samples, and what all workers are told."""
    bundle = (arguments.work / f"{name}.sise").resolve()
    if not bundle.exists():
        NETWORKS[name].export(arguments.data, bundle, None)
    samples = imagenet(arguments.data, arguments.work).samples
    order = np.random.default_rng(0).permutation(len(samples))[: arguments.limit]
    chosen = [samples[i] for i in order]
    explainer = sise_ort.load(bundle, provider="cpu")
    model = explainer.model
    frames = [explainer.prepare(sample.picture)[0] for sample in chosen]
    pictures = (arguments.work / f"{name}.npz").resolve()
    np.savez(
        pictures,
        frames=frames,
        inputs=np.concatenate([model.network_input(model.upload(frame)) for frame in frames]),
        classes=[class_question(explainer.manifest, sample.label).index for sample in chosen],
    )
    require(arguments.data, f"models/{MODELS[name]}")
    source = (arguments.data / "models" / MODELS[name]).resolve()
    nodes = block_nodes(source, bundle)
    told = {"model": str(source), "nodes": nodes, "pictures": str(pictures), "bundle": str(bundle)}
    return explainer, chosen, told


def run(name: str, arguments: argparse.Namespace) -> None:
    explainer, samples, told = prepare(name, arguments)
    worker = Path(__file__).resolve().with_name("peer_worker.py")
    work = arguments.work.resolve()

    def command(peer: str, title: str, python: Callable[[], object], **further: Any) -> list[str]:
        job = work / f"{name}-{file_name(title)}.json"
        job.write_text(json.dumps({**told, **further}))
        return [str(python()), str(worker), peer, str(job)]

    commands: dict[str, Callable[[], list[str]]] = {
        title: lambda title=title, given=given: command(
            "sise-ort", title, lambda: sys.executable, parameters=given
        )
        for title, given in OURS.items()
    }
    for peer, title in PEERS.items():
        commands[title] = lambda peer=peer, title=title: command(
            peer, title, lambda: environment(peer.split("-")[0], work)
        )
    with (
        Rows(arguments.work / f"{name}-peers.csv", COLUMNS) as rows,
        workers(commands, work) as staff,
    ):
        done = {(row["sample"], row["variant"]) for row in rows.all}
        for number, sample in enumerate(samples):
            left = [title for title in commands if (sample.name, title) not in done]
            for title in left:
                answer = staff(title).explain(number)
                rows.append([row_of(explainer, sample, title, answer)])
            print(f"{name}: {number + 1} of {len(samples)}", flush=True)


@contextlib.contextmanager
def workers(commands: dict[str, Callable[[], list[str]]], work: Path) -> Iterator[Callable[[str], Worker]]:
    """Opens each worker when it is first needed; closes them all."""
    open_ones: dict[str, Worker] = {}

    def worker(title: str) -> Worker:
        if title not in open_ones:
            log = work / f"{file_name(title)}.log"
            open_ones[title] = Worker(commands[title](), work / "map.npy", log)
        return open_ones[title]

    try:
        yield worker
    finally:
        for one in open_ones.values():
            one.close()


def row_of(explainer: Any, sample: Any, title: str, answer: Answer) -> dict[str, Any]:
    """What a map is worth."""
    frame = explainer.explain(sample.picture, sample.label, passes=0)
    size = frame.heatmap.shape
    values = answer.values.astype(np.float64)
    values = upsample(values, size) if values.shape != size else values
    low, high = float(values.min()), float(values.max())
    heatmap = ((values - low) / (high - low) if high > low else np.zeros(size)).astype(np.float32)
    image = explainer.model.upload(explainer.prepare(sample.picture)[0])
    truth = sample.truth(*frame.frame.shape[:2])
    judge = Judge(explainer.model, image, Question.of_class(frame.target), truth, METRICS, STEPS)
    found = judge.judge(dataclasses.replace(frame, heatmap=heatmap))
    return {
        "sample": sample.name,
        "variant": title,
        "seconds": answer.seconds,
        "passes": answer.passes,
        "memory": answer.memory,
        **{metric: found[metric] for metric in METRICS},
    }


def write(arguments: argparse.Namespace) -> None:
    """The tables between the marks of docs/performance.md."""
    parts = []
    for name in MODELS:
        path = arguments.work / f"{name}-peers.csv"
        if not path.exists():
            continue
        found = Rows(path, COLUMNS, write=False).all
        times = Counter(row["sample"] for row in found)
        whole = {sample for sample, n in times.items() if n == len(OURS) + len(PEERS)}
        table: dict[str, list[dict[str, Any]]] = {}
        for row in found:
            if row["sample"] in whole:  # all of them on the same pictures
                table.setdefault(row["variant"], []).append(row)
        reference = np.median([row["seconds"] for row in table["sise-ort, 64 passes"]])
        lines = []
        for title, rows in table.items():
            seconds = float(np.median([row["seconds"] for row in rows]))
            cells = [title, f"{np.mean([row['passes'] for row in rows]):.0f}", f"{seconds:.3g}"]
            cells += [f"{seconds / reference:.2g}", f"{max(row['memory'] for row in rows):.0f}"]
            cells += [f"{100 * np.nanmean([row[metric] for row in rows]):.1f}" for metric in METRICS]
            lines.append(cells)
        headers = ["", "passes", "seconds", "/ 64 passes", "MiB", "EBPG", "Bbox", "insertion", "deletion"]
        parts += [f"### {NETWORKS[name].title} ({len(whole)})", markdown_table(headers, lines)]
    parts.append(
        f"`python benchmarks/peers.py DATA --work FOLDER`, {os.cpu_count()} cores of an x86-64 machine ({processor()}), "
        f"{date.today()}. Seconds are medians of one picture from memory, after a first one that does not count; memory is "
        "the highest of the process; metrics are means times 100, deletion is better when lower. Insertion and deletion in "
        f"{STEPS} steps."
    )
    print(replace_part("performance.md", "peers", parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for environments, bundles and rows")
    parser.add_argument("--network", action="append", choices=list(MODELS))
    parser.add_argument("--limit", type=int, default=20, help="pictures at most")
    parser.add_argument(
        "--write", action="store_true", help="run nothing, write the table of docs/performance.md"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.write:
        write(arguments)
        return
    for name in arguments.network or MODELS:
        run(name, arguments)


if __name__ == "__main__":
    main()
