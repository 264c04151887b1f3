"""Make what the examples in C++ and C# need, and compare what they give with Python's heat map.

python examples/compare.py make FOLDER            writes explain.onnx and frame.pgm (the demo's model and one of its strips)
python examples/compare.py check FOLDER heat.pgm LABEL
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import sise_ort
from sise_ort.exporter.compose import compose

STEEL = Path(__file__).resolve().parents[1] / "cli" / "steel"
PASSES = 16


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sise_ort.export(
        STEEL / "steel.onnx", folder / "steel.sise", mean=128, std=64, labels=STEEL / "labels.txt", force=True
    )
    compose(folder / "steel.sise", folder / "explain.onnx", force=True)
    cv2.imwrite(
        str(folder / "frame.pgm"), cv2.imread(str(STEEL / "strips" / "crack.png"), cv2.IMREAD_GRAYSCALE)
    )


def check(folder: Path, heat: Path, said: str) -> None:
    import onnxruntime

    frame = cv2.imread(str(folder / "frame.pgm"), cv2.IMREAD_GRAYSCALE)[:, :, None]
    session = onnxruntime.InferenceSession(folder / "explain.onnx", providers=["CPUExecutionProvider"])
    given = {
        "image": frame,
        "target": np.array(-1),
        "mu": np.array(0, np.float32),
        "passes": np.array(PASSES),
    }
    heatmap, index = session.run(["heatmap", "class"], given)
    label = sise_ort.load(folder / "steel.sise", provider="cpu").manifest.labels[int(index)]
    found = cv2.imread(str(heat), cv2.IMREAD_GRAYSCALE)
    apart = float(np.abs(found / 255 - heatmap).max())
    print(f"{said}: heat maps at most {apart:.4f} apart")
    if not said.startswith(f"{label} ") or apart > 0.5 / 255 + 1e-4:
        sys.exit(f"expected {label}, and at most half a level of 255 apart")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        check(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
