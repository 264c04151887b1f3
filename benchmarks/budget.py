"""Quality against passes: SISE within a budget beside the paper's threshold, Ada-SISE, the largest gradients and RISE.

    python benchmarks/budget.py ../shared/data --work budget --network mobilenet_v2 --limit 100 --workers 2
    python benchmarks/budget.py ../shared/data --work budget --write       # the tables and the plot of docs/budget.md

Every map is compared with the full one (mu = 0, every positive map scored) on the same picture, by correlation and by
metrics. Can be stopped and started again. Networks and pictures are those of paper_table.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from pages import replace_part
from paper_table import NETWORKS, processor
from rows import Rows

import sise_ort
from sise_ort.explanation import Explanation
from sise_ort.formulas.selection import select_maps
from sise_ort.metrics import correlation
from sise_ort.readouts import Question
from sise_ort.runtime.evaluation.judge import METRICS as TITLES
from sise_ort.runtime.evaluation.judge import Judge
from sise_ort.runtime.evaluation.summary import markdown_table
from sise_ort.runtime.methods.scoring import Job, Masks, score_one

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("ebpg", "bbox", "insertion", "deletion")
COLUMNS = ("sample", "variant", "passes", "seconds", "correlation", "agreement", *METRICS)
PASSES = (0, 8, 16, 32, 64, 128, 256)
TOLERANCES = (0.1, 0.05)
MUS = (0.1, 0.3, 0.5, 0.75, "adaptive")
LARGEST = (16, 32, 64, 128)
OTHERS: dict[str, dict[str, Any]] = {
    "Grad-CAM": {"method": "gradcam"},
    "RISE, 64 masks": {"method": "rise", "masks": 64},
    "RISE, 1000 masks": {"method": "rise", "masks": 1000},
    "Score-CAM": {"method": "scorecam"},
}
STEPS = 16
ROWS = 1 + len(MUS) + len(LARGEST) + len(PASSES) + len(TOLERANCES)
"""Of each picture, without the others."""
Chosen = np.ndarray[Any, np.dtype[np.bool_]]


class Everything:
    """All positive maps of a picture, scored once: any selection of them is then fused without a pass."""

    def __init__(self, explainer: sise_ort.Explainer, sample: Any) -> None:
        self.model = model = explainer.model
        self.frame = explainer.explain(sample.picture, sample.label, passes=0)
        question, self.image = explainer.ask(sample.picture, sample.label)
        self.extracted = model.extract(self.image, [question], explainer.manifest.contrast)
        self.alphas = [alpha[0] for alpha in self.extracted.pooled_gradients]
        self.masks = Masks.of([c[None] for c in self.chosen(0.0)])
        job = Job(
            self.image,
            self.extracted.features,
            self.masks.wanted,
            self.extracted.questions,
        )
        score_one(model, job)
        self.values, self.mass = job.values, job.extent * job.total
        self.full = self.fused(np.ones(len(self.mass), bool))

    def chosen(self, mu: float | str) -> list[Chosen]:
        return [
            select_maps(alpha, spans, mu)
            for alpha, spans in zip(self.alphas, self.extracted.spans, strict=True)
        ]

    def fused(self, keep: Chosen) -> Explanation:
        """The map from the masks [M] that are kept."""
        weights = self.masks.weights(np.where(keep, self.values, 0.0), self.mass)
        maps, heatmaps = self.model.fuse(self.extracted.features, weights)
        return dataclasses.replace(
            self.frame,
            heatmap=heatmaps[0],
            visualization_maps=maps[0],
            mask_counts=(int(keep.sum()),),
            facts={},
            timings={"total": float("nan")},
        )

    def above(self, mu: float | str) -> Explanation:
        """By the paper's threshold, or Ada-SISE's."""
        return self.fused(np.concatenate(self.chosen(mu))[np.concatenate(self.chosen(0.0))])

    def largest(self, count: int) -> Explanation:
        """The maps whose pooled gradient is largest relative to their block's."""
        share = self.masks.gather([alpha / max(float(alpha.max()), 1e-30) for alpha in self.alphas])
        keep = np.zeros(len(share), bool)
        keep[np.argsort(-share, kind="stable")[:count]] = True
        return self.fused(keep)


def judged(
    explainer: sise_ort.Explainer, sample: Any, everything: bool, done: set[str]
) -> Iterator[dict[str, Any]]:
    """A row per variant that is not done yet."""
    known = Everything(explainer, sample)
    makers: dict[str, Callable[[], Explanation]] = {"mu 0": lambda: known.full}
    makers |= {f"mu {mu}": lambda mu=mu: known.above(mu) for mu in MUS}
    makers |= {f"largest {n}": lambda n=n: known.largest(n) for n in LARGEST}
    makers |= {
        f"passes {n}": lambda n=n: explainer.explain(sample.picture, sample.label, passes=n) for n in PASSES
    }
    makers |= {
        f"tolerance {t}": lambda t=t: explainer.explain(sample.picture, sample.label, tolerance=t)
        for t in TOLERANCES
    }
    if everything:
        makers |= {
            name: lambda given=given: explainer.explain(sample.picture, sample.label, **given)
            for name, given in OTHERS.items()
        }
    truth = sample.truth(*known.full.frame.shape[:2])
    judge = Judge(explainer.model, known.image, Question.of_class(known.full.target), truth, METRICS, STEPS)
    for variant, make in makers.items():
        if variant in done:
            continue
        result = make()
        found = judge.judge(result)
        agreement = result.facts.get("agreement")
        yield {
            "sample": sample.name,
            "variant": variant,
            "passes": sum(result.mask_counts) if result.method == "sise" else result.forward_passes - 1,
            "seconds": result.timings["total"],
            "correlation": correlation(result.heatmap, known.full.heatmap),
            "agreement": float("nan") if agreement is None else agreement,
            **{name: found[name] for name in METRICS},
        }


_worker: list[Any] = []


def open_worker(bundle: Path, threads: int, everything: bool) -> None:
    _worker[:] = [sise_ort.load(bundle, provider="cpu", threads=threads), everything]


def work(task: tuple[Any, set[str]]) -> list[dict[str, Any]]:
    sample, done = task
    return list(judged(_worker[0], sample, _worker[1], done))


def run(name: str, arguments: argparse.Namespace) -> None:
    network = NETWORKS[name]
    bundle = arguments.work / f"{name}.sise"
    if not bundle.exists():
        network.export(arguments.data, bundle, arguments.neu_weights)
    samples = network.pictures(arguments.data, arguments.work).samples
    order = np.random.default_rng(0).permutation(len(samples))[: arguments.limit]
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    with Rows(arguments.work / f"{name}.csv", COLUMNS) as rows:
        done: dict[str, set[str]] = {}
        for row in rows.all:
            done.setdefault(row["sample"], set()).add(row["variant"])
        wanted = ROWS + (len(OTHERS) if arguments.others else 0)
        left = [
            (samples[i], done.get(samples[i].name, set()))
            for i in order
            if len(done.get(samples[i].name, ())) < wanted
        ]
        pool = multiprocessing.get_context("spawn").Pool(
            arguments.workers, open_worker, (bundle, threads, arguments.others)
        )
        with pool:
            for count, found in enumerate(pool.imap_unordered(work, left), 1):
                rows.append(found)
                print(f"{name}: {count} of {len(left)}", flush=True)


def write(names: list[str], arguments: argparse.Namespace) -> None:
    """The tables of docs/budget.md, between its two marks, and its plot."""
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in names:
        path = arguments.work / f"{name}.csv"
        if path.exists():
            table: dict[str, list[dict[str, Any]]] = {}
            for row in Rows(path, COLUMNS, write=False).all:
                table.setdefault(row["variant"], []).append(row)
            tables[name] = table
    parts = [
        f"Measured on {os.cpu_count()} cores of an x86-64 machine ({processor()}), onnxruntime "
        f"{onnxruntime.__version__}, {date.today()}; insertion and deletion in {STEPS} steps, all metrics times 100. "
        "Correlation is the mean (and the median) over the pictures of Pearson's correlation with the full map; metrics "
        "are means, and in brackets their mean difference from the full map's on the same pictures with its 95 % interval.",
        "![Correlation with the full map against passes](budget.png)",
    ]
    for name, table in tables.items():
        headers = ["", "passes", "correlation", *(TITLES[metric].title for metric in METRICS)]
        parts += [
            f"### {NETWORKS[name].title} ({len(table['mu 0'])})",
            markdown_table(headers, _cells(table)),
        ]
        told = [r for v, rows in table.items() if v.startswith("passes") for r in rows if r["agreement"] < 1]
        if told:
            r = np.corrcoef([x["agreement"] for x in told], [x["correlation"] for x in told])[0, 1]
            groups = []
            for low, high in ((0.0, 0.9), (0.9, 0.95), (0.95, 0.98), (0.98, 1.0)):
                found = [x["correlation"] for x in told if low <= x["agreement"] < high]
                if found:
                    groups.append(
                        f"{low:g} to {high:g}: {np.mean(found):.3f} (lowest tenth {np.quantile(found, 0.1):.2f}, n = {len(found)})"
                    )
            parts.append(
                f"Agreement against the true correlation with the full map (r = {r:.2f}), mean by agreement: "
                + "; ".join(groups)
                + "."
            )
    page = replace_part("budget.md", "budget", parts)
    plot(tables, page.with_name("budget.png"))
    print(page)


def _cells(table: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    full = {row["sample"]: row for row in table["mu 0"]}
    rows = []
    rng = np.random.default_rng(0)
    for variant, found in table.items():
        few = f" ({len(found)} pictures)" if len(found) < len(full) else ""
        cells = [_title(variant) + few, f"{np.mean([x['passes'] for x in found]):.0f}"]
        r = [x["correlation"] for x in found]
        cells.append("1" if variant == "mu 0" else f"{np.mean(r):.3f} ({np.median(r):.3f})")
        for metric in METRICS:
            pairs = [(100 * x[metric], 100 * full[x["sample"]][metric]) for x in found]
            both = np.array([p for p in pairs if not np.isnan(p).any()])
            value = f"{both[:, 0].mean():.1f}"
            if variant != "mu 0":
                apart = both[:, 0] - both[:, 1]
                means = apart[rng.integers(0, len(apart), (2000, len(apart)))].mean(axis=1)
                low, high = np.quantile(means, [0.025, 0.975])
                value += f" ({apart.mean():+.1f}: {low:+.1f} to {high:+.1f})"
            cells.append(value)
        rows.append(cells)
    return rows


def _title(variant: str) -> str:
    kind, _, rest = variant.partition(" ")
    if variant == "mu adaptive":
        return "Ada-SISE"
    words = {
        "mu": f"SISE, μ = {rest}",
        "largest": f"largest {rest} gradients",
        "passes": f"**passes = {rest}**",
        "tolerance": f"**tolerance = {rest}**",
    }
    return words.get(kind, variant)


def plot(tables: dict[str, dict[str, list[dict[str, Any]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(5.2 * len(tables), 3.8), squeeze=False)
    curves = {
        "passes=N": ("passes", "C3", "o-"),
        "tolerance=t": ("tolerance", "C1", "*"),
        "SISE, μ": ("mu", "C0", "s--"),
        "largest gradients": ("largest", "C2", "^:"),
        "RISE": ("RISE,", "C7", "x-."),
        "Score-CAM": ("Score-CAM", "C4", "D"),
    }
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        for title, (kind, color, style) in curves.items():
            points = sorted(
                (np.mean([x["passes"] for x in rows]), np.mean([x["correlation"] for x in rows]))
                for variant, rows in table.items()
                if variant.split(" ")[0] == kind and variant != "mu 0"
            )
            points = [p for p in points if p[0] > 0]
            if points:
                axis.plot(*zip(*points, strict=True), style, color=color, label=title)
        axis.set(
            xscale="log", xlabel="passes", ylabel="correlation with the full map", title=NETWORKS[name].title
        )
        axis.grid(alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(curves), frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and rows")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    parser.add_argument("--limit", type=int, default=100, help="samples at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--others", action="store_true", help="Grad-CAM, RISE and Score-CAM, too")
    parser.add_argument("--neu-weights", type=Path)
    parser.add_argument(
        "--write", action="store_true", help="run nothing, write the tables of docs/budget.md"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = arguments.network or list(NETWORKS)
    if arguments.write:
        write(names, arguments)
        return
    for name in names:
        run(name, arguments)


if __name__ == "__main__":
    main()
