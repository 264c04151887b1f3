"""What Prometheus reads at /metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

PROCESSES = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which several processes keep their numbers (prometheus_client's name)."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._registry = own
        self.requests = Counter(
            "sise_ort_requests", "Requests answered.", ("model", "kind", "status"), registry=own
        )
        self.rejected = Counter(
            "sise_ort_rejected", "Requests answered with 429: the queue was full.", ("model",), registry=own
        )
        self.waiting = Gauge(
            "sise_ort_queue_length",
            "Pictures that wait.",
            ("model",),
            registry=own,
            multiprocess_mode="livesum",
        )
        self.seconds = Histogram(
            "sise_ort_phase_seconds",
            "Seconds of each phase: upload, decode, wait, and those of the explanation.",
            ("model", "phase"),
            registry=own,
            buckets=SECONDS,
        )
        self.latency = Histogram(
            "sise_ort_request_seconds",
            "Seconds from a request's first line to its answer.",
            ("model", "kind"),
            registry=own,
            buckets=SECONDS,
        )
        self.batches = Histogram(
            "sise_ort_batch_pictures",
            "Pictures, of one request or several, that were worked on together.",
            ("model", "kind"),
            registry=own,
            buckets=PICTURES,
        )
        self.passes = Counter(
            "sise_ort_forward_passes", "Network passes, padding included.", ("model",), registry=own
        )

    def phases(self, model: str, seconds: Mapping[str, float]) -> None:
        """Record how long each phase took."""
        for phase, value in seconds.items():
            self.seconds.labels(model, phase).observe(max(value, 0.0))

    def page(self) -> bytes:
        """All numbers as Prometheus reads them; of all processes where there are several."""
        if not os.environ.get(PROCESSES):
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
