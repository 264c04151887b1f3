"""Which map answers a budget that allows no pass: pooled gradients as SISE's weights (α), or `refine`'s map.

    python benchmarks/no_pass.py ../shared/data --work no_pass
    python benchmarks/no_pass.py ../shared/data --work no_pass --write      # the tables of docs/budget.md

Networks and pictures are those of paper_table.py, 100 pictures each. Can be stopped and started again: values lie in
WORK/NETWORK.csv. `refine` takes the gradient of the logit; its map from the gradient that SISE has already, whose seed is
e_c - q on a softmax head, is judged beside it, since it costs no second backward pass.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from combination import COLUMNS, Map, Maps, judged, opened, table
from pages import replace_part
from paper_table import NETWORKS, STEPS, processor
from rows import Rows

from sise_ort.frame import read_frame
from sise_ort.runtime.evaluation import METRICS, Plan
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.samples import select
from sise_ort.runtime.methods.refine import Refine, refined
from sise_ort.runtime.methods.selection import Selection

ALPHA = "α map"


def alpha_map(maps: Maps) -> Map:
    """SISE's fusion with the pooled gradients as weights."""
    selection = Selection(maps.model, maps.image, [maps.question], 0.0)
    masks = selection.masks
    alphas = np.where(masks.chosen, masks.gather(selection.alphas, axis=1), 0.0).astype(np.float64)
    weights = masks.weights(alphas, np.ones(alphas.shape[1]))
    return maps.model.fuse(selection.extracted.features, weights)[1][0].astype(np.float64)


def refine_map(maps: Maps, contrast: float) -> Map:
    """`refine` with its default of blocks; contrast 0 is its own seed."""
    extracted = maps.model.extract(maps.image, [maps.question], contrast)
    return refined(maps.model, extracted, [maps.question], Refine().blocks)[0][0].astype(np.float64)


MAPS: dict[str, Callable[[Maps], Map]] = {
    ALPHA: alpha_map,
    "Refine": lambda maps: refine_map(maps, 0.0),
    "Refine, SISE's gradient": lambda maps: refine_map(maps, maps.model.manifest.contrast),
}


def run(name: str, arguments: Any) -> None:
    explainer = opened(name, arguments)
    dataset = NETWORKS[name].pictures(arguments.data, arguments.work)
    plan = Plan(str(arguments.work / f"{name}.sise"), variants(("sise",)), provider="cpu")
    every = select(explainer, plan, dataset, None, 0).samples
    samples = [every[i] for i in np.random.default_rng(0).permutation(len(every))[: arguments.limit]]
    with Rows(arguments.work / f"{name}.csv", COLUMNS) as rows:
        done = {(row["sample"], row["variant"]) for row in rows.all}
        for number, sample in enumerate(samples, 1):
            todo = [variant for variant in MAPS if (sample.name, variant) not in done]
            if not todo:
                continue
            frame = read_frame(sample.picture)
            assert isinstance(sample.label, int)
            maps = Maps(explainer, frame, sample.label, Path())
            truth = sample.truth(*frame.shape[:2])
            found = {variant: judged(maps, MAPS[variant](maps), truth, list(METRICS)) for variant in todo}
            rows.append([{"sample": sample.name, "variant": v, **values} for v, values in found.items()])
            print(f"{name}: {number} of {len(samples)}", flush=True)


def write(arguments: Any) -> None:
    """The tables of docs/budget.md."""
    parts = [
        "First rows: means in per cent; the others: paired differences from them on the same pictures, with 95 % bootstrap "
        "intervals (for Drop % and Deletion, less is better). *Better* and *worse* leave out 0; *not worse* excludes a loss of "
        "1 point (3 in Drop % and Increase %). *Refine* is the method of that name; *SISE's gradient* is its map from the "
        f"gradient that SISE takes, e_c - q on a softmax head. Insertion and deletion in {STEPS} steps; "
        f"{os.cpu_count()} cores of an x86-64 machine ({processor()}), onnxruntime {onnxruntime.__version__}, {date.today()}.",
    ]
    for name, network in NETWORKS.items():
        path = arguments.work / f"{name}.csv"
        if path.exists():
            rows = Rows(path, COLUMNS, write=False).all
            parts += [f"### {network.title}", table(rows, [row["sample"] for row in rows], list(MAPS), ALPHA)]
    print(replace_part("budget.md", "no_pass", parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and rows")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    parser.add_argument("--limit", type=int, default=100, help="pictures at most")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--neu-weights", type=Path)
    parser.add_argument(
        "--write", action="store_true", help="run nothing, write the tables of docs/budget.md"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.write:
        write(arguments)
        return
    for name in arguments.network or list(NETWORKS):
        run(name, arguments)


if __name__ == "__main__":
    main()
