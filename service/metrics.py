"""What Prometheus reads from /metrics. Every app has its own registry; labels have few, known values."""

from __future__ import annotations

import torch
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from service.problems import PROBLEMS

STAGES = ("upload", "decode", "preprocess", "queue", "network", "store", "export")
"""A request's stages in order; ``export`` is the making of a file for a download."""

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Metrics:
    """The service's counters, gauges and histograms. Seconds and bytes throughout."""

    def __init__(self, device: str, queue_capacity: int) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "recon_requests", "Reconstruction requests by outcome.", ["outcome"], registry=self.registry
        )
        self.stages = Histogram(
            "recon_stage_seconds", "Time by stage.", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        self.frames = Counter("recon_frames", "Pictures reconstructed.", registry=self.registry)
        self.queue_depth = Gauge(
            "recon_queue_depth", "Requests admitted and not answered yet, the running one included.",
            registry=self.registry,
        )  # fmt: skip
        Gauge(
            "recon_queue_capacity", "Requests that can be admitted at once.", registry=self.registry
        ).set(queue_capacity)  # fmt: skip
        self.ready = Gauge("recon_ready", "1 once the model is loaded and warmed up.", registry=self.registry)
        self.build = Info("recon_build", "What runs here.", registry=self.registry)
        for outcome in ("ok", "disconnected", *PROBLEMS):
            self.requests.labels(outcome)
        for stage in STAGES:
            self.stages.labels(stage)
        if torch.device(device).type == "cuda":
            memory = Gauge("recon_gpu_memory_bytes", "GPU memory by kind.", ["kind"], registry=self.registry)
            memory.labels("allocated").set_function(lambda: torch.cuda.memory_allocated(device))
            memory.labels("reserved").set_function(lambda: torch.cuda.memory_reserved(device))
            memory.labels("peak").set_function(lambda: torch.cuda.max_memory_allocated(device))

    def text(self) -> bytes:
        """The Prometheus text exposition."""
        return generate_latest(self.registry)
