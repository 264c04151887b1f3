"""The simulation behind docs/scale.md against closed forms: where one thing alone takes time, it alone decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster_simulation import Cluster, at_least, simulate

FREE = Cluster(pace=1e9, head=0, link=1e18, latency=0, load=0)
"""Nothing takes time."""


def test_workers_alone() -> None:
    """Whole tasks: 10 tasks of 64 pictures among 4 workers are 3 rounds."""
    found = simulate(replace(FREE, workers=4, pace=2.0), 640)
    assert found.seconds == pytest.approx(3 * 64 / 2.0) and found.limit == "the workers"
    assert found.explaining == pytest.approx(640 / 2.0 / 4 / found.seconds)


def test_the_head_alone() -> None:
    found = simulate(replace(FREE, workers=50, head=0.02), 64 * 300)
    assert found.seconds == pytest.approx(300 * 0.02) and found.head == pytest.approx(1)
    assert found.limit == "Ray's head"


def test_the_link_alone() -> None:
    found = simulate(replace(FREE, workers=50, link=1e6, picture=1e3, result=0), 6400)
    assert found.seconds == pytest.approx(6.4) and found.limit == "the store's link"


def test_one_worker_reads_ahead_of_what_it_explains() -> None:
    """One task in four groups: the first is waited for, the others come while it explains; then the results are written."""
    cluster = replace(
        FREE, workers=1, pace=10.0, link=1e5, picture=1e4, result=1e2, latency=0.5, head=0.25, load=3
    )
    found = simulate(cluster, 64, group=16)
    first, explaining, writing = 16 * 0.1 + 0.5, 64 / 10, 64 * 1e-3 + 0.5
    assert 16 * 0.1 + 0.5 > 16 / 10  # a group takes longer to come than to explain
    assert found.seconds == pytest.approx(3 + 0.25 + 4 * first + 16 / 10 + writing)
    assert found.explaining == pytest.approx(explaining / found.seconds)


@pytest.mark.parametrize("workers", [1, 7, 64])
def test_no_order_beats_the_bound(workers: int) -> None:
    cluster = replace(Cluster(), workers=workers, pace=50.0)
    assert simulate(cluster, 5000).seconds >= at_least(cluster, 5000)
