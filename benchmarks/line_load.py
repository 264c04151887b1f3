"""Latency of the inspection line under load: frames at a steady pace, a share of rejects, a deadline, and each policy.

    python benchmarks/line_load.py                                # 20 frames a second, 30 % rejects, 150 ms, the demo's network
    python benchmarks/line_load.py --rate 5 --seconds 10          # a quick look

Frames are the demo's strips as arrays, sound ones and defective ones in a random order; they come at their moments, whether or not
the line has time. The table shows, for each policy, what became of the frames and of the rejects, and how long decisions and
explanations took from `submit` on. Evidence is kept in a folder that vanishes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import sise_ort
from sise_ort.line.line import Line
from sise_ort.line.settings import POLICIES, LineSettings

STEEL = Path(__file__).parents[1] / "cli" / "steel"


def frames_of(share: float, count: int, seed: int) -> list[Any]:
    """Strips in a random order, a share of them defective."""
    read = {p.stem: cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (STEEL / "strips").glob("*.png")}
    strips = {name: pixels for name, pixels in read.items() if not name.endswith(".mask")}
    sound = [pixels for name, pixels in strips.items() if name.startswith("sound")]
    bad = [pixels for name, pixels in strips.items() if not name.startswith("sound")]
    rng = random.Random(seed)
    return [rng.choice(bad if rng.random() < share else sound) for _ in range(count)]


def measure(bundle: Path, policy: str, options: argparse.Namespace) -> dict[str, Any]:
    """One policy."""
    frames = frames_of(options.rejects, round(options.rate * options.seconds), options.seed)
    settings = LineSettings(policy=policy, checks=options.checks)
    futures = []
    with (
        tempfile.TemporaryDirectory() as evidence,
        Line(
            bundle,
            evidence,
            deadline=options.deadline_ms / 1000,
            settings=settings,
            provider="cpu",
            threads=options.threads,
        ) as line,
    ):
        began = time.monotonic()
        for number, frame in enumerate(frames):
            time.sleep(max(0.0, began + number / options.rate - time.monotonic()))
            futures.append(line.submit(frame, str(number)))
        results = [future.result() for future in futures]
        line.finish()
        status = line.status()
    rejects = [r for r in results if r.decision == "rejected"]
    explained = [r.seconds["total"] for r in rejects if r.explanations]
    decided = [r.seconds["wait"] + r.seconds["classify"] for r in results if "classify" in r.seconds]
    masks = [sum(r.explanations[0].mask_counts) for r in rejects if r.explanations]
    return {
        "policy": policy,
        "frames": len(results),
        "unclassified": status["unclassified"],
        "rejects": len(rejects),
        "in_time": round(status["explained_in_time"] / max(1, len(rejects)), 4),
        "late": status["explained_late"],
        "dropped": status["explained_dropped"],
        "without_passes": status["without_passes"],
        "masks_median": float(np.median(masks)) if masks else 0.0,
        "decision_ms": _percentiles(decided),
        "explanation_ms": _percentiles(explained),
    }


def _percentiles(seconds: list[float]) -> list[float]:
    """50, 95 and 99 per cent lie below, in milliseconds."""
    return [round(1000 * float(v), 1) for v in np.percentile(seconds, [50, 95, 99])] if seconds else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=20.0, help="frames a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each policy")
    parser.add_argument("--rejects", type=float, default=0.3, help="share of defective strips")
    parser.add_argument("--deadline-ms", type=float, default=150.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checks", action="store_true", help="with a verdict on each map")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = Path(work) / "steel.sise"
        sise_ort.export(STEEL / "steel.onnx", bundle, mean=128.0, std=64.0, labels=STEEL / "labels.txt")
        print(json.dumps({"cores": os.cpu_count(), "rate": options.rate, "deadline_ms": options.deadline_ms}))
        for policy in POLICIES:
            print(json.dumps(measure(bundle, policy, options)), flush=True)


if __name__ == "__main__":
    main()
