"""explain.onnx beside its bundle: time, selection and heat maps, on the same pictures.

    python benchmarks/compose.py BUNDLE PICTURES --mu 0.3 --count 10

The two take turns; what counts is the median of their ratios picture by picture. Frames of network size, a CPU, as many threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

import sise_ort
from sise_ort.datasets.reading import PICTURES
from sise_ort.exporter.compose import compose


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--mu", type=float, default=0.3)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int)
    asked = parser.parse_args()

    explainer = sise_ort.load(asked.bundle, provider="cpu", threads=asked.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked.threads
    with tempfile.TemporaryDirectory() as folder:
        path = compose(asked.bundle, Path(folder) / "explain.onnx", batch_size=asked.batch_size)
        size = path.stat().st_size
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    mu = np.array(asked.mu, np.float32)
    paths = sorted(p for p in asked.pictures.rglob("*") if p.suffix.lower() in PICTURES)[: asked.count + 1]
    ratios, apart, masks, same = [], [], [], True
    for number, picture in enumerate(paths):
        frame = explainer.prepare(picture)[0]
        given = {"image": frame, "target": np.array(-1), "mu": mu, "passes": np.array(-1)}
        began = time.perf_counter()
        own = explainer.explain(frame, mu=float(mu))
        between = time.perf_counter()
        heatmap, counts = session.run(["heatmap", "masks"], given)
        ended = time.perf_counter()
        if not number:  # the first run of each allocates
            continue
        ratios.append((ended - between) / (between - began))
        apart.append(float(np.abs(heatmap - own.heatmap).max()))
        masks.append(int(counts.sum()))
        same &= tuple(counts) == own.mask_counts
    print(
        f"{explainer.manifest.name}, mu {asked.mu:g}, {len(ratios)} pictures, {np.mean(masks):.0f} masks on average: "
        f"explain.onnx ({size / 2**20:.1f} MiB) takes {np.median(ratios):.2f} of the bundle's time ({min(ratios):.2f} to "
        f"{max(ratios):.2f}); selection {'the same' if same else 'DIFFERENT'}; heat maps at most {max(apart):.1e} apart"
    )


if __name__ == "__main__":
    main()
