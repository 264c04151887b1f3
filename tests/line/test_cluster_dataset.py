"""A data set explained by two workers of a local Ray: nothing is lost and nothing is there twice, whoever is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import ray_processes

import sise_ort
from sise_ort.line.cluster.results import Results

pytest.importorskip("ray")
pytest.importorskip("pyarrow")
pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc"),
]
PICTURES = 60


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        cv2.imwrite(str(folder / f"{number:02}.png"), rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_processes.Cluster]:
    with ray_processes.cluster() as found:
        yield found


def explaining(cluster: ray_processes.Cluster, bundle: Path, pictures: Path, out: Path) -> Any:
    """`sise-ort explain … --ray ADDRESS` with two workers."""
    return ray_processes.started(
        "-m", "sise_ort.cli.main", "explain", bundle, pictures, "-o", out, "--ray", cluster.address, "--workers", 2,
        "--cores", 1, "--provider", "cpu", "--mu", 0.3, "--formats", "json",
    )  # fmt: skip


def parts(out: Path) -> list[Path]:
    return list((out / "results").glob("*.parquet"))


def check(bundle: Path, pictures: Path, out: Path) -> None:
    """All pictures have results once, and the results are those of a plain call."""
    rows = list(Results(str(out)).rows())
    assert sorted(row["path"] for row in rows) == sorted(map(str, pictures.iterdir()))
    assert len(list((out / "files").rglob("*.json"))) == PICTURES
    with sise_ort.load(bundle, "cpu", threads=1) as explainer:
        for row in rows:
            plain = explainer.explain(row["path"], mu=0.3)
            assert np.array_equal(row["scores"], plain.scores) and row["label"] == plain.label
            assert np.abs(sise_ort.read_heatmap(row["map"]) - plain.frame_heatmap).max() < 2e-3


def test_a_worker_that_is_killed_costs_nothing_but_time(
    cluster: ray_processes.Cluster, tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with explaining(cluster, tiny_bundle, pictures, out) as process:
        ray_processes.until(lambda: parts(out), process)
        os.kill(cluster.workers()[0], signal.SIGKILL)  # the second one may still be starting
        written = len(parts(out))
        code, text = ray_processes.finished(process)
    assert 0 < written < len(parts(out)), "it was killed too late"
    assert code == 0 and f"{PICTURES} of {PICTURES} pictures explained" in text, text
    check(tiny_bundle, pictures, out)


def test_a_run_that_is_killed_goes_on_where_it_was(
    cluster: ray_processes.Cluster, tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with explaining(cluster, tiny_bundle, pictures, out) as process:
        ray_processes.until(lambda: len(parts(out)) > 1, process)
    written = len(Results(str(out)).done())
    assert 0 < written < PICTURES
    with explaining(cluster, tiny_bundle, pictures, out) as process:
        code, text = ray_processes.finished(process)
    assert (
        code == 0 and f"{PICTURES - written} of {PICTURES} pictures explained, {written} had results" in text
    ), text
    check(tiny_bundle, pictures, out)


def test_an_error_of_a_worker_is_one_line(
    cluster: ray_processes.Cluster, tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    with ray_processes.started(
        "-m", "sise_ort.cli.main", "explain", tiny_bundle, pictures, "-o", tmp_path / "out", "--ray", cluster.address,
        "--workers", 1, "--cores", 1, "--target", "dog",
    ) as process:  # fmt: skip
        code, text = ray_processes.finished(process)
    assert code == 1 and "dog" in text and "Traceback" not in text, text
