"""What Prometheus reads is what the line has done."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sise_ort.errors import OutputError
from sise_ort.line.line import Line
from sise_ort.line.metrics import LineMetrics
from sise_ort.line.settings import LineSettings
from sise_ort.line.sinks.opening import open_webhook


def samples(port: int) -> dict[tuple[str, ...], float]:
    """Values by name and labels, read over HTTP."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "line")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_parts_are_counted(sigmoid_bundle: Path, frame: Any, tmp_path: Path) -> None:
    metrics = LineMetrics()
    port = metrics.serve(0)
    with pytest.raises(OutputError):
        metrics.serve(port)
    settings = LineSettings(
        sinks=[open_webhook("http://127.0.0.1:1/")], parameters={"passes": 0}, checks=True, close_seconds=1.0
    )
    with Line(sigmoid_bundle, tmp_path, threshold=0.0, settings=settings, provider="cpu") as line:
        metrics.add(line)
        results = [line.submit(frame, str(i)).result(30) for i in range(2)]
        results.append(line.submit(b"no picture", "2").result(30))
        for result in results:
            result.kept.result(30)
        found = samples(port)
    assert found["sise_ort_line_parts_total", "rejected"] == 2
    assert found["sise_ort_line_parts_total", "failed"] == 1
    assert found["sise_ort_line_rejects_total", results[0].label] == 2
    assert found["sise_ort_line_explained_total", "in time"] == 2
    assert found["sise_ort_line_without_passes_total",] == 2
    passes = sum(r.explanations[0].forward_passes for r in results[:2])
    assert found["sise_ort_line_forward_passes_total",] == passes
    trusts = [e.verdict.trust for r in results for e in r.explanations if e.verdict is not None]
    assert len(trusts) == 8
    for trust in set(trusts):
        assert found["sise_ort_line_verdicts_total", trust] == trusts.count(trust)
    assert found["sise_ort_line_phase_seconds_count", "total"] == 3
    assert found["sise_ort_line_records", "kept"] == 3
    assert found["sise_ort_line_outbox", "webhook"] == 3
    assert found["sise_ort_line_store_failing",] == 0
