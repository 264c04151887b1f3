"""What fp16 and int8 of the network that scores masks gain in seconds, and what they cost in heat maps.

    python benchmarks/precision.py ../shared/data --work precision --network mobilenet_v2 --network squeezenet1_1
    python benchmarks/precision.py ../shared/data --work precision --write      # the table of docs/performance.md

Ranges for int8 come from other pictures than the compared ones. Seconds are medians of rounds in which the precisions
take turns. Networks and pictures are those of paper_table.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from pages import replace_part
from paper_table import NETWORKS, Network, imagenet, processor

import sise_ort
from sise_ort.metrics import bbox_share, correlation, energy_pointing_game
from sise_ort.runtime.evaluation.summary import markdown_table

PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATED = 64
MU = 0.3
PASSES = 64
ROUNDS = 9
BATCHES = 8


def export_resnet50(data: Path, bundle: Path, weights: Path | None, **options: Any) -> object:
    return sise_ort.export("resnet50", bundle, weights="NONE", **options)


MEASURED = NETWORKS | {"resnet50": Network("ResNet-50, random weights", export_resnet50, imagenet, 0)}
"""Of random weights the seconds only: their heat maps mean nothing."""


def seconds(part: Callable[[], object]) -> float:
    start = time.perf_counter()
    part()
    return time.perf_counter() - start


def prepare(name: str, arguments: argparse.Namespace) -> tuple[dict[str, sise_ort.Explainer], list[Any]]:
    """A bundle per precision, and the pictures to compare on."""
    network = MEASURED[name]
    samples = network.pictures(arguments.data, arguments.work).samples
    order = np.random.default_rng(0).permutation(len(samples))
    calibration = arguments.work / f"{name}-calibration"
    calibration.mkdir(exist_ok=True)
    for i in order[-CALIBRATED if network.limit else -2 :]:
        shutil.copy(samples[i].picture, calibration)
    explainers = {}
    for precision in PRECISIONS:
        bundle = bundle_of(name, precision, arguments.work)
        if not bundle.exists():
            options: dict[str, Any] = {"precision": precision, "least_correlation": -1.0}
            if precision != "fp32":
                options["calibration"] = calibration
            network.export(arguments.data, bundle, arguments.neu_weights, **options)
        explainers[precision] = sise_ort.load(bundle, provider="cpu")
        explainers[precision].warm_up()
    limit = min(arguments.limit, network.limit, len(order) - CALIBRATED)
    return explainers, [samples[i] for i in order[:limit]]


def bundle_of(name: str, precision: str, work: Path) -> Path:
    return work / f"{name}-{precision}.sise"


def run(name: str, arguments: argparse.Namespace) -> None:
    explainers, samples = prepare(name, arguments)
    spec = explainers["fp32"].manifest.input
    size = explainers["fp32"].model.batch_size
    batch = np.random.default_rng(0).normal(0, 1, (size, 3, spec.height, spec.width)).astype(np.float32)
    picture = samples[0].picture
    passes: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    wholes: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS + 1):
        for precision, explainer in explainers.items():
            explainer.model.predict(batch)  # after another network's turn
            taken = seconds(lambda e=explainer: [e.model.predict(batch) for _ in range(BATCHES)])  # type: ignore[misc]
            passes[precision].append(taken / (BATCHES * size))
            wholes[precision].append(seconds(lambda e=explainer: e.explain(picture, passes=PASSES)))  # type: ignore[misc]
    heat: dict[str, list[list[float]]] = {precision: [] for precision in PRECISIONS}
    for count, sample in enumerate(samples, 1):
        results = {p: e.explain(sample.picture, sample.label, mu=MU) for p, e in explainers.items()}
        truth = sample.truth(*results["fp32"].frame.shape[:2])
        for precision, result in results.items():
            alike = correlation(result.heatmap, results["fp32"].heatmap)
            points = [metric(result.frame_heatmap, truth) for metric in (energy_pointing_game, bbox_share)]
            heat[precision].append([alike, *points])
        print(f"{name}: {count} of {len(samples)}", flush=True)
    found = {
        precision: {
            "bytes": sum(f.stat().st_size for f in bundle_of(name, precision, arguments.work).iterdir()),
            "passes": passes[precision][1:],
            "wholes": wholes[precision][1:],
            "heat": heat[precision],
        }
        for precision in PRECISIONS
    }
    (arguments.work / f"{name}-precision.json").write_text(json.dumps(found), encoding="utf-8")


def write(arguments: argparse.Namespace) -> None:
    """The tables between the marks of docs/performance.md."""
    parts = []
    for name, network in MEASURED.items():
        path = arguments.work / f"{name}-precision.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        lines = []
        for precision, facts in found.items():
            one, reference = np.array(facts["passes"]), np.array(found["fp32"]["passes"])
            whole, usual = np.array(facts["wholes"]), np.array(found["fp32"]["wholes"])
            cells = [precision, f"{facts['bytes'] / 2**20:.0f}", f"{1e3 * np.median(one):.1f}"]
            cells += [f"{np.median(a) / np.median(b):.2f}" for a, b in ((reference, one), (usual, whole))]
            if facts["heat"]:
                alike, ebpg, bbox = np.array(facts["heat"]).T
                cells += [f"{alike.mean():.3f} ({alike.min():.2f})"]
                cells += [f"{100 * np.nanmean(v):.1f}" for v in (ebpg, bbox)]
            else:
                cells += ["–"] * 3
            lines.append(cells)
        headers = ["", "bundle, MiB", "ms a pass", "passes, times as fast", f"{PASSES} passes in all"]
        headers += ["correlation with fp32 (lowest)", "EBPG", "Bbox"]
        pictures = len(found["fp32"]["heat"])
        title = f"{network.title} ({pictures})" if pictures else network.title
        parts += [f"### {title}", markdown_table(headers, lines)]
    parts.append(
        f"`python benchmarks/precision.py DATA --work FOLDER`, {os.cpu_count()} cores of an x86-64 machine ({processor()}), "
        f"onnxruntime {onnxruntime.__version__}, {date.today()}. Default batches; medians of {ROUNDS} rounds in turn. Heat maps at "
        f"μ = {MU}, on other pictures than the {CALIBRATED} that the ranges come from."
    )
    print(replace_part("performance.md", "precision", parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and findings")
    parser.add_argument("--network", action="append", choices=list(MEASURED))
    parser.add_argument("--limit", type=int, default=24, help="pictures at most")
    parser.add_argument("--neu-weights", type=Path)
    parser.add_argument("--write", action="store_true", help="run nothing, write docs/performance.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.write:
        write(arguments)
        return
    for name in arguments.network or ("mobilenet_v2", "squeezenet1_1", "resnet50"):
        run(name, arguments)


if __name__ == "__main__":
    main()
