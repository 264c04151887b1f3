"""Node, its packages and a browser, for tests in services; what is missing is named, and the test skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / ".node"
"""Where `make test-services` installs tests/support/node/package.json."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 280


def node_packages() -> Path:
    """The folder with node_modules, or a skipped test."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    if not (PACKAGES / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip(
            "npm's packages are not installed: `make test-services` does it where npm's registry can be reached"
        )
    return PACKAGES


def run_node(script: Path, *arguments: str | Path) -> str:
    """What a script prints, run beside npm's packages."""
    folder = node_packages()
    beside = shutil.copy(script, folder / script.name)
    done = subprocess.run(
        ["node", str(beside), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "CHROMIUM": browser() if "browse" in script.name else ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def browser() -> str:
    """A Chromium, or a skipped test."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("there is no Chromium on this machine")


def browse(address: str, steps: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Open a page, do the steps, and return what was seen: console, requests and values."""
    (folder / "steps.json").write_text(json.dumps(steps), encoding="utf-8")
    seen: dict[str, Any] = json.loads(
        run_node(Path(__file__).parent / "node" / "browse.mjs", address, folder / "steps.json")
    )
    return seen
