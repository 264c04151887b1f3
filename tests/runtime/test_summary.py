"""Intervals and paired differences."""

from __future__ import annotations

import csv
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sise_ort.runtime.evaluation import METRICS
from sise_ort.runtime.evaluation import summary as summary_module
from sise_ort.runtime.evaluation.summary import interval


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Closed form: for normal values the bootstrap interval is the mean ± 1.96 σ/√n."""
    values = np.random.default_rng(1).normal(50, 10, 400)
    found = interval(values, 401)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean()) and (found.n, found.left_out) == (400, 1)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1)
    assert interval(values, 400).low == found.low  # the same for every run
    assert interval(np.array([math.nan]), 3).n == 0
    assert found.short == f"{found.mean:.1f} ±{(found.high - found.low) / 2:.1f}"


def test_intervals_take_little_memory() -> None:
    """The bootstrap of 50,000 pictures draws in portions; with 4,000,000 values of 8 bytes and their indices at once."""
    values = np.random.default_rng(2).normal(50, 10, 50_000)
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(summary_module, "RESAMPLES", 160)
            found = interval(values, len(values))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150e6 and found.low < found.mean < found.high


def test_differences_are_paired(evaluated: Path) -> None:
    """Mean and interval of the differences picture by picture, from the exported rows: the interval is that of resampled
    pictures, each of which brings its pair, and far narrower than resampling both methods apart would give."""
    summary = json.loads((evaluated / "summary.json").read_text())
    sise, cam = summary["lines"][0], summary["lines"][3]
    with (evaluated / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    value = {(row["sample"], row["variant"], name): row[name] for row in rows for name in METRICS}
    names = sorted({row["sample"] for row in rows})
    assert len(names) == 8
    for name in METRICS:
        pairs = np.array(
            [
                [100 * float(value[sample, variant, name]) for variant in ("sise mu=0", "gradcam")]
                for sample in names
                if value[sample, "sise mu=0", name] not in ("", "nan")
            ]
        )
        difference = pairs[:, 1] - pairs[:, 0]
        found = cam["difference"][name]
        assert found["n"] == len(pairs)
        assert found["mean"] == pytest.approx(difference.mean(), abs=1e-6)
        low, high = percentile_interval(difference)
        width = max(high - low, 1e-6)
        assert found["low"] == pytest.approx(low, abs=0.05 * width)
        assert found["high"] == pytest.approx(high, abs=0.05 * width)
        assert [sise["difference"][name][key] for key in ("mean", "low", "high")] == [0, 0, 0]


def percentile_interval(values: Any) -> tuple[float, float]:
    """The exact percentile bootstrap interval of the mean: the distribution of the mean of n draws with replacement, on a
    grid, by convolving that of one draw n times."""
    n, least, most = len(values), values.min(), values.max()
    if most == least:
        return least, least
    cells = 4000
    one = np.bincount(np.rint((values - least) / (most - least) * cells).astype(int), minlength=cells + 1) / n
    total = np.ones(1)
    for _ in range(n):
        total = np.maximum(np.fft.irfft(np.fft.rfft(total, 2**15) * np.fft.rfft(one, 2**15), 2**15), 0)
    summed = np.cumsum(total[: n * cells + 1])
    places = np.searchsorted(summed, [0.025, 0.975])
    low, high = least + (most - least) * places / (n * cells)
    return float(low), float(high)
