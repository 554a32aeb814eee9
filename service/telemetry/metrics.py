"""What Prometheus reads from /metrics. Every app has its own registry; labels have few, known
values."""

from __future__ import annotations

from collections.abc import Sequence

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

from service.errors import ERRORS, Refusal, Unavailable
from service.states import ENDED, STAGES

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_RATIOS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
_FRAMES = (1, 2, 4, 8, 16, 32, 64, 128)

REJECTIONS = tuple(code for code, kind in ERRORS.items() if issubclass(kind, Refusal | Unavailable))

REFINEMENT_OUTCOMES = ("refined", "partly-refined", "not-refined", "failed")


class Metrics:
    """The service's counters, gauges and histograms. Seconds and bytes throughout."""

    def __init__(self, device: str | None, queue_capacity: int, files: Sequence[str] = ()) -> None:
        """`device` is the one whose memory to watch; None if the network runs in other processes.

        `files` are those whose bytes are counted from the start; others as they come.
        """
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "quantvggt_requests",
            "Reconstruction requests by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.jobs = Counter(
            "quantvggt_jobs", "Reconstructions by how they ended.", ["state"], registry=registry
        )
        self.reused = Counter(
            "quantvggt_reused", "Requests answered with an earlier result.", registry=registry
        )
        self.queue_depth = Gauge(
            "quantvggt_queue_depth",
            "Requests admitted and not done yet, those that run included. Of all replicas together "
            "where they share a "
            "database: take the maximum over them, not the sum.",
            registry=registry,
        )
        capacity = Gauge(
            "quantvggt_queue_capacity", "Requests that can be admitted at once.", registry=registry
        )
        capacity.set(queue_capacity)
        self.queue_wait = Histogram(
            "quantvggt_queue_wait_seconds",
            "Time from acceptance to work.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "quantvggt_stage_seconds",
            "Time by stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.job_seconds = Histogram(
            "quantvggt_job_seconds",
            "Time of work by number of frames, rounded up to a power of two.",
            ["frames_bucket"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.frames = Counter("quantvggt_frames", "Pictures reconstructed.", registry=registry)
        self.points = Counter(
            "quantvggt_points", "Pixels given a place in space.", registry=registry
        )
        self.rejected = Counter(
            "quantvggt_rejected", "Requests refused, by problem.", ["reason"], registry=registry
        )
        self.cancelled = Counter(
            "quantvggt_cancelled",
            "Reconstructions cancelled, by what they were doing.",
            ["phase"],
            registry=registry,
        )
        self.out_of_memory = Counter(
            "quantvggt_oom", "Times that the device ran out of memory, by whether less was tried.",
            ["recovered"], registry=registry,
        )  # fmt: skip
        self.degraded = Counter(
            "quantvggt_degraded",
            "Reconstructions cut down to fit the memory budget, by how.",
            ["step"],
            registry=registry,
        )
        self.model_seconds = Counter(
            "quantvggt_model_seconds",
            "Seconds of reconstructions that the network took, by model.",
            ["model"],
            registry=registry,
        )
        self.model_loads = Counter(
            "quantvggt_model_loads",
            "Times that a model was loaded, by model.",
            ["model"],
            registry=registry,
        )
        self.model_bytes = Gauge(
            "quantvggt_model_bytes",
            "Memory that the weights of a model take now, by model.",
            ["model"],
            registry=registry,
        )
        self.refinements = Counter(
            "quantvggt_refinements",
            "Refinements on the original pixels, by how many cameras they improved: all, some, "
            "none, or failed for another cause than the pictures.",
            ["outcome"],
            registry=registry,
        )
        self.webhooks = Counter(
            "quantvggt_webhooks",
            "Calls of callback addresses: delivered, failed and tried again, or given up.",
            ["outcome"],
            registry=registry,
        )
        self.deliveries = Counter(
            "quantvggt_deliveries",
            "Files sent to URLs of requests: delivered, failed and tried again, or given up.",
            ["outcome"],
            registry=registry,
        )
        self.artifact_bytes = Counter(
            "quantvggt_artifact_bytes", "Bytes of files made.", ["format"], registry=registry
        )
        self.admission_error = Histogram(
            "quantvggt_admission_error_ratio",
            "Predicted over measured peak memory.",
            buckets=_RATIOS,
            registry=registry,
        )
        self.ready = Gauge(
            "quantvggt_ready",
            "1 once the model is loaded, until the service drains.",
            registry=registry,
        )
        self.draining = Gauge(
            "quantvggt_draining", "1 while the service shuts down.", registry=registry
        )
        self.replicas = Gauge(
            "quantvggt_replicas", "Copies of the network by state.", ["state"], registry=registry
        )
        self.build = Info("quantvggt_build", "What runs here.", registry=registry)
        for label, values in (
            (self.requests, ("ok", "accepted", "disconnected", *ERRORS)),
            (self.jobs, ENDED),
            (self.stages, STAGES),
            (self.job_seconds, tuple(map(str, _FRAMES))),
            (self.rejected, REJECTIONS),
            (self.cancelled, ("queued", "running")),
            (self.out_of_memory, ("true", "false")),
            (self.degraded, ("chunked", "reduced-resolution")),
            (self.refinements, REFINEMENT_OUTCOMES),
            (self.webhooks, ("delivered", "failed", "given-up")),
            (self.deliveries, ("delivered", "failed", "given-up")),
            (self.artifact_bytes, files),
        ):
            for value in values:
                label.labels(value)
        self._watch_memory(device)

    def frames_bucket(self, frames: int) -> str:
        """The label for a number of frames: the next power of two, at most the largest bucket."""
        return str(next((bucket for bucket in _FRAMES if frames <= bucket), _FRAMES[-1]))

    def text(self) -> bytes:
        """The Prometheus text exposition."""
        return generate_latest(self.registry)

    def _watch_memory(self, device: str | None) -> None:
        if device is None or torch.device(device).type != "cuda":
            return
        memory = Gauge(
            "quantvggt_gpu_memory_bytes", "GPU memory by kind.", ["kind"], registry=self.registry
        )
        memory.labels("allocated").set_function(lambda: torch.cuda.memory_allocated(device))
        memory.labels("reserved").set_function(lambda: torch.cuda.memory_reserved(device))
        memory.labels("peak").set_function(lambda: torch.cuda.max_memory_allocated(device))
        memory.labels("free").set_function(lambda: torch.cuda.mem_get_info(device)[0])
