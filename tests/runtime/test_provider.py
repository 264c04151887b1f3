"""What opening the runtime does to the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_onnxruntime_reports_nothing_unless_asked_to(
    tmp_path: Path, given: str | None, expected: str
) -> None:
    """From 1.29 on onnxruntime would leave an identifier of the machine in HOME and connect to its maker."""
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
    }  # without CI, where it is silent by itself
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    code = "import os, sise_ort.runtime.providers; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr
    if given is None:
        assert not list(tmp_path.rglob("*"))
