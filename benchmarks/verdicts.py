"""How well the checks of docs/trust.md tell maps that miss the object from maps that hit it.

    nice -n 10 python benchmarks/verdicts.py ../shared/data --work verdicts
    python benchmarks/verdicts.py ../shared/data --work verdicts --write      # the tables of docs/trust.md

A map hits where its highest pixel lies in the truth: a box of the picture's class (pictures whose boxes take less than half),
or the drawn defect of a steel strip. Explained is the class that is there. Maps are SISE's (all masks; on strips 32 passes),
Grad-CAM's, and, as misses of usual looks, SISE's map of the next picture put on this one. Every second picture is held out: limits are chosen on
the others. Can be stopped and started again: numbers lie in WORK/NETWORK.csv, SISE's maps in WORK/NETWORK.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pages import replace_part
from paper_table import NETWORKS, processor
from rows import Rows

import sise_ort
from sise_ort.fitting import place_back
from sise_ort.frame import read_frame
from sise_ort.metrics import correlation, energy_pointing_game
from sise_ort.runtime.checking import WITHOUT_PASSES, hidden_and_kept, runner_up
from sise_ort.runtime.evaluation import Plan
from sise_ort.runtime.evaluation.plan import file_key, variants
from sise_ort.runtime.evaluation.samples import select
from sise_ort.runtime.evaluation.summary import markdown_table
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Attribution
from sise_ort.verdicts import CHECKS, border_share, hot_share, verdict_of

ROOT = Path(__file__).resolve().parents[1]
STRIPS = "steel_strips"
TITLES = {
    **{name: NETWORKS[name].title for name in ("squeezenet1_1", "mobilenet_v2")},
    STRIPS: "The demo's network, drawn strips",
}
STRIP_PASSES = 32
FOREIGN = "of the next picture"
MAPS = {"sise": "SISE", "gradcam": "Grad-CAM", FOREIGN: "SISE's map of the next picture"}
NUMBERS = ("drop", "keep", "contrast", "contrast of two", "agreement", "hot", "border")
Parts = dict[str, list[dict[str, Any]]]
COLUMNS = ("sample", "variant", "hit", "ebpg", "share", "confidence", *NUMBERS)
GOOD_IS_LESS = ("contrast", "contrast of two", "hot", "border")
"""Checks of which a sound map should have little."""


@dataclass(frozen=True)
class Item:
    """A picture, its class, and where the object is, at the picture's own size."""

    name: str
    frame: Any
    label: int
    truth: NDArray[np.bool_]


def photographs(name: str, explainer: sise_ort.Explainer, arguments: Any) -> Iterator[Item]:
    """Pictures of ImageNet with boxes, in an order of chance."""
    dataset = NETWORKS[name].pictures(arguments.data, arguments.work)
    plan = Plan(str(arguments.work / f"{name}.sise"), variants(("sise",)), provider="cpu")
    every = select(explainer, plan, dataset, None, 0).samples
    for i in np.random.default_rng(0).permutation(len(every))[: arguments.limit]:
        frame, sample = read_frame(every[i].picture), every[i]
        assert isinstance(sample.label, int)
        yield Item(sample.name, frame, sample.label, sample.truth(*frame.shape[:2]))


def strips(explainer: sise_ort.Explainer, arguments: Any) -> Iterator[Item]:
    """Strips with one or two defects that the demo's generator draws; each defect is an item."""
    sys.path.insert(0, str(ROOT / "examples" / "steel"))
    from strips import CLASSES, draw_strip

    rng = np.random.default_rng(7)
    for number in range(arguments.limit):
        kinds = [str(kind) for kind in rng.choice(CLASSES, size=1 + number % 2, replace=False)]
        strip, masks = draw_strip(kinds, rng)
        for kind, mask in zip(kinds, masks, strict=True):
            label = explainer.manifest.labels.index(kind)
            yield Item(f"{number}-{kind}", strip[:, :, None], label, mask)


def opened(name: str, arguments: Any) -> sise_ort.Explainer:
    bundle = arguments.work / f"{name}.sise"
    if not bundle.exists() and name == STRIPS:
        from sise_ort.cli.demo import MEAN, STD, STEEL

        sise_ort.export(STEEL / "steel.onnx", bundle, mean=MEAN, std=STD, labels=STEEL / "labels.txt")
    elif not bundle.exists():
        NETWORKS[name].export(arguments.data, bundle, None)
    return sise_ort.load(bundle, provider="cpu", threads=arguments.threads)


def run(name: str, arguments: Any) -> None:
    """Measure what has no rows yet."""
    explainer = opened(name, arguments)
    items = list(strips(explainer, arguments) if name == STRIPS else photographs(name, explainer, arguments))
    with Rows(arguments.work / f"{name}.csv", COLUMNS) as rows:
        done = {row["sample"] for row in rows.all}
        for number, item in enumerate(items):
            if item.name not in done:
                other = items[(number + 1) % len(items)]
                rows.append(measured(explainer, item, other, arguments.work / name))
                print(f"{name}: {number + 1} of {len(items)}", flush=True)


def sise_map(explainer: sise_ort.Explainer, item: Item, folder: Path) -> tuple[Any, float]:
    """SISE's map and its agreement, computed once and for all."""
    path = folder / f"{file_key(item.name)}.npz"
    if not path.exists():
        passes = STRIP_PASSES if folder.name == STRIPS else None
        found = explainer.explain(item.frame, item.label, passes=passes)
        agreement = found.facts.get("agreement")
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, heat=found.heatmap, agreement=math.nan if agreement is None else agreement)
        part.replace(path)
    with np.load(path) as kept:
        return kept["heat"], float(kept["agreement"])


def measured(explainer: sise_ort.Explainer, item: Item, other: Item, folder: Path) -> list[dict[str, Any]]:
    """A row for each map of a picture."""
    gradcam = explainer.explain(item.frame, item.label, method="gradcam")
    maps = {"sise": sise_map(explainer, item, folder), "gradcam": (gradcam.heatmap, math.nan)}
    maps[FOREIGN] = sise_map(explainer, other, folder)
    model, confidence = explainer.model, gradcam.confidence
    question, image = explainer.ask(item.frame, item.label)
    rival = runner_up(explainer.manifest, question, gradcam.scores)
    assert rival is not None
    own, others = (a.heatmap for a in WITHOUT_PASSES.explain(model, image, [question, rival], Call()).answers)
    rows = []
    for name, (heat, agreement) in maps.items():
        if not heat.any():
            continue
        whole = place_back(heat, gradcam.placement)
        shares = hidden_and_kept(model, image, Attribution(question, heat), confidence)
        rows.append(
            {
                "sample": item.name,
                "variant": name,
                "hit": float(item.truth[whole == whole.max()].mean()),
                "ebpg": energy_pointing_game(whole, item.truth),
                "share": float(item.truth.mean()),
                "confidence": confidence,
                **{key: math.nan if value is None else value for key, value in shares.items()},
                "contrast": correlation(heat, others),
                "contrast of two": correlation(own, others),
                "agreement": agreement,
                "hot": hot_share(heat),
                "border": border_share(heat),
            }
        )
    return rows


def area(values: Sequence[float], hits: Sequence[bool]) -> float:
    """Chance that a hit has the higher value of a hit and a miss; half where they are equal (area under the ROC curve)."""
    v, h = np.asarray(values, float), np.asarray(hits, bool)
    v, h = v[np.isfinite(v)], h[np.isfinite(v)]
    if h.all() or not h.any():
        return math.nan
    return float((np.sign(v[h][:, None] - v[~h][None]) / 2 + 0.5).mean())


def signed(name: str, values: Any) -> Any:
    return [-v for v in values] if name in GOOD_IS_LESS else values


def hit(row: dict[str, Any]) -> bool:
    return bool(row["hit"] >= 0.5)


def groups(rows: Sequence[dict[str, Any]]) -> Parts:
    """To choose on, and held out: pictures in turn."""
    names = list(dict.fromkeys(row["sample"] for row in rows))
    chosen = set(names[::2])
    return {
        "to choose on": [r for r in rows if r["sample"] in chosen],
        "held out": [r for r in rows if r["sample"] not in chosen],
    }


def areas(parts: Parts) -> str:
    """The table of areas: a row for each check, a column for each map and group of pictures."""
    sets = {
        "own maps": ("sise", "gradcam"),
        "with maps of the next picture": ("sise", "gradcam", FOREIGN),
    }
    head, lines = ["check"], [[name] for name in (*NUMBERS, "confidence")]
    for words, among in sets.items():
        for group, every in parts.items():
            own = [r for r in every if r["variant"] in among]
            hits = [hit(r) for r in own]
            head.append(f"{words}, {group} ({sum(hits)} hit, {len(hits) - sum(hits)} miss)")
            for line in lines:
                value = area(signed(line[0], [r[line[0]] for r in own]), hits)
                line.append("–" if math.isnan(value) else f"{value:.2f}")
    return markdown_table(head, lines)


def limits(parts: Parts) -> str:
    """What each limit does on pictures held out, and the limit that tells best on the others (Youden's index)."""
    lines = []
    for name, check in CHECKS.items():
        if name not in NUMBERS:
            continue
        chosen = [
            (signed(name, [r[name]])[0], hit(r)) for r in parts["to choose on"] if math.isfinite(r[name])
        ]
        own = [r for r in parts["held out"] if math.isfinite(r[name])]
        hits, misses = [r for r in own if hit(r)], [r for r in own if not hit(r)]
        if not chosen or not hits or not misses:
            continue
        best = max((v for v, _ in chosen), key=lambda v: youden(chosen, v))
        judges = check.least is not None or check.most is not None
        caught = sum(check.holds(r[name]) is False for r in misses) / len(misses)
        doubted = sum(check.holds(r[name]) is False for r in hits) / len(hits)
        limit = (
            f"at least {check.least:g}"
            if check.least is not None
            else f"at most {check.most:g}"
            if judges
            else "–"
        )
        lines.append(
            [name, f"{abs(best):.2g}", limit, *((f"{100 * caught:.0f} %", f"{100 * doubted:.0f} %") if judges else ("–", "–"))]
        )  # fmt: skip
    return markdown_table(["check", "best limit", "limit taken", "misses doubted", "hits doubted"], lines)


def youden(values: Sequence[tuple[float, bool]], limit: float) -> float:
    """Share of hits at or over a limit, less that of misses."""
    hits, misses = [v for v, h in values if h], [v for v, h in values if not h]
    return sum(v >= limit for v in hits) / max(len(hits), 1) - sum(v >= limit for v in misses) / max(
        len(misses), 1
    )


def verdicts(parts: Parts) -> str:
    """How often maps of each verdict hit, on pictures held out."""
    held, lines = parts["held out"], []
    for variant, words in MAPS.items():
        own = [r for r in held if r["variant"] == variant]
        line = [words, str(len(own))]
        for trust in ("sound", "weak", "none"):
            some = [
                r
                for r in own
                if verdict_of({k: None if math.isnan(r[k]) else r[k] for k in CHECKS if k in r}).trust
                == trust
            ]
            line.append(f"{sum(map(hit, some))} of {len(some)}" if some else "–")
        lines.append(line)
    return markdown_table(["maps", "n", "sound: hit", "weak: hit", "none: hit"], lines)


def write(arguments: Any) -> None:
    """The tables of docs/trust.md."""
    parts = [
        f"{os.cpu_count()} cores of an x86-64 machine ({processor()}), onnxruntime "
        f"{onnxruntime.__version__}, {date.today()}."
    ]
    found = {}
    for name, title in TITLES.items():
        path = arguments.work / f"{name}.csv"
        if path.exists():
            found[title] = groups(Rows(path, COLUMNS, write=False).all)
    together = [found[TITLES[name]] for name in TITLES if name != STRIPS and TITLES[name] in found]
    both = {group: [row for one in together for row in one[group]] for group in ("to choose on", "held out")}
    for title, each in {"Both ImageNet networks together": both, **found}.items():
        parts += [f"### {title}", areas(each), limits(each), verdicts(each)]
    print(replace_part("trust.md", "verdicts", parts) if arguments.write else "\n\n".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and rows")
    parser.add_argument("--network", action="append", choices=list(TITLES))
    parser.add_argument("--limit", type=int, default=200, help="pictures at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="run nothing, write the tables of docs/trust.md")
    parser.add_argument("--show", action="store_true", help="run nothing, print the tables")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.write or arguments.show:
        write(arguments)
        return
    for name in arguments.network or list(TITLES):
        run(name, arguments)


if __name__ == "__main__":
    main()
