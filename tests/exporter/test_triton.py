"""A model repository for Triton: its graphs explain as the bundle does, and its configs are what Triton reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import sise_ort
from sise_ort.errors import OutputError, ParameterError
from sise_ort.exporter.triton import write_repository

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-triton" / "bin" / "python"
"""Where `make test-services` installs tritonclient."""


def run(folder: Path, given: dict[str, Any]) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


@pytest.fixture(scope="module")
def repository(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_repository(
        tiny_bundle, tmp_path_factory.mktemp("triton") / "models", name="ants", instances=2
    )


def test_both_models_answer_as_the_bundle(
    repository: list[Path], tiny_bundle: Path, frame: NDArray[Any]
) -> None:
    explain, predict = repository
    assert [folder.name for folder in repository] == ["ants_explain", "ants_predict"]
    own = sise_ort.load(tiny_bundle, provider="cpu").explain(frame)
    found = run(
        explain,
        {"image": frame, "target": np.array([-1]), "mu": np.zeros(1, np.float32), "passes": np.array([-1])},
    )
    np.testing.assert_allclose(found["heatmap"], own.heatmap, rtol=0, atol=1e-5)
    assert found["class"].tolist() == [own.target] and tuple(found["masks"]) == own.mask_counts
    two = run(predict, {"image": np.stack([frame, frame[::-1]])})
    np.testing.assert_allclose(two["scores"][0], own.scores, rtol=1e-5, atol=1e-6)
    assert two["confidence"].shape == (2, 4) and abs(two["confidence"][0, own.target] - own.confidence) < 1e-6
    assert (explain / "labels.txt").read_text(encoding="utf-8").splitlines() == ["ant", "bee", "cat", "1"]


@pytest.mark.services
@pytest.mark.parametrize("accelerator", ["none", "tensorrt", "openvino"])
def test_configs_are_what_triton_reads(tiny_bundle: Path, tmp_path: Path, accelerator: str) -> None:
    """By Triton's own protobuf; names, types and shapes are those of the graphs."""
    if not PYTHON.is_file():
        pytest.skip("tritonclient is not installed: `make test-services` does it where PyPI has it")
    folders = write_repository(tiny_bundle, tmp_path, accelerator=accelerator, instances=3)
    script = ROOT / "tests" / "support" / "parse_config.py"
    paths = [str(folder / "config.pbtxt") for folder in folders]
    done = subprocess.run([PYTHON, script, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    types = {"TYPE_FP32": 1, "TYPE_UINT8": 2, "TYPE_INT64": 7}
    for folder, config in zip(folders, json.loads(done.stdout), strict=True):
        graph = onnx.load(folder / "1" / "model.onnx").graph
        batches = config.get("maxBatchSize", 0)
        assert config["name"] == folder.name and config["backend"] == "onnxruntime"
        for ours, theirs in ((config["input"], graph.input), (config["output"], graph.output)):
            assert [tensor["name"] for tensor in ours] == [value.name for value in theirs]
            for tensor, value in zip(ours, theirs, strict=True):
                shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
                assert types[tensor["dataType"]] == value.type.tensor_type.elem_type
                assert [int(n) for n in tensor["dims"]] == shape[bool(batches) :]
                assert "reshape" not in tensor  # Triton knows no scalars in models without a batch
                if name := tensor.get("labelFilename"):
                    assert (folder / name).is_file() and shape[-1] == 4
        assert config["instanceGroup"][0]["count"] == 3
        assert bool(batches) == folder.name.endswith("predict") == ("dynamicBatching" in config)
        accelerators = config.get("optimization", {}).get("executionAccelerators", {})
        names = {one["name"] for kind in accelerators.values() for one in kind}
        refused = accelerator == "none" or (
            accelerator == "openvino" and not batches
        )  # OpenVINO takes no loop like ours
        assert names == (set() if refused else {accelerator})


def test_what_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="accelerator"):
        write_repository(tiny_bundle, tmp_path, accelerator="cuda")
    with pytest.raises(ParameterError, match="instances"):
        write_repository(tiny_bundle, tmp_path, instances=0)
    first, _ = write_repository(tiny_bundle, tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        write_repository(tiny_bundle, tmp_path)
    write_repository(tiny_bundle, tmp_path, force=True)
    (first / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="more than a model"):
        write_repository(tiny_bundle, tmp_path, force=True)
    assert (first / "notes.txt").is_file()
