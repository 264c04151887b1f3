"""The paper's table on real networks and pictures: every method, every metric, with intervals and prices.

    python benchmarks/paper_table.py ../shared/data --work table --network mobilenet_v2 --workers 2
    python benchmarks/paper_table.py ../shared/data --work table --write        # docs/results.md from what is there
    python benchmarks/paper_table.py ../shared/data --work table --write --network neu_resnet18    # that network's part of it

The first command can be stopped and started again, with more methods or samples; add_methods.py puts a method's rows into
the page as it stands. The data folder holds models/, imagenet_val400/ and neu_det/. The ResNet-18 for neu_det is trained
first: see train_neu.py, then give --neu-weights.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fetch_data import require
from train_neu import CLASSES, FIRST_OF_TEST

import sise_ort
from sise_ort.datasets import Dataset, open_dataset
from sise_ort.frame import read_frame
from sise_ort.runtime.evaluation import METRICS, Evaluation, Plan, Summary, evaluate, summarise
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.summary import markdown_table, seconds

ROOT = Path(__file__).resolve().parents[1]
METHODS = (
    "sise", "gradcam", "gradcam++", "layercam", "refine", "scorecam", "ablationcam", "rise", "gradient", "integrated-gradients", "fullgrad",
    "extremal-perturbation",
)  # fmt: skip
MUS = (0.0, 0.3, 0.5, 0.75, "adaptive")
SETTINGS = {"rise": {"masks": 1000}}
STEPS = 16
PAGE = ROOT / "docs" / "results.md"
GRAPHS = ("head", "image-gradient", "full-gradient")
# The paper's figures for VOC 2007 and ResNet-50 on a T4: EBPG, mIoU, Bbox, Drop %, Increase %, seconds.
PAPER: dict[str, tuple[float | None, ...]] = {
    "sise mu=0": (66.08, 31.37, 61.59, 30.92, 40.22, 9.21),
    "sise mu=0.3": (66.54, 31.50, 61.45, 31.50, 40.05, 2.18),
    "sise mu=0.5": (None, None, None, None, None, 0.65),
    "sise mu=0.75": (None, None, None, None, None, 0.38),
    "gradcam": (None, None, None, None, None, 0.019),
    "scorecam": (None, None, None, None, None, 18.17),
    "rise": (None, None, None, None, None, 26.08),
    "integrated-gradients": (None, None, None, None, None, 0.52),
    "fullgrad": (None, None, None, None, None, 34.03),
    "extremal-perturbation": (None, None, None, None, None, 78.37),
}
PAPERS_METHODS = (
    "gradcam",
    "gradcam++",
    "extremal-perturbation",
    "rise",
    "scorecam",
    "integrated-gradients",
    "fullgrad",
)


@dataclass(frozen=True)
class Network:
    """title : for the page. export : (data, bundle, weights, further options) writes the bundle. pictures : (data, work)
    opens them."""

    title: str
    export: Callable[..., object]
    pictures: Callable[[Path, Path], Dataset]
    limit: int


def imagenet(data: Path, work: Path) -> Dataset:
    require(data, "imagenet_val400/boxes.csv")
    return open_dataset("imagenet", data / "imagenet_val400", largest=0.5)


def neu_test(data: Path, work: Path) -> Dataset:
    """The test pictures of neu_det with the boxes of their own class, as an ImageNet-style folder."""
    require(data, "neu_det/boxes.csv")
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


def export_mobilenet(data: Path, bundle: Path, weights: Path | None, **options: Any) -> object:
    model = data / "models" / "mobilenet_v2_1.0_224_quant_deq_fp32.onnx"
    labels = data / "models" / "imagenet_labels.txt"
    require(data, f"models/{model.name}")
    return sise_ort.export(
        model, bundle, mean=(128,) * 3, std=(128,) * 3, labels=labels, graphs=GRAPHS, **options
    )


def export_squeezenet(data: Path, bundle: Path, weights: Path | None, **options: Any) -> object:
    model, labels = data / "models" / "squeezenet1.1_fp32.onnx", data / "models" / "imagenet_labels.txt"
    require(data, f"models/{model.name}")
    return sise_ort.export(model, bundle, normalize="imagenet", labels=labels, graphs=GRAPHS, **options)


def export_neu(data: Path, bundle: Path, weights: Path | None, **options: Any) -> object:
    if weights is None:
        raise SystemExit("--neu-weights is needed: python benchmarks/train_neu.py DATA -o neu_resnet18.pth")
    return sise_ort.export(
        "resnet18", bundle, weights=weights, classes=len(CLASSES), labels=CLASSES, input_size=200, fit="stretch",
        normalize="imagenet", graphs=GRAPHS, **options,
    )  # fmt: skip


NETWORKS = {
    "mobilenet_v2": Network("MobileNetV2, ImageNet pictures", export_mobilenet, imagenet, 100),
    "squeezenet1_1": Network("SqueezeNet 1.1, ImageNet pictures", export_squeezenet, imagenet, 100),
    "neu_resnet18": Network("ResNet-18 trained on NEU steel defects", export_neu, neu_test, 24),
}


def run(
    name: str,
    arguments: Any,
    *,
    methods: tuple[str, ...],
    mus: tuple[float | str, ...],
    limit: int,
    only_report: bool,
) -> Evaluation:
    network = NETWORKS[name]
    bundle = arguments.work / f"{name}.sise"
    if not bundle.exists():
        network.export(arguments.data, bundle, arguments.neu_weights)
    settings = {method: given for method, given in SETTINGS.items() if method in methods}
    plan = Plan(str(bundle), variants(methods, mus, settings), steps=STEPS, gallery=8, provider="cpu")

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
    parser.add_argument("--mu", help="SISE's thresholds; all those of the table without it")
    parser.add_argument("--write", action="store_true", help="run nothing, write docs/results.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = arguments.network or list(NETWORKS)
    if not arguments.write:
        mus = MUS if arguments.mu is None else tuple(float(mu) for mu in arguments.mu.split(","))
        methods = tuple(arguments.methods.split(","))
        for name in names:
            limit = arguments.limit or NETWORKS[name].limit
            run(name, arguments, methods=methods, mus=mus, limit=limit, only_report=False)
        return
    found = {
        name: run(name, arguments, methods=METHODS, mus=MUS, limit=NETWORKS[name].limit, only_report=True)
        for name in names
        if (arguments.work / name).exists()
    }
    summaries = {name: summarise(evaluation) for name, evaluation in found.items()}
    chances = {name: chance(evaluation) for name, evaluation in found.items()}
    if arguments.network:
        page = PAGE.read_text(encoding="utf-8")
        for name, summary in summaries.items():
            page = replaced(page, name, summary, chances[name], arguments.workers)
    else:
        page = write_page(summaries, chances, arguments.workers)
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


def replaced(page: str, name: str, summary: Summary, at_chance: str, workers: int) -> str:
    """docs/results.md with one network's section, seconds and claims written anew."""
    title = NETWORKS[name].title
    when = (
        f"Measured {date.today()} with `--workers {workers}`: seconds compare methods within this table only."
    )
    sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    for at, section in enumerate(sections):
        if section.startswith(f"## {title}\n"):
            sections[at] = (
                "\n\n".join([f"## {title}", when, summary.to_markdown().strip(), at_chance]) + "\n\n"
            )
        elif section.startswith("## What the paper reports"):
            sections[at] = _replaced_seconds(section, name, papers_table({name: summary}))
        elif section.startswith("## What agrees"):
            block = re.compile(rf"\*\*{re.escape(title)}\*\*.*?\n\n.*?\n\n", re.DOTALL)
            own = block.findall(claims({name: summary}))[0]
            sections[at] = section.replace(block.findall(section)[0], own)
    return "".join(sections)


def _replaced_seconds(section: str, name: str, own: str) -> str:
    """The paper's table with the last column of another one, of one network alone, as the column of that network."""
    new = {line.split("|")[1]: line.split("|")[-2] for line in own.splitlines() if line.startswith("|")}
    lines, column = section.split("\n"), -1
    for at, line in enumerate(lines):
        cells = line.split("|")
        if f" seconds, {name} " in cells:
            column = cells.index(f" seconds, {name} ")
        elif column > 0 and len(cells) > column and cells[1] in new and not cells[1].startswith("---"):
            cells[column] = new[cells[1]]
            lines[at] = "|".join(cells)
    return "\n".join(lines)


def write_page(summaries: dict[str, Summary], chances: dict[str, str], workers: int) -> str:
    """docs/results.md."""
    machine = f"{os.cpu_count()} cores of an x86-64 machine ({processor()})"
    parts = [
        "# Which method to trust, at which price",
        "Every method of sise-ort on real networks and pictures, by every metric of the SISE paper, on ONNX Runtime "
        "alone. Written by `benchmarks/paper_table.py`; the same table for *your* network and pictures comes from "
        "`sise-ort evaluate`. What the methods and their parameters are: [methods.md](methods.md). SISE and LayerCAM in one map: "
        "[combination.md](combination.md).",
        f"Measured on {machine}, onnxruntime {onnxruntime.__version__}, {date.today()}, with `--workers {workers}`: each "
        f"picture was explained on {max(1, (os.cpu_count() or 1) // workers)} thread(s), while the other process worked "
        "beside it, so seconds are good for comparing methods, not for the fastest that this machine can do. RISE has "
        f"{SETTINGS['rise']['masks']} masks here instead of its 8000, insertion and deletion {STEPS} steps. A row's n is "
        "the number of pictures that it was run on; differences are always between the same pictures.",
    ]
    for name, summary in summaries.items():
        parts += [f"## {NETWORKS[name].title}", summary.to_markdown().strip(), chances[name]]
    parts += [
        "## What the paper reports",
        papers_table(summaries),
        "## What agrees, and what does not",
        claims(summaries),
    ]
    return "\n\n".join(parts) + "\n"


def chance(evaluation: Evaluation) -> str:
    """What a map that knows nothing would reach."""
    shares = []
    for sample in evaluation.samples:
        height, width = read_frame(sample.picture).shape[:2]
        truth = sample.truth(height, width)
        shares.append(float(truth.mean()) if truth is not None else math.nan)
    return (
        f"Boxes cover {100 * float(np.nanmean(shares)):.1f} % of a picture on average: what a map without any knowledge "
        "reaches in EBPG and Bbox."
    )


def papers_table(summaries: dict[str, Summary]) -> str:
    """The paper's figures beside ours: other network, other pictures, other machine."""
    metrics = ("ebpg", "miou", "bbox", "drop", "increase")
    headers = ["", *(METRICS[m].title for m in metrics), "seconds", *(f"seconds, {n}" for n in summaries)]
    rows = []
    for variant, figures in PAPER.items():
        lines = [
            next((x for x in s.lines if x.variant.split(" masks")[0] == variant), None)
            for s in summaries.values()
        ]
        title = next((x.title for x in lines if x is not None), variant)
        cells = ["–" if f is None else f"{f:g}" for f in figures]
        rows.append(
            [
                title.split(", masks")[0],
                *cells,
                *("–" if x is None or not x.n else seconds(x.seconds) for x in lines),
            ]
        )
    words = (
        "ResNet-50 on VOC 2007 test pictures, on a T4 (arXiv 2010.00672); RISE with 8000 masks. Beside it, ours: other "
        "networks, other pictures and a CPU, so only the order can be compared."
    )
    return f"{words}\n\n{markdown_table(headers, rows)}"


def claims(summaries: dict[str, Summary]) -> str:
    """The paper's claims, each checked on each network by paired intervals."""
    text = [
        "The paper claims that SISE (μ = 0) leads in each of its five metrics. A method counts as *worse* or *better* than "
        "SISE where the 95 % interval of the paired difference leaves out 0, else as *undecided*."
    ]
    for name, summary in summaries.items():
        rows = []
        for metric in summary.metrics:
            groups: dict[str, list[str]] = {"worse": [], "undecided": [], "better": []}
            for line in summary.lines:
                value = line.difference[metric]
                if line.method == "sise" or not value.n:
                    continue
                ours_leads = value.high < 0 if METRICS[metric].higher else value.low > 0
                theirs_leads = value.low > 0 if METRICS[metric].higher else value.high < 0
                groups["worse" if ours_leads else "better" if theirs_leads else "undecided"].append(
                    line.title.split(", masks")[0] + ("" if line.method in PAPERS_METHODS else " *")
                )
            rows.append([METRICS[metric].title, *(", ".join(g) or "–" for g in groups.values())])
        headers = ["metric", "worse than SISE", "undecided", "better than SISE"]
        text.append(
            f"**{NETWORKS[name].title}** (* not among the paper's methods)\n\n{markdown_table(headers, rows, False)}"
        )
    text.append(READING.strip())
    return "\n\n".join(text)


def processor() -> str:
    try:
        names = [
            line.split(":", 1)[1]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        return " ".join(names[0].split()) if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


READING = """
Read from the tables above.

**What agrees.** SISE's EBPG is ahead of that of every method of the paper on all three networks, by intervals that leave
out 0, with one exception: Extremal Perturbation on MobileNetV2 is level with it, at six times the time. On MobileNetV2
Grad-CAM, Grad-CAM++ and Integrated Gradients are behind in all seven metrics. A higher μ saves most of the time, and
Ada-SISE lies near μ = 0.3.

**What does not.** SISE does not lead in every metric. On MobileNetV2 FullGrad is better in Bbox and RISE in insertion. On
SqueezeNet Grad-CAM (which Grad-CAM++ and Ablation-CAM equal there) and FullGrad are better in mIoU, Bbox and insertion, and
Score-CAM and RISE in insertion. On steel most methods are undecided in mIoU and Bbox and all are in Drop and Increase, and
the pixel-wise gradients are better in insertion and deletion. FullGrad is among the best on the two ImageNet networks and
among the worst on ResNet-18. In the paper μ = 0.3 costs nothing in EBPG; on MobileNetV2 it costs four points, on the others
nothing that the intervals show. SISE's Drop is larger and its Increase smaller than in the paper; why was not examined. SISE
at μ = 0 takes as long as Score-CAM on MobileNetV2 and ResNet-18 and a quarter of it on SqueezeNet, half of it in the paper;
FullGrad, slow there, is fast here.

**Refine**, which is not in the paper, costs one pass. It is ahead of SISE in EBPG on both ImageNet networks, and level with
it there on steel, where its deletion is worse.

**How far this carries.** A hundred pictures at most per network, boxes as the truth, small networks, no VOC and no Severstal
pictures.
"""


if __name__ == "__main__":
    main()
