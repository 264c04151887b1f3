"""How much of the heat lies in the object's box: SISE against Grad-CAM on the same pictures.

    python benchmarks/pointing.py ../shared/data --count 40

The folder holds models/mobilenet_v2_1.0_224_quant_deq_fp32.onnx (Google Coral), and imagenet_val400/ with images
and boxes.csv. Both methods explain the true class; EBPG is the share of the heat map's energy in the boxes.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from fetch_data import require

import sise_ort
from sise_ort.metrics import energy_pointing_game

Picture = tuple[Path, int, Any]


def boxed_pictures(data: Path, largest: float = 0.5) -> list[Picture]:
    """Pictures whose boxes cover less than `largest`: path, class, truth mask; in the order of boxes.csv."""
    require(data, "imagenet_val400/boxes.csv")
    folder = data / "imagenet_val400"
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / "boxes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["file"]].append(row)
    found = []
    for name, boxes in rows.items():
        truth = np.zeros((227, 227), bool)
        for box in boxes:
            x0, y0, x1, y1 = (round(float(box[k])) for k in ("x0_227", "y0_227", "x1_227", "y1_227"))
            truth[max(y0, 0) : y1, max(x0, 0) : x1] = True
        if 0 < truth.mean() < largest:
            found.append((folder / "images" / name, int(boxes[0]["label_index"]), truth))
    return found


def point(
    explainer: sise_ort.Explainer, pictures: list[Picture], mu: float = 0.0
) -> tuple[list[float], list[float]]:
    """EBPG of SISE and of Grad-CAM, per picture."""
    sise, cam = [], []
    for path, label, truth in pictures:
        sise.append(energy_pointing_game(explainer.explain(path, label, mu=mu).frame_heatmap, truth))
        cam.append(
            energy_pointing_game(explainer.explain(path, label, method="gradcam").frame_heatmap, truth)
        )
    return sise, cam


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--mu", type=float, default=0.0)
    arguments = parser.parse_args()
    pictures = boxed_pictures(arguments.data)[: arguments.count]
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.data / "models" / "mobilenet_v2_1.0_224_quant_deq_fp32.onnx"
        require(arguments.data, f"models/{model.name}")
        sise_ort.export(model, Path(folder) / "m.sise", mean=(128,) * 3, std=(128,) * 3)
        sise, cam = point(sise_ort.load(Path(folder) / "m.sise", provider="cpu"), pictures, arguments.mu)
    area = float(np.mean([truth.mean() for _, _, truth in pictures]))
    print(f"{len(pictures)} pictures, boxes cover {100 * area:.1f} % on average, mu {arguments.mu}")
    for name, values in (("SISE", sise), ("Grad-CAM", cam)):
        left_out = int(np.isnan(values).sum())
        print(f"{name:9s} EBPG {100 * np.nanmean(values):.1f}  (empty maps left out: {left_out})")


if __name__ == "__main__":
    main()
