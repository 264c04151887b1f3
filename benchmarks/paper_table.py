"""The paper's table on real networks and pictures: every method, every metric, with intervals and prices.

    python benchmarks/paper_table.py ../shared/data --work table --network mobilenet_v2 --workers 2
    python benchmarks/paper_table.py ../shared/data --work table --write        # docs/results.md from what is there

The first command can be stopped and started again, with more methods or samples. The data folder holds models/,
imagenet_val400/ and neu_det/. The ResNet-18 for neu_det is trained first: see train_neu.py, then give --neu-weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train_neu import CLASSES, FIRST_OF_TEST

import sise_ort
from sise_ort.datasets import Dataset, open_dataset
from sise_ort.runtime.evaluation import Evaluation, Plan, evaluate, summarise
from sise_ort.runtime.evaluation.plan import variants

ROOT = Path(__file__).resolve().parents[1]
METHODS = (
    "sise", "gradcam", "gradcam++", "scorecam", "ablationcam", "rise", "gradient", "integrated-gradients", "fullgrad",
    "extremal-perturbation",
)  # fmt: skip
MUS = (0.0, 0.3, 0.5, 0.75, "adaptive")
SETTINGS = {"rise": {"masks": 1000}}
STEPS = 16
GRAPHS = ("head", "image-gradient", "full-gradient")
# METHOD.md's figures of the paper: VOC 2007 test, ResNet-50, on a T4.
PAPER = {
    "sise mu=0": (66.08, 31.37, 61.59, 30.92, 40.22, "9.21"),
    "sise mu=0.3": (66.54, 31.50, 61.45, 31.50, 40.05, "2.18"),
    "sise mu=0.5": ("0.65",),
    "sise mu=0.75": ("0.38",),
    "gradcam": ("0.019",),
    "scorecam": ("18.17",),
    "rise": ("26.08",),
    "extremal-perturbation": ("78.37",),
    "integrated-gradients": ("0.52",),
    "fullgrad": ("34.03",),
}


@dataclass(frozen=True)
class Network:
    """title : for the page. export : (data, bundle, weights) writes the bundle. pictures : (data, work) opens them."""

    title: str
    export: Callable[[Path, Path, Path | None], object]
    pictures: Callable[[Path, Path], Dataset]
    limit: int


def imagenet(data: Path, work: Path) -> Dataset:
    return open_dataset("imagenet", data / "imagenet_val400", largest=0.5)


def neu_test(data: Path, work: Path) -> Dataset:
    """The test pictures of neu_det with the boxes of their own class, as an ImageNet-style folder."""
    folder = work / "neu_test"
    folder.mkdir(parents=True, exist_ok=True)
    with (data / "neu_det" / "boxes.csv").open(newline="") as source:
        rows = [
            [row["file"], row["box_class"], row["x0"], row["y0"], row["x1"], row["y1"], 200, 200]
            for row in csv.DictReader(source)
            if row["file_class"] == row["box_class"]
            and int(Path(row["file"]).stem.split("_")[-1]) >= FIRST_OF_TEST
        ]
    with (folder / "boxes.csv").open("w", newline="") as target:
        csv.writer(target).writerows([["file", "label", "x0", "y0", "x1", "y1", "orig_w", "orig_h"], *rows])
    if not (folder / "images").exists():
        shutil.copytree(data / "neu_det" / "images", folder / "images")
    return open_dataset("imagenet", folder, largest=0.5)


def export_mobilenet(data: Path, bundle: Path, weights: Path | None) -> object:
    model = data / "models" / "mobilenet_v2_1.0_224_quant_deq_fp32.onnx"
    labels = data / "models" / "imagenet_labels.txt"
    return sise_ort.export(model, bundle, mean=(128,) * 3, std=(128,) * 3, labels=labels, graphs=GRAPHS)


def export_squeezenet(data: Path, bundle: Path, weights: Path | None) -> object:
    model, labels = data / "models" / "squeezenet1.1_fp32.onnx", data / "models" / "imagenet_labels.txt"
    return sise_ort.export(model, bundle, normalize="imagenet", labels=labels, graphs=GRAPHS)


def export_neu(data: Path, bundle: Path, weights: Path | None) -> object:
    if weights is None:
        raise SystemExit("--neu-weights is needed: python benchmarks/train_neu.py DATA -o neu_resnet18.pth")
    return sise_ort.export(
        "resnet18", bundle, weights=weights, classes=len(CLASSES), labels=CLASSES, input_size=200, fit="stretch",
        normalize="imagenet", graphs=GRAPHS,
    )  # fmt: skip


NETWORKS = {
    "mobilenet_v2": Network("MobileNetV2, ImageNet pictures", export_mobilenet, imagenet, 100),
    "squeezenet1_1": Network("SqueezeNet 1.1, ImageNet pictures", export_squeezenet, imagenet, 100),
    "neu_resnet18": Network("ResNet-18 trained on NEU steel defects", export_neu, neu_test, 30),
}


def run(name: str, arguments: Any, *, methods: tuple[str, ...], limit: int, only_report: bool) -> Evaluation:
    network = NETWORKS[name]
    bundle = arguments.work / f"{name}.sise"
    if not bundle.exists():
        network.export(arguments.data, bundle, arguments.neu_weights)
    settings = {method: given for method, given in SETTINGS.items() if method in methods}
    plan = Plan(str(bundle), variants(methods, MUS, settings), steps=STEPS, gallery=8, provider="cpu")

    def tell(done: int, everything: int) -> None:
        print(f"{name}: {done} of {everything}", flush=True)

    return evaluate(
        plan,
        network.pictures(arguments.data, arguments.work),
        arguments.work / name,
        limit=limit,
        workers=arguments.workers,
        only_report=only_report,
        progress=tell,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and rows")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--limit", type=int, help="samples at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--neu-weights", type=Path)
    parser.add_argument("--write", action="store_true", help="run nothing, write docs/results.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = arguments.network or list(NETWORKS)
    if not arguments.write:
        for name in names:
            limit = arguments.limit or NETWORKS[name].limit
            run(name, arguments, methods=tuple(arguments.methods.split(",")), limit=limit, only_report=False)
        return
    summaries = {
        name: summarise(run(name, arguments, methods=METHODS, limit=NETWORKS[name].limit, only_report=True))
        for name in names
    }
    print(json.dumps({name: len(s.lines) for name, s in summaries.items()}))


if __name__ == "__main__":
    main()
