"""A writer that is killed at any moment: what it had acknowledged is there, once, whole, and the chain is good."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sise_ort.errors import OutputError
from sise_ort.line.evidence import Evidence, File, Part
from sise_ort.line.evidence.finding import find
from sise_ort.line.evidence.retention import sweep
from sise_ort.line.evidence.verifying import verify

WRITER = """
    import sys
    from sise_ort.line.evidence import Evidence, File, Part
    number = int(sys.argv[2])
    with Evidence(sys.argv[1]) as evidence:
        while True:
            part = Part(line="north", part_id=str(number), key=str(number), decision="rejected")
            evidence.add(part, [File("frame", bytes(str(number), "ascii") * 5000, ".png")], ["hook"])
            print(number, flush=True)
            number += 1
"""


def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    said: list[int] = []
    for _ in range(4):
        began = max(said, default=-1) + 1
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "e"), str(began)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said.append(int(process.stdout.readline()))
        time.sleep(float(rng.uniform(0.05, 0.3)))
        process.send_signal(signal.SIGKILL)
        said += map(int, process.stdout.read().split())
        process.stdout.close()
        process.wait()
    with Evidence(tmp_path / "e", create=False) as evidence:
        report = verify(evidence)
        assert report.good, report.findings
        there = [int(kept.part.part_id) for kept in find(evidence, newest_first=False)]
        assert len(there) == len(set(there)) and set(said) <= set(there)
        assert len(there) - len(set(said)) <= 4  # one that was written before it could be said, per kill
        assert evidence.outbox.counts() == {"hook": len(there)}
        sweep(evidence, older_than=-1)
        assert verify(evidence).good
    names = [p for p in (tmp_path / "e" / "files").rglob("*") if p.is_file()]
    assert len(names) == len(there)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where the machine lets us mount one."""
    place, mount = tmp_path / "disk", shutil.which("mount")
    place.mkdir()
    words = [str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if mount is None or os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    kept = 0
    (small_disk / "filler").write_bytes(bytes(300_000))
    with Evidence(small_disk / "e") as evidence:
        with pytest.raises(OutputError):
            while kept < 10_000:
                content = kept.to_bytes(4, "big") * 20_000
                evidence.add(
                    Part(line="north", part_id=str(kept), decision="accepted"), [File("frame", content)]
                )
                kept += 1
        assert kept
        report = verify(evidence)
        assert report.good and report.parts == kept, report.findings
    (small_disk / "filler").unlink()
    with Evidence(small_disk / "e") as evidence:
        assert evidence.add(Part(line="north", part_id="later", decision="accepted")).number == kept + 1
        sweep(evidence, older_than=-1)
        report = verify(evidence)
        assert report.good and report.parts == kept + 1, report.findings
