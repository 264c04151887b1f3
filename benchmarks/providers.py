"""Providers and precisions that work here, side by side: milliseconds a pass, seconds of 64 passes, correlation of heat maps.

    python benchmarks/providers.py ../shared/data --network mobilenet_v2 --network squeezenet1_1 --pictures 6

Run it where onnxruntime-openvino (or another of onnxruntime's packages) is installed. Rounds are interleaved; medians count.
Heat maps are compared with float32 on the CPU, once with 64 passes, once with all masks (μ = 0).
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from fetch_data import require
from paper_table import NETWORKS

import sise_ort
from sise_ort.metrics import correlation
from sise_ort.runtime.fastest import compare
from sise_ort.runtime.providers import listed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="shared/data")
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS), help="repeatable")
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    require(arguments.data, "imagenet_val400/images", "models")
    pictures = sorted((arguments.data / "imagenet_val400" / "images").iterdir())
    pictures = pictures[:: len(pictures) // arguments.pictures][: arguments.pictures]
    print(f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, {len(pictures)} pictures\n")
    print(
        "| network | provider | precision | ms a pass | × the CPU | s of 64 passes | × the CPU | r, 64 passes (least) | r, μ = 0 (least) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.network or ("mobilenet_v2", "squeezenet1_1"):
            bundle = Path(folder) / f"{name}.sise"
            NETWORKS[name].export(arguments.data, bundle, None)
            table(name, bundle, pictures, arguments.rounds)


def table(name: str, bundle: Path, pictures: list[Path], rounds: int) -> None:
    """Print the rows of one network."""

    def load(provider: str, precision: str) -> sise_ort.Explainer:
        return sise_ort.load(bundle, provider, precision=precision)

    found = compare(listed(), load, pictures, rounds)
    cpu, expected = found[0], []
    for timing in (t for t in found if not t.reason):
        with load(timing.provider, "auto" if timing.precision == "fp32" else timing.precision) as explainer:
            maps = [explainer.explain(picture, mu=0).heatmap for picture in pictures]
        expected = expected or maps
        full = [correlation(one, other) for one, other in zip(maps, expected, strict=True)]
        cells = [
            name, timing.provider, timing.precision,
            f"{1e3 * timing.speed:.2f}", f"{cpu.speed / timing.speed:.2f}",
            f"{timing.seconds:.3f}", f"{cpu.seconds / timing.seconds:.2f}",
            f"{np.mean(timing.correlations):.4f} ({min(timing.correlations):.4f})",
            f"{np.mean(full):.4f} ({min(full):.4f})",
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
