"""Figures on the server for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Upper limits of the buckets of durations."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper limits of the buckets of batch sizes."""


class Metrics:
    """Figures on one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hmn_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "hmn_request_seconds", "Duration of requests.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "hmn_batch_questions",
            "Questions per call.",
            buckets=SIZES,
            registry=self.registry,
        )
        self.questions = Counter("hmn_questions", "Questions by outcome.", ["known"], registry=self.registry)
        self.reads = Counter("hmn_reads", "Reads of the memory and its index.", registry=self.registry)
        self.written = Counter("hmn_facts_written", "Facts by change.", ["change"], registry=self.registry)
        self.in_flight = Gauge("hmn_in_flight", "Requests that are worked on.", registry=self.registry)
        self.refused = Counter("hmn_refused", "Requests that must come again.", registry=self.registry)
        self.facts = Gauge("hmn_facts", "Facts of the table.", registry=self.registry)
        self.version = Gauge("hmn_version", "Number of the last write.", registry=self.registry)
