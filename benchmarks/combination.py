"""One heat map from two: SISE within 64 passes (S) and the product of LayerCAM's maps (R), by every formula tried.

    python benchmarks/combination.py ../shared/data --work combined --network squeezenet1_1 --pictures choose
    python benchmarks/combination.py ../shared/data --work combined --write      # docs/combination.md from what is there

--pictures choose: pictures with boxes that docs/results.md does not use; confirm: those that it uses; rest: all others, for
the metrics that need no box. --boxes-only judges by EBPG, mIoU and Bbox alone, which need no passes. The first command can
be stopped and started again: SISE maps with all masks lie in WORK/NETWORK/maps, values in WORK/NETWORK/rows.csv.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from paper_table import NETWORKS, ROOT, STEPS, processor
from rows import Rows

import sise_ort
from sise_ort import metrics
from sise_ort.datasets import open_dataset
from sise_ort.datasets.dataset import Sample
from sise_ort.fitting import place_back
from sise_ort.frame import read_frame
from sise_ort.readouts import Question
from sise_ort.runtime.evaluation import METRICS, Plan
from sise_ort.runtime.evaluation.judge import Judge
from sise_ort.runtime.evaluation.plan import file_key, variants
from sise_ort.runtime.evaluation.samples import select
from sise_ort.runtime.evaluation.summary import interval, markdown_table
from sise_ort.runtime.maps import upsample
from sise_ort.runtime.methods import Budget, Call, Sise
from sise_ort.runtime.methods.layer_cam import layer_cam_maps

Map = NDArray[np.float64]
PASSES = 64
BASE = "SISE, μ = 0"
SHARE = 1 / 8
"""Of the pixels that are shown to the network where a map is weighted by its answer."""
MARGIN = {"drop": 3.0, "increase": 3.0}
"""Loss, in points, that "not worse" must exclude; 1 for the other metrics."""
BOXES = [name for name, metric in METRICS.items() if metric.truth]
ORDER = [name for name, metric in METRICS.items() if not metric.truth]
"""Metrics that depend on the order of the pixels alone."""
COLUMNS = ["sample", "variant", *METRICS]
GROUPS = {
    "choose": "pictures to choose on, none of them in results.md",
    "confirm": "pictures of results.md",
    "rest": "pictures without a usable box",
}


class Maps:
    """The maps of one picture and class, each made when it is first asked for and scaled by its maximum."""

    def __init__(self, explainer: sise_ort.Explainer, frame: Any, target: int, full: Path) -> None:
        self.model, self.full, self.question = explainer.model, full, Question.of_class(target)
        fitted, self.placement = explainer.prepare(frame)
        self.image, self.size = self.model.upload(fitted), fitted.shape[:2]
        self._found: dict[Any, Map] = {}
        self._extracted: Any = None

    def sise(self, passes: int | None = PASSES) -> Map:
        """S, with so many passes; None scores all masks, once and for all."""
        if passes in self._found:
            return self._found[passes]
        if passes is None and self.full.exists():
            heat = np.load(self.full)
        else:
            method = Sise(budget=Budget(passes=passes))
            heat = method.explain(self.model, self.image, [self.question], Call()).answers[0].heatmap
            if passes is None:
                self.full.parent.mkdir(parents=True, exist_ok=True)
                part = self.full.with_suffix(".part.npy")
                np.save(part, heat)
                part.replace(self.full)
        return self._found.setdefault(passes, heat.astype(np.float64))

    def layer(self, block: int = 1) -> Map:
        """LayerCAM of a block, 1 the last."""
        if self._extracted is None:
            self._extracted = self.model.extract(self.image, [self.question], 0.0)
        key = f"layer {block}"
        if key not in self._found:
            values = layer_cam_maps(self._extracted, self.model.blocks - block, [self.question])[0]
            self._found[key] = scaled(upsample(values, self.size))
        return self._found[key]

    def layers(self, blocks: int) -> list[Map]:
        return [self.layer(b) for b in range(1, min(blocks, self.model.blocks) + 1)]

    def refine(self, blocks: int = 3) -> Map:
        """R."""
        return scaled(np.prod(self.layers(blocks), axis=0))

    def answer(self, heat: Map) -> float:
        """Ψ of the picture through the map's highest pixels: one pass."""
        mask = metrics.hard_mask(heat, SHARE).astype(np.float32)
        return float(self.model.answers([self.question], mask[None, None], self.image).psi[0, 0])

    def by_answers(self) -> Map:
        s, r = self.sise(PASSES - 2), self.refine()
        return self.answer(s) * s + self.answer(r) * r

    def best(self) -> Map:
        s, r = self.sise(PASSES - 4), self.refine()
        return max((s, r, scaled(s + r), scaled(s * r)), key=self.answer)


@dataclass(frozen=True)
class Formula:
    """reason : why it might be better than S alone. order_of : a formula with the same order of pixels."""

    make: Callable[[Maps], Map]
    reason: str
    order_of: str = ""


FORMULAS = {
    BASE: Formula(lambda m: m.sise(None), "what all others are compared with"),
    "S": Formula(lambda m: m.sise(), "64 passes, no combination"),
    "R": Formula(lambda m: m.refine(), "`refine` with blocks=3, no pass"),
    "S²": Formula(lambda m: m.sise() ** 2, "a control: squares alone raise EBPG and change no order", "S"),
    "LayerCAM": Formula(lambda m: m.layer(), "`layercam`, no pass"),
    "R of 2 blocks": Formula(lambda m: m.refine(2), "fewer blocks"),
    "R of 4 blocks": Formula(lambda m: m.refine(4), "`refine` as it is by default"),
    "R of 5 blocks": Formula(lambda m: m.refine(5), "all blocks of these networks"),
    "S · R": Formula(lambda m: m.sise() * m.refine(), "high where both witnesses agree"),
    "√(S · R)": Formula(
        lambda m: np.sqrt(m.sise() * m.refine()), "geometric mean: the order of S · R", "S · R"
    ),
    "S · √R": Formula(lambda m: m.sise() * np.sqrt(m.refine()), "a product that S leads"),
    "S · mean LayerCAM": Formula(
        lambda m: m.sise() * np.mean(m.layers(3), axis=0), "three blocks as one witness"
    ),
    "S + R": Formula(lambda m: m.sise() + m.refine(), "one witness is enough; orders what S leaves at 0"),
    "(S + R)²": Formula(
        lambda m: (m.sise() + m.refine()) ** 2, "S² + R² + 2 S·R, sum and product at once", "S + R"
    ),
    "(S + R) · LayerCAM": Formula(
        lambda m: (m.sise() + m.refine()) * m.layer(), "the sum, where the last block agrees"
    ),
    "1 - (1 - S)(1 - R)": Formula(
        lambda m: 1 - (1 - m.sise()) * (1 - m.refine()), "noisy-or of two witnesses"
    ),
    "rank S + rank R": Formula(
        lambda m: ranks(m.sise()) + ranks(m.refine()), "free of the maps' scales; EBPG means nothing"
    ),
    "S + R, 32 passes": Formula(lambda m: m.sise(32) + m.refine(), "half of the passes"),
    "S + R, 16 passes": Formula(lambda m: m.sise(16) + m.refine(), "a quarter of the passes"),
    "Ψ_S S + Ψ_R R": Formula(
        Maps.by_answers, "SISE's own principle: maps weigh what the network answers through them"
    ),
    "(Ψ_S S + Ψ_R R)²": Formula(
        lambda m: m.by_answers() ** 2, "the same, sum and product at once", "Ψ_S S + Ψ_R R"
    ),
    "best of S, R, S + R, S · R": Formula(
        Maps.best, "the map through which the network is surest; Drop asks nearly the same"
    ),
}


def scaled(heat: Map) -> Map:
    """Divided by the maximum, where there is one."""
    peak = float(heat.max())
    return heat / peak if peak > 0 else heat


def ranks(heat: Map) -> Map:
    """Share of pixels that lie lower, plus half of those equally high."""
    _, place, count = np.unique(heat, return_inverse=True, return_counts=True)
    return ((np.cumsum(count) - count / 2) / heat.size)[place].reshape(heat.shape)


def samples(name: str, arguments: Any, explainer: sise_ort.Explainer) -> dict[str, list[Sample]]:
    """The pictures of each group, with the index of their class, in an order that leaves no class to the end."""
    network = NETWORKS[name]
    dataset = network.pictures(arguments.data, arguments.work)
    plan = Plan(str(arguments.work / f"{name}.sise"), variants(("sise",)), provider="cpu")
    boxed = select(explainer, plan, dataset, None, 0).samples
    boxed = [boxed[i] for i in np.random.default_rng(0).permutation(len(boxed))]
    every = select(explainer, plan, open_dataset("imagenet", dataset.root), None, 0).samples
    known = {s.name for s in boxed}
    return {
        "choose": boxed[network.limit :],
        "confirm": boxed[: network.limit],
        "rest": [replace(s, regions=()) for s in every if s.name not in known],
    }


def opened(name: str, arguments: Any) -> sise_ort.Explainer:
    bundle = arguments.work / f"{name}.sise"
    if not bundle.exists():
        NETWORKS[name].export(arguments.data, bundle, arguments.neu_weights)
    return sise_ort.load(bundle, provider="cpu", threads=arguments.threads, batch_size=arguments.batch_size)


def run(name: str, arguments: Any) -> None:
    """Judge what has no row yet."""
    explainer = opened(name, arguments)
    everything = samples(name, arguments, explainer)[arguments.pictures][: arguments.limit]
    with Rows(arguments.work / name / "rows.csv", COLUMNS) as rows:
        for number, sample in enumerate(everything, 1):
            judge_picture(explainer, sample, rows, arguments, arguments.work / name / "maps")
            print(f"{name}: {number} of {len(everything)}", flush=True)


def judge_picture(
    explainer: sise_ort.Explainer, sample: Sample, rows: Rows, arguments: Any, folder: Path
) -> None:
    asked = BOXES if arguments.boxes_only else list(METRICS)
    have = {row["variant"]: row for row in rows.all if row["sample"] == sample.name}
    wanted = [BASE, *(f for f in arguments.formulas if f != BASE)]
    todo = [
        f for f in wanted if f not in have or (set(asked) > set(BOXES) and math.isnan(have[f]["deletion"]))
    ]
    if not todo:
        return
    frame = read_frame(sample.picture)
    assert isinstance(sample.label, int)
    maps = Maps(explainer, frame, sample.label, folder / f"{file_key(sample.name)}.npy")
    truth = sample.truth(*frame.shape[:2]) if sample.regions else None

    for name in todo:
        formula = FORMULAS[name]
        like = have.get(formula.order_of)
        values = dict.fromkeys(METRICS, math.nan)
        if like is not None and not math.isnan(like["deletion"]) and not arguments.boxes_only:
            values |= {m: like[m] for m in ORDER} | judged(maps, formula.make(maps), truth, BOXES)
        else:
            values |= judged(maps, formula.make(maps), truth, asked)
        row = {"sample": sample.name, "variant": name, **{m: values[m] for m in METRICS}}
        rows.append([row])
        have[name] = row


def judged(maps: Maps, heat: Map, truth: Any, names: Sequence[str]) -> dict[str, float]:
    """A map's values in these metrics."""
    judge = Judge(maps.model, maps.image, maps.question, truth, names, STEPS)
    own = scaled(heat).astype(np.float32)
    result: Any = SimpleNamespace(heatmap=own, frame_heatmap=place_back(own, maps.placement))
    return judge.judge(result)


def verdict(low: float, high: float, metric: str) -> str:
    """What an interval of a paired difference says, gains being positive."""
    margin = MARGIN.get(metric, 1.0)
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "not worse" if low > -margin else "undecided"


def table(
    rows: Sequence[dict[str, Any]],
    names: Sequence[str],
    formulas: Sequence[str] = tuple(FORMULAS),
    first: str = BASE,
) -> str:
    """Means of the first map, and the others' differences from it on the same pictures."""
    values: dict[str, dict[str, dict[str, Any]]] = {}
    wanted = set(names)
    for row in rows:
        if row["sample"] in wanted:
            values.setdefault(row["variant"], {})[row["sample"]] = row
    base = values.get(first, {})
    lines = []
    for formula in formulas:
        own = {n: row for n, row in values.get(formula, {}).items() if n in base}
        if not own:
            continue
        cells, found = [], []
        for metric in METRICS:
            less = {n: 0.0 if formula == first else base[n][metric] for n in own}
            column = np.array([100 * (row[metric] - less[n]) for n, row in own.items()])
            value = interval(column, len(column))
            cells.append(str(value))
            if formula != first and value.n:
                low, high = (value.low, value.high) if METRICS[metric].higher else (-value.high, -value.low)
                found.append(verdict(low, high, metric))
        words = ", ".join(f"{found.count(w)} {w}" for w in dict.fromkeys(found))
        lines.append([formula, str(len(own)), *cells, words or "–"])
    return markdown_table(["map", "n", *(METRICS[m].title for m in METRICS), "metrics"], lines)


def page(arguments: Any) -> str:
    """docs/combination.md."""
    parts = [
        "# One map from two: SISE and the product of LayerCAM maps",
        "Written by `benchmarks/combination.py`, which anyone can run and carry on. S is SISE (μ = 0) within 64 passes "
        "([budget.md](budget.md)), R the product of LayerCAM's maps over the last three blocks (`refine` with `blocks=3`, no "
        "pass: [methods.md](methods.md)); both have their maximum at 1. They err differently, so the question was whether one "
        f"formula of the two, with {PASSES} passes or fewer, is better than SISE with all its masks (960 passes on "
        "MobileNetV2) in four metrics of seven, and not worse in the others.",
        "First rows: means of SISE with all masks, in per cent; all others: paired differences from it on the same n pictures, "
        "with 95 % bootstrap intervals (for Drop % and Deletion, less is better). *Better* and *worse* leave out 0; *not "
        "worse* excludes a loss of 1 point (3 in Drop % and Increase %); anything else is *undecided*. Formulas were to be "
        f"chosen on pictures that [results.md](results.md) does not use. Insertion and deletion take {STEPS} steps. "
        f"{os.cpu_count()} cores of an x86-64 machine ({processor()}), onnxruntime {onnxruntime.__version__}, {date.today()}.",
        markdown_table(["map", "why"], [[name, f.reason] for name, f in FORMULAS.items()], False),
        READING.strip(),
    ]
    for name in NETWORKS:
        if not (arguments.work / name / "rows.csv").exists():
            continue
        groups = samples(name, arguments, opened(name, arguments))
        with Rows(arguments.work / name / "rows.csv", COLUMNS, write=False) as rows:
            for group, members in groups.items():
                names = [s.name for s in members]
                done = {row["sample"] for row in rows.all} & set(names)
                if done:
                    words = f"{len(done)} of {len(names)} {GROUPS[group]}"
                    parts += [f"## {NETWORKS[name].title}: {words}", table(rows.all, names)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles, maps and rows")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    parser.add_argument("--pictures", choices=list(GROUPS), default="choose")
    parser.add_argument("--formulas", type=lambda text: text.split("|"), default=list(FORMULAS), help="A|B|…")
    parser.add_argument("--boxes-only", action="store_true", help="EBPG, mIoU and Bbox alone")
    parser.add_argument("--limit", type=int, help="pictures at most")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--neu-weights", type=Path)
    parser.add_argument("--write", action="store_true", help="run nothing, write docs/combination.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.write:
        (ROOT / "docs" / "combination.md").write_text(page(arguments), encoding="utf-8")
        return
    for name in arguments.network or list(NETWORKS):
        run(name, arguments)


READING = """
## What was found

**No formula is proven, and one is left to be decided: (Ψ_S S + Ψ_R R)².** It was chosen on the pictures that results.md does
not use, before it was run on any other. S takes 62 passes; two more ask the network what it answers to the picture through
the highest eighth of the pixels of S and of R, and these answers are the maps' weights. The reason is SISE's own: a mask
weighs what the network answers through it. R orders the two thirds of the pixels that S leaves near 0, the answers say which
of the two to trust on this picture, and the square favours places where both are high.

- *SqueezeNet:* better in EBPG, mIoU, Bbox and insertion, on either group of pictures, and not worse in Drop and deletion;
  Increase is not worse on the pictures to choose on, and misses that by a point on those of results.md.
- *MobileNetV2:* better in EBPG, mIoU and Bbox on either group, not worse in deletion; insertion is undecided on either. Drop
  and Increase are undecided on 45 pictures to choose on; on 20 of results.md Drop is better and Increase not worse.
- *ResNet-18 on steel:* on 24 pictures Drop is better, EBPG not worse, and all else undecided. R alone is worse than SISE
  there in deletion, and behind it in EBPG, mIoU and Bbox; a sum with R does not lead in four metrics there.

So it has neither a name nor a place among the methods. What is left: SISE maps of more pictures, above all in Drop and
Increase, whose values are near 0 or 1 on each picture. (On MobileNetV2, S alone has a Drop of +4 on the pictures to choose on
and of -11 on 20 others; both are chance.) An interval of a few pictures that are all equal, such as 0.0 [0.0, 0.0], proves
nothing either.

**EBPG depends on how steep a map is.** Squaring changes the order of no two pixels, but raises EBPG: S² alone is ahead of
SISE by up to nine points. Gains in EBPG alone are therefore no gain of knowledge; mIoU and Bbox see the order alone.

**Sums and products.** Products (S · R, S · √R, the geometric mean, S · mean LayerCAM) leave S's zeros at 0: they win EBPG, and
on SqueezeNet little else. Sums (S + R, noisy-or, sums of ranks) win mIoU, Bbox and insertion there, too, since R orders
those zeros. Choosing one map by the network's answers (the best of four) is no better than weighing two with them, and Drop
is then no independent witness; other shares of pixels, their mean, soft masks and up to seven maps to choose from were looked
at on the pictures to choose on, and dropped. With 32 or 16 passes S + R loses EBPG and mIoU on MobileNetV2 and next to nothing on SqueezeNet.

**LayerCAM and Refine alone.** LayerCAM of the last block is as wide as Grad-CAM: 18 to 24 points behind SISE in EBPG. R is
level with SISE or ahead of it in EBPG, mIoU and Bbox on the two ImageNet networks, for no pass at all, but not on steel, and
behind in Drop on SqueezeNet. Two blocks lose EBPG. Four gain five points of it over three on the
pictures to choose on, and on SqueezeNet also insertion and deletion, and cost next to nothing in mIoU and Bbox; a fifth gains
little. So four is the default of `refine`, while R above has three.
"""


if __name__ == "__main__":
    main()
