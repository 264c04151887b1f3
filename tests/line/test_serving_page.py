"""docs/serving.md: its commands and programs run, and it names every field, option and address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from tiny import tiny_model

pytest.importorskip("fastapi")

from serving import png, running

import sise_ort

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
CLIENTS = os.environ.get("SISE_ORT_CLIENTS", "")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind} run\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of the page's bundle, and a folder with its picture."""
    folder = tmp_path_factory.mktemp("strips")
    onnx.save(tiny_model(), folder / "strips.onnx")
    labels = ["good", "scratch", "crack", "patch"]
    sise_ort.export(folder / "strips.onnx", folder / "strips.sise", normalize="tf", labels=labels)
    frame = np.random.default_rng(5).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    (folder / "strip.png").write_bytes(png(frame))
    with running(folder / "strips.sise", "--threads", "1") as server:
        yield server, folder
        assert server.stop() == 0


@pytest.mark.services
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_commands_run(strips: Any) -> None:
    server, folder = strips
    (script,) = blocks("sh")
    script = script.replace("http://localhost:8080", server.url)
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert '"label":["scratch"]' in run.stdout.replace(" ", "") or '"scratch"' in run.stdout
    assert cv2.imread(str(folder / "overlay.png")).shape == (64, 96, 3)
    with np.load(folder / "heatmap.npz", allow_pickle=False) as content:
        assert content["heatmap"].dtype == np.float16 and content["heatmap"].shape == (32, 48)
    assert "explanations" in (folder / "explanation.json").read_text()


@pytest.mark.services
@pytest.mark.skipif(
    not Path(CLIENTS).is_file(), reason="SISE_ORT_CLIENTS names no Python with kserve and tritonclient"
)
@pytest.mark.parametrize("number", [0, 1])
def test_the_programs_run(strips: Any, number: int) -> None:
    server, folder = strips
    program = blocks("python")[number].replace("localhost:8080", server.url.removeprefix("http://"))
    python = Path(CLIENTS).absolute()
    run = subprocess.run([python, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("scratch")


def test_the_page_names_every_field_option_and_address(tiny_bundle: Path) -> None:
    from serving import client

    from sise_ort.cli.serve import command
    from sise_ort.line.server.wishes import OWN

    named = set(re.findall(r"`([^`\n]+)`", PAGE))
    assert set(OWN) <= named
    limits = {
        "--queue",
        "--max-upload-mib",
        "--max-megapixels",
        "--max-memory-mib",
        "--upload-seconds",
        "--request-seconds",
    }
    options = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}
    assert limits <= options and limits <= named
    for option in ("--host", "--token-file", "--workers", "--threads", "--exact", "--untrusted"):
        assert option in options and f"`{option}" in PAGE
    with client({"tiny": tiny_bundle}) as server:
        for path in server.get("/openapi.json").json()["paths"]:
            assert path.replace("{name}", "NAME") in PAGE, path
        metrics = re.findall(r"^# TYPE (\S+)", server.get("/metrics").text, re.MULTILINE)
    assert {name for name in metrics if not name.endswith("_created")} <= named, metrics
