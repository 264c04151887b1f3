"""The runtime without torch and onnx, installed as a wheel: `make test` prepares the environments.

SISE_ORT_RUNTIMES lists their Python interpreters, separated by colons.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exporting import exported

from sise_ort.runtime.methods import METHODS

RUNTIMES = [p for p in os.environ.get("SISE_ORT_RUNTIMES", "").split(":") if p]
OLDEST_ONNXRUNTIME = "1.18.0"


@pytest.mark.skipif(not RUNTIMES, reason="SISE_ORT_RUNTIMES is not set; `make test` sets it")
@pytest.mark.parametrize("python", RUNTIMES)
def test_runtime_alone(python: str, tmp_path: Path, make_tiny: Any, frame: Any) -> None:
    explainer = exported(make_tiny(), tmp_path, graphs=("head", "image-gradient", "full-gradient"))
    bundle, picture = tmp_path / "m.sise", tmp_path / "pictures" / "picture.png"
    np.save(tmp_path / "frame.npy", frame)
    picture.parent.mkdir()
    cv2.imwrite(str(picture), cv2.resize(frame, (100, 100)))
    script = Path(__file__).parents[1] / "support" / "runtime_only.py"
    done = subprocess.run(
        [Path(python).absolute(), "-I", script, bundle, tmp_path / "frame.npy", picture, tmp_path],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["loaded"] == [] and seen["importable"] == []
    assert "site-packages" in seen["from"]
    assert "pip install 'sise-ort[cpu,export]'" in seen["export"]
    found = np.load(tmp_path / "heatmaps.npz")
    assert tuple(found) == tuple(METHODS)
    fast: dict[str, Any] = {"rise": {"masks": 20}, "extremal-perturbation": {"iterations": 3}}
    for method in METHODS:
        here = explainer.explain(frame, method=method, **fast.get(method, {})).heatmap
        np.testing.assert_allclose(found[method], here, atol=1e-3)
    assert "pip install 'sise-ort[evaluate]'" in done.stderr  # no plots without matplotlib, and it is said
    assert (tmp_path / "evaluated" / "index.html").is_file()
    assert (tmp_path / "picture.png").is_file() and (tmp_path / "picture.json").is_file()


@pytest.mark.skipif(not RUNTIMES, reason="SISE_ORT_RUNTIMES is not set; `make test` sets it")
def test_the_oldest_onnxruntime_is_among_them() -> None:
    code = "import onnxruntime; print(onnxruntime.__version__)"
    versions = [
        subprocess.run([p, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for p in RUNTIMES
    ]
    assert OLDEST_ONNXRUNTIME in versions


@pytest.mark.skipif(not RUNTIMES, reason="SISE_ORT_RUNTIMES is not set; `make test` sets it")
def test_size_of_the_runtime() -> None:
    """Everything that `pip install 'sise-ort[cpu]'` brings is under 350 MB on disk."""
    site = next((Path(RUNTIMES[0]).parents[1] / "lib").glob("python*/site-packages"))
    skip = ("pip", "setuptools")
    total = sum(
        f.stat().st_size
        for f in site.rglob("*")
        if f.is_file() and f.suffix != ".pyc" and not f.relative_to(site).parts[0].startswith(skip)
    )
    assert total < 350e6
