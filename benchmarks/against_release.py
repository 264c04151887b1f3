"""Is this version slower than the last release? Both take turns on one machine, and only ratios count.

    python benchmarks/against_release.py --old OLD/bin/python --new NEW/bin/python

OLD and NEW are environments with the release and with this version installed, each with the extras cpu and export. Every round
runs both, in turn the one and the other first, each in a process of its own: export, loading, the first explanation and
explanations of one picture. The table has the median over rounds of new seconds ÷ old seconds. Exit code 1: a median is over
the limit, or the heat maps differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEEL = ROOT / "cli" / "steel"
LEAST_CORRELATION = 0.999
REPEATS = 3

Row = Mapping[str, float]


def measure(model: Path, picture: Path, passes: int, folder: Path) -> dict[str, float]:
    """Seconds of each step with the sise-ort of this interpreter; its heat map goes into the folder."""
    import numpy as np

    import sise_ort

    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any], repeats: int = 1) -> Any:
        spent, result = [], None
        for _ in range(repeats):
            started = time.perf_counter()
            result = step()
            spent.append(time.perf_counter() - started)
        seconds[name] = statistics.median(spent)
        return result

    bundle = folder / "model.sise"
    timed("export", lambda: sise_ort.export(model, bundle, mean=(128,), std=(64,), force=True))
    explainer = timed("load", lambda: sise_ort.load(bundle, provider="cpu"))
    timed("first explanation", lambda: explainer.explain(picture, passes=passes))
    result = timed("explain, all masks above μ = 0.5", lambda: explainer.explain(picture, 0, mu=0.5), REPEATS)
    timed(f"explain, {passes} passes", lambda: explainer.explain(picture, 0, passes=passes), REPEATS)
    timed("Grad-CAM", lambda: explainer.explain(picture, 0, method="gradcam"), REPEATS)
    np.save(folder / "heatmap.npy", result.heatmap)
    return seconds


def ratios(old: Sequence[Row], new: Sequence[Row]) -> dict[str, list[float]]:
    """New seconds ÷ old seconds of each step that both have, one for each round."""
    names = [name for name in new[0] if name in old[0]]
    return {name: [b[name] / a[name] for a, b in zip(old, new, strict=True)] for name in names}


def table(found: Mapping[str, Sequence[float]], limit: float) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| step | new ÷ old, median | smallest to largest | |", "|---|---:|---:|---|"]
    for name, values in found.items():
        middle = statistics.median(values)
        verdict = "slower" if middle > limit else ""
        lines.append(f"| {name} | {middle:.2f} | {min(values):.2f} to {max(values):.2f} | {verdict} |")
    return lines


def correlation(a: Any, b: Any) -> float:
    """Of two heat maps; 1 where both are flat."""
    import numpy as np

    if a.shape != b.shape:
        return 0.0
    if a.std() == 0 or b.std() == 0:
        return float(a.std() == b.std())
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def run(python: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One round of one version in a process of its own."""
    folder.mkdir(exist_ok=True)
    words = [
        python,
        __file__,
        "--measure",
        folder,
        "--model",
        arguments.model,
        "--picture",
        arguments.picture,
    ]
    done = subprocess.run(
        [*map(str, words), "--passes", str(arguments.passes)], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{python} failed: {done.stderr.strip()}")
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", default=sys.executable, help="Python with the release")
    parser.add_argument("--new", default=sys.executable, help="Python with this version")
    parser.add_argument("--model", type=Path, default=STEEL / "steel.onnx", help=".onnx file of gray frames")
    parser.add_argument("--picture", type=Path, default=None, help="picture [a strip of the demo]")
    parser.add_argument("--passes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=1.15, help="largest median of new ÷ old")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.picture is None:
        arguments.picture = min(p for p in (STEEL / "strips").glob("*.png") if ".mask" not in p.name)
    if arguments.measure:
        print(json.dumps(measure(arguments.model, arguments.picture, arguments.passes, arguments.measure)))
        return
    arguments.model, arguments.picture = arguments.model.resolve(), arguments.picture.resolve()
    rows: dict[str, list[Row]] = {"old": [], "new": []}
    with tempfile.TemporaryDirectory() as work:
        for i in range(arguments.rounds):
            for name in ("old", "new") if i % 2 == 0 else ("new", "old"):
                rows[name].append(run(getattr(arguments, name), arguments, Path(work) / name))
        import numpy as np

        alike = correlation(*(np.load(Path(work) / name / "heatmap.npy") for name in ("old", "new")))
    found = ratios(rows["old"], rows["new"])
    print("\n".join(table(found, arguments.limit)))
    print(f"\nCorrelation of the two heat maps: {alike:.6f}")
    slower = any(statistics.median(values) > arguments.limit for values in found.values())
    raise SystemExit(1 if slower or alike < LEAST_CORRELATION else 0)


if __name__ == "__main__":
    main()
