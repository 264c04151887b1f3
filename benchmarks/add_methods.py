"""Rows of further methods in the tables of docs/results.md, without running the others again.

    python benchmarks/add_methods.py ../shared/data --work table --methods layercam,refine           # their values
    python benchmarks/add_methods.py ../shared/data --work table --methods layercam,refine --time    # their times
    python benchmarks/add_methods.py ../shared/data --work table --methods layercam,refine --write   # into the page

Differences are from SISE (μ = 0) on the same pictures: it is run as well, or --sise takes its values from combination.py's
folder. --time makes the seconds independent of what else the machine does: Grad-CAM and the method explain each picture in
turn, in one process, and --write gives Grad-CAM's seconds in the page times the median ratio. Without it, seconds are those
of the first command. All can be stopped and started again.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from paper_table import NETWORKS, PAGE, run
from rows import Rows

import sise_ort
from sise_ort.frame import read_frame
from sise_ort.runtime.evaluation import METRICS, Evaluation, Plan, Summary, summarise
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.samples import select

NOT_YET = re.compile(r" The tables? (?:of .+? )?lacks? LayerCAM and Refine so far; that page judges them\.")
BY_RATIO = (
    " Seconds of LayerCAM and Refine are Grad-CAM's, times the median ratio of both methods' times on the same pictures, "
    "measured in turn in one process."
)
SAME = "differences are always between the same pictures."
REFERENCE = "gradcam"
"""The method whose seconds others are measured against."""
RATIOS = ("sample", "variant", "ratio")
SISE_ROW = "SISE, μ = 0"
"""What combination.py calls SISE with all masks."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and rows")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    parser.add_argument("--methods", required=True, type=lambda text: tuple(text.split(",")))
    parser.add_argument("--sise", type=Path, help="combination.py's folder, with SISE's values")
    parser.add_argument("--limit", type=int, help="samples at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--neu-weights", type=Path)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--time", action="store_true", help="measure times beside Grad-CAM's")
    what.add_argument("--write", action="store_true", help="run nothing, write the rows into docs/results.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = arguments.network or list(NETWORKS)
    if arguments.write:
        write(names, arguments)
        return
    for name in names:
        if arguments.time:
            measure_ratios(name, arguments)
        else:
            values(name, arguments, only_report=False)


def values(name: str, arguments: Any, only_report: bool) -> Evaluation:
    """The methods' rows, after SISE's."""
    methods = arguments.methods if arguments.sise else ("sise", *arguments.methods)
    limit = arguments.limit or NETWORKS[name].limit
    found = run(name, arguments, methods=methods, mus=(0.0,), limit=limit, only_report=only_report)
    return beside_sise(found, arguments.sise / name / "rows.csv") if arguments.sise else found


def write(names: list[str], arguments: Any) -> None:
    """Rows of further methods in the tables of docs/results.md as they stand."""
    page = PAGE.read_text(encoding="utf-8")
    for name in names:
        if not (arguments.work / name).exists():
            continue
        evaluation = values(name, arguments, only_report=True)
        page = with_rows(page, NETWORKS[name].title, summarise(evaluation), ratios(name, arguments))
        if ratios(name, arguments):
            page = page.replace(SAME, SAME + BY_RATIO, 1) if BY_RATIO not in page else page
    page = NOT_YET.sub("", page)
    lacking = [n.title for n in NETWORKS.values() if "| LayerCAM |" not in section_of(page, n.title)[1]]
    if lacking:
        words = (
            "table of " + lacking[0] + " lacks"
            if len(lacking) == 1
            else "tables of " + " and ".join(lacking) + " lack"
        )
        link = "[combination.md](combination.md)."
        page = page.replace(link, f"{link} The {words} LayerCAM and Refine so far; that page judges them.", 1)
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


def beside_sise(evaluation: Evaluation, path: Path) -> Evaluation:
    """The evaluation with SISE's values (μ = 0) from combination.py's rows before it."""
    (sise,) = variants(("sise",), (0.0,))
    names = {sample.name for sample in evaluation.samples}
    unknown = {"forward_passes": math.nan, "backward_passes": math.nan, "seconds": math.nan}
    known = {
        r["sample"]: r
        for r in Rows(path, ("sample", "variant", *METRICS), write=False).all
        if r["variant"] == SISE_ROW
    }
    rows = [{**unknown, **row, "variant": sise.name} for name, row in known.items() if name in names]
    plan = replace(evaluation.plan, variants=(sise, *evaluation.plan.variants))
    return replace(evaluation, plan=plan, rows=[*rows, *evaluation.rows])


def measure_ratios(name: str, arguments: Any) -> None:
    """Explain pictures by each method and by Grad-CAM in turn; the times' ratio of every picture is kept."""
    explainer = sise_ort.load(arguments.work / f"{name}.sise", provider="cpu", threads=1)
    plan = Plan(str(arguments.work / f"{name}.sise"), variants((REFERENCE,)), provider="cpu")
    dataset = NETWORKS[name].pictures(arguments.data, arguments.work)
    chosen = select(explainer, plan, dataset, arguments.limit or NETWORKS[name].limit, 0).samples

    def seconds_of(method: str, sample: Any) -> float:
        began = time.perf_counter()
        explainer.explain(frame, sample.label, method=method)
        return time.perf_counter() - began

    with Rows(arguments.work / f"{name}.ratios.csv", RATIOS) as rows:
        done = {(row["sample"], row["variant"]) for row in rows.all}
        for number, sample in enumerate(chosen):
            frame = read_frame(sample.picture)
            for method in (m for m in arguments.methods if (sample.name, m) not in done):
                both = {method: math.inf, REFERENCE: math.inf}
                for turn in range(4):  # the first one warms up; the least of three, in changing order
                    for one in list(both)[:: 1 if (turn + number) % 2 else -1]:
                        taken = seconds_of(one, sample)
                        both[one] = min(both[one], taken) if turn else math.inf
                rows.append(
                    [{"sample": sample.name, "variant": method, "ratio": both[method] / both[REFERENCE]}]
                )
            print(f"{name}: {number + 1} of {len(chosen)}", flush=True)


def ratios(name: str, arguments: Any) -> dict[str, float]:
    """Median over pictures of each method's time as a share of Grad-CAM's, where it was measured."""
    path, found = arguments.work / f"{name}.ratios.csv", {}
    if path.exists():
        rows = Rows(path, RATIOS, write=False).all
        for method in {row["variant"] for row in rows}:
            found[method] = float(np.median([row["ratio"] for row in rows if row["variant"] == method]))
    return found


def section_of(page: str, title: str) -> tuple[str, str, str]:
    """What stands before a network's section, the section, and what stands behind it."""
    before, heading, rest = page.partition(f"## {title}\n")
    if not heading:
        raise SystemExit(f"docs/results.md has no section '{title}'")
    section, mark, after = rest.partition("\n## ")
    return before + heading, section, mark + after


def with_rows(page: str, title: str, summary: Summary, shares: dict[str, float]) -> str:
    """The page with a summary's methods at the end of the two tables of a network, in the place of older rows.

    The summary's first method is SISE with all masks on the same pictures. Its row in the page stays, and must say the same
    where it has as many pictures: a network that was trained again is another network. Seconds of methods with a share are
    Grad-CAM's of the page, times it.
    """
    before, section, after = section_of(page, title)
    parts = section.split("\n\n")
    tables = [i for i, part in enumerate(parts) if part.strip().startswith("|")][:2]
    base = summary.lines[0]
    old = {
        line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")
        for line in parts[tables[0]].splitlines()
    }
    means = [float(cell.split(" [")[0]) for cell in old[base.title][2 : 2 + len(summary.metrics)]]
    apart = [abs(base.metrics[m].mean - mean) for m, mean in zip(summary.metrics, means, strict=True)]
    if base.n == int(old[base.title][1]) and max(apart) > 0.5:
        raise SystemExit(
            f"{title}: {base.title} differs from its row in docs/results.md; run the whole table"
        )
    reference = float(old["Grad-CAM"][-1])
    lines = [
        replace(line, seconds=reference * shares[line.method]) if line.method in shares else line
        for line in summary.lines
    ]
    summary = replace(summary, lines=lines)
    for place, (_, rows) in zip(tables, (summary.cells(), summary.differences()), strict=True):
        own = [row for row in rows if row[0] != base.title]
        if place == tables[1] and base.n < lines[-1].n:
            own = [[f"{row[0]} ({base.n} pictures)", *row[1:]] for row in own]
        names = {line.title for line in lines[1:]}
        kept = [
            line
            for line in parts[place].splitlines()
            if line.split(" | ")[0].strip("| ").split(" (")[0] not in names
        ]
        parts[place] = "\n".join([*kept, *("| " + " | ".join(row) + " |" for row in own)])
    return before + "\n\n".join(parts) + after


if __name__ == "__main__":
    main()
