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

import sise_ort

RUNTIMES = [p for p in os.environ.get("SISE_ORT_RUNTIMES", "").split(":") if p]
OLDEST_ONNXRUNTIME = "1.18.0"


@pytest.mark.skipif(not RUNTIMES, reason="SISE_ORT_RUNTIMES is not set; `make test` sets it")
@pytest.mark.parametrize("python", RUNTIMES)
def test_runtime_alone(python: str, tiny_bundle: Path, tmp_path: Path, frame: Any) -> None:
    np.save(tmp_path / "frame.npy", frame)
    cv2.imwrite(str(tmp_path / "picture.png"), cv2.resize(frame, (100, 100)))
    script = Path(__file__).parent / "runtime_only.py"
    done = subprocess.run(
        [Path(python).absolute(), "-I", script, tiny_bundle, tmp_path / "frame.npy", tmp_path / "picture.png", tmp_path],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["loaded"] == [] and seen["importable"] == []
    assert "site-packages" in seen["from"]
    assert "pip install 'sise-ort[cpu,export]'" in seen["export"]
    here = sise_ort.load(tiny_bundle, provider="cpu").explain(frame).heatmap
    np.testing.assert_allclose(np.load(tmp_path / "heatmap.npy"), here, atol=1e-4)
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
