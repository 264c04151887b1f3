"""What Prometheus reads of lines: parts, rejects, queues, latency by phase, passes, verdicts, the outbox."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sise_ort.errors import OutputError
from sise_ort.line.jobs import REJECTED, Result
from sise_ort.line.line import Line

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class LineMetrics:
    """Counts what lines do, from the moment at which they are added.

    Attributes
    ----------
    registry : CollectorRegistry
        Its metrics, for a program that serves them itself.
    """

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self._parts = Counter(
            "sise_ort_line_parts", "Parts that are over.", ("line", "decision"), registry=own
        )
        self._rejects = Counter("sise_ort_line_rejects", "Rejects.", ("line", "label"), registry=own)
        self._explained = Counter(
            "sise_ort_line_explained",
            "Rejects by what became of their maps.",
            ("line", "outcome"),
            registry=own,
        )
        self._without = Counter(
            "sise_ort_line_without_passes",
            "Rejects explained without scoring masks.",
            ("line",),
            registry=own,
        )
        self._passes = Counter(
            "sise_ort_line_forward_passes", "Network passes of explanations.", ("line",), registry=own
        )
        self._verdicts = Counter(
            "sise_ort_line_verdicts", "Maps by their verdict.", ("line", "trust"), registry=own
        )
        self._seconds = Histogram(
            "sise_ort_line_phase_seconds",
            "Seconds of each phase of a part: wait, classify, wait_explain, explain; total from submission to end.",
            ("line", "phase"),
            registry=own,
            buckets=SECONDS,
        )
        self._now = _Now()
        own.register(self._now)

    def add(self, line: Line) -> None:
        """Count what a line does from now on."""
        self._now.lines.append(line)
        line.observe(lambda result: self._count(line.name, result))

    def serve(self, port: int, host: str = "127.0.0.1") -> int:
        """Serve the metrics at ``/metrics``, by a thread of its own.

        Parameters
        ----------
        port : int
            0 takes any that is free.
        host : str
            Address to listen on.

        Returns
        -------
        int
            The port.

        Raises
        ------
        OutputError
            The port is taken.
        """
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            raise OutputError(f"metrics cannot be served at {host}:{port}: {error.strerror}") from error
        return int(server.server_port)

    def _count(self, line: str, result: Result) -> None:
        self._parts.labels(line, result.decision).inc()
        if result.decision == REJECTED:
            self._rejects.labels(line, result.label).inc()
            self._explained.labels(line, result.explained).inc()
        if result.without_passes:
            self._without.labels(line).inc()
        if result.explanations:  # one answer's passes are those of all
            self._passes.labels(line).inc(result.explanations[0].forward_passes)
        for verdict in result.verdicts:
            self._verdicts.labels(line, verdict.trust).inc()
        for phase, seconds in result.seconds.items():
            self._seconds.labels(line, phase).observe(max(seconds, 0.0))


class _Now(Collector):
    """What is so at the moment at which Prometheus asks."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "sise_ort_line_waiting", "Frames, rejects and records that wait.", labels=("line", "queue")
        )
        records = GaugeMetricFamily(
            "sise_ort_line_records",
            "Records kept, spooled and lost since the start.",
            labels=("line", "state"),
        )
        failing = GaugeMetricFamily(
            "sise_ort_line_store_failing", "1 while records cannot be written.", labels=("line",)
        )
        outbox = GaugeMetricFamily(
            "sise_ort_line_outbox", "Messages that a sink has still to take.", labels=("line", "sink")
        )
        for line in self.lines:
            status: dict[str, Any] = line.status()
            for queue in ("frames", "rejects", "records"):
                waiting.add_metric((line.name, queue), status[f"waiting_{queue}"])
            waiting.add_metric((line.name, "spool"), status["spool"])
            for state in ("kept", "spooled", "unkept"):
                records.add_metric((line.name, state), status[state])
            failing.add_metric((line.name,), float(bool(status["store"])))
            for sink, count in self._outbox(line).items():
                outbox.add_metric((line.name, sink), count)
        yield from (waiting, records, failing, outbox)

    def _outbox(self, line: Line) -> dict[str, int]:
        names = [sink.name for sink in line.settings.sinks]
        if not names or line.evidence is None:
            return {}
        try:
            with self._lock:
                counts = line.evidence.outbox.counts()
        except OutputError:  # the database is away, which store_failing tells
            return {}
        return {name: counts.get(name, 0) for name in names}
