"""benchmarks/against_release.py: its ratios by hand, and one round of this version beside itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from against_release import correlation, ratios, table
from tiny import tiny_model

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "against_release.py"


def test_ratios_are_of_one_round_each() -> None:
    old = [{"load": 2.0, "export": 4.0, "gone": 1.0}, {"load": 1.0, "export": 8.0, "gone": 1.0}]
    new = [{"load": 3.0, "export": 2.0, "added": 1.0}, {"load": 1.0, "export": 2.0, "added": 1.0}]
    assert ratios(old, new) == {"load": [1.5, 1.0], "export": [0.5, 0.25]}


def test_what_is_slower_is_said() -> None:
    lines = table({"load": [1.5, 1.0, 1.2], "export": [0.5, 0.25, 9.0]}, limit=1.15)
    assert lines[2:] == ["| load | 1.20 | 1.00 to 1.50 | slower |", "| export | 0.50 | 0.25 to 9.00 |  |"]


def test_correlation(rng: np.random.Generator) -> None:
    a = rng.random((4, 5))
    assert correlation(a, 3 * a + 1) == pytest.approx(1) and correlation(a, -a) == pytest.approx(-1)
    flat = np.zeros((4, 5))
    assert correlation(flat, flat) == 1 and correlation(a, flat) == 0 and correlation(a, a[1:]) == 0


@pytest.mark.parametrize(("limit", "code"), [("1e9", 0), ("0", 1)])
def test_this_version_beside_itself(limit: str, code: int, tmp_path: Path, rng: np.random.Generator) -> None:
    onnx.save(tiny_model(channels=1), tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "frame.png"), rng.integers(0, 256, (32, 48), dtype=np.uint8))
    words = ["--model", "model.onnx", "--picture", "frame.png", "--passes", "4", "--rounds", "1", "--limit"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words, limit], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "| explain, 4 passes |" in done.stdout and "heat maps: 1.000000" in done.stdout
