"""Measure the demo's network on real strips: ``python examples/steel/measure.py FOLDER``.

FOLDER holds pictures and labels.csv with the columns file and defect_1 to defect_4 (docs/data.md, severstal12). Printed are
the probabilities and the area under the ROC curve, defective against sound by the largest probability, with n, and per kind.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

STEEL = Path(__file__).resolve().parents[2] / "cli" / "steel"


def area_under_roc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Share of pairs of a positive and a negative in which the positive scores higher; ties count half.

    Parameters
    ----------
    scores : float64, [n]
        Higher means positive.
    positive : bool, [n]
        The truth.

    Returns
    -------
    float
        NaN where one of the two groups is empty.
    """
    if positive.all() or not positive.any():
        return float("nan")
    difference = scores[positive][:, None] - scores[~positive][None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", type=Path, default=STEEL, help="folder of steel.onnx and strips.json")
    arguments = parser.parse_args()
    facts = json.loads((arguments.network / "strips.json").read_text(encoding="utf-8"))
    path = str(arguments.network / "steel.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    height, width = session.get_inputs()[0].shape[2:]
    with (arguments.folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = np.array([[row[f"defect_{k}"] == "1" for k in range(1, 5)] for row in rows])
    found = np.empty(truth.shape)
    for k, row in enumerate(rows):
        strip = cv2.imread(str(arguments.folder / row["file"]), cv2.IMREAD_GRAYSCALE)
        strip = cv2.resize(strip, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        found[k] = session.run(None, {"strip": (strip[None, None] - facts["mean"]) / facts["std"]})[0][0]
        kinds = "+".join(str(n + 1) for n in np.flatnonzero(truth[k])) or "sound"
        print(f"{row['file']:16s} {kinds:8s}", " ".join(f"{p:.3f}" for p in found[k]))
    defective = truth.any(1)
    print(
        f"defective against sound: {area_under_roc(found.max(1), defective):.3f} "
        f"(n = {len(rows)}: {defective.sum()} defective, {(~defective).sum()} sound)"
    )
    for k in range(4):
        print(
            f"kind {k + 1}: {area_under_roc(found[:, k], truth[:, k]):.3f} (n = {truth[:, k].sum()} with it)"
        )


if __name__ == "__main__":
    main()
