"""One job's work, from its input on disk to its result on disk, in stages that can be watched and
stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import torch

from model.scene.chunking import join, take
from model.scene.loops import most_loops
from model.scene.reconstruction import Reconstruction
from model.scene.shrinking import shrink
from service.errors import OutOfMemory
from service.exports.catalogue import Catalogue
from service.exports.records import BY_NAME
from service.inference.engine import Engine, Observer, Pass, Tracks
from service.inference.plan import Plan
from service.inputs.prepared import PreparedScene
from service.pipeline.alignment import apply_knowledge
from service.pipeline.revisits import revisit
from service.pipeline.task import Task
from service.pipeline.tracks import TrackHistory
from service.result.document import (
    CONVENTIONS,
    ReconstructionDocument,
    describe_pictures,
    warnings_about,
    world_frame,
)
from service.result.scene import TRACKS, arrays_of
from service.states import STAGES
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import tracer

Report = Callable[[str, float], None]
"""Called with a stage and the share of the whole work that is done; raises to stop the work."""

_NETWORK_SHARE = 0.9

_log = logging.getLogger("service")


@dataclass
class _Run:
    """What is learnt while the passes run."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    out_of_memory: int = 0
    loops: list[dict[str, Any]] = field(default_factory=list)

    def add(self, done: Pass) -> None:
        for stage, seconds in done.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.peak_bytes = max(self.peak_bytes, done.peak_bytes)


class Work:
    """Everything that the work on a task needs."""

    def __init__(
        self, engine: Engine, storage: Storage, catalogue: Catalogue, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._storage = storage
        self._catalogue = catalogue
        self._metrics = metrics

    def do(self, task: Task, report: Report) -> dict[str, float]:
        """Reconstruct, store, make the outputs that were ordered; returns seconds by stage.

        Raises a ServiceError, or what `report` raises.
        """
        started = time.time()
        with self._storage.incoming(task.id) as folder:
            prepared = PreparedScene.load(folder)
        timings = {**prepared.seconds, "queue": max(started - task.created, 0.0)}
        plan = self._engine.planner.plan(len(prepared.pixels), *prepared.pixels.shape[1:3])
        run = _Run()
        with tracer.start_as_current_span("network", attributes={"passes": len(plan.chunks)}):
            scene, tracks, plan = self._passes(prepared, plan, run, report)
        timings.update(run.seconds)

        began = time.perf_counter()
        scene, scale = apply_knowledge(scene, prepared.options, self._engine.family.scale)
        timings["post"] = timings.get("post", 0.0) + time.perf_counter() - began

        report("store", 0.93)
        began = time.perf_counter()
        model = self._engine.document()
        document = ReconstructionDocument(
            id=task.id,
            created=_utc(task.created),
            started=_utc(started),
            finished=datetime.now(timezone.utc),
            mode=prepared.mode,
            model=model,
            world_frame=world_frame(scale),
            conventions=CONVENTIONS,
            scale=scale,
            options=prepared.options.text(),
            run=self._facts(plan, run),
            warnings=[*warnings_about(model), *prepared.warnings],
            timings={stage: timings[stage] for stage in STAGES if stage in timings},
            pictures=describe_pictures(scene, prepared.filenames),
        )
        arrays = arrays_of(scene, prepared.keep if plan.factor == 1 else _resized(prepared, scene))
        if tracks is not None:
            values = (tracks.points, tracks.visibility, tracks.confidence)
            found = {
                name: value for name, value in zip(TRACKS, values, strict=True) if value is not None
            }
            arrays.update({name: value.numpy() for name, value in found.items()})
        with tracer.start_as_current_span("store"):
            self._storage.save(task.result, arrays, document.model_dump_json().encode())
        timings["store"] = time.perf_counter() - began

        report("export", 0.97)
        began = time.perf_counter()
        for name in prepared.options.output_names:
            with tracer.start_as_current_span("export", attributes={"file": name}):
                made = self._catalogue.files(task.result, insist=True).file(BY_NAME[name])
            self._metrics.artifact_bytes.labels(name).inc(made.bytes)
        timings["export"] = time.perf_counter() - began
        self._count(prepared, plan, run, timings)
        return {stage: timings[stage] for stage in STAGES if stage in timings}

    def _passes(
        self, prepared: PreparedScene, plan: Plan, run: _Run, report: Report
    ) -> tuple[Reconstruction, Tracks | None, Plan]:
        """Run the network as planned; after running out of memory, with less, until nothing less is
        left."""
        while True:
            try:
                return *self._planned(prepared, plan, run, report), plan
            except OutOfMemory as error:
                run.out_of_memory += 1
                less = self._engine.planner.harder(plan, *prepared.pixels.shape[1:3])
                problem = error
            self._metrics.out_of_memory.labels("false" if less is None else "true").inc()
            if less is None:
                raise problem
            _log.warning(
                "out of memory with %d frames a pass; trying %s", plan.pass_frames, less.document()
            )
            plan = less

    def _planned(
        self, prepared: PreparedScene, plan: Plan, run: _Run, report: Report
    ) -> tuple[Reconstruction, Tracks | None]:
        batch = prepared.batch()
        if plan.factor < 1:
            batch = shrink(batch, plan.factor, self._engine.patch_size)
        total = len(plan.chunks) + (
            most_loops(len(plan.chunks)) if prepared.options.close_loops else 0
        )
        seeks_loops = total > len(plan.chunks)
        points = prepared.options.query_points
        history = TrackHistory(points, batch.transforms[0]) if points else None
        passes = []
        for number, frames in enumerate(plan.chunks):
            observe = self._observer(report, number, total)
            observe("transfer", 0.0)
            queries = None if history is None else history.queries(frames.start)
            done = self._engine.infer(take(batch, frames), observe, queries, seeks_loops)
            run.add(done)
            passes.append(done)
            if history is not None:
                history.extend(frames.start, done.tracks)
        places = None
        if seeks_loops:
            revisits = revisit(
                self._engine,
                batch,
                plan.chunks,
                passes,
                lambda i: self._observer(report, len(plan.chunks) + i, total, "loops"),
            )
            for done in revisits.passes:
                run.add(done)
            run.loops, places = revisits.document(), revisits.places
        report("post", 0.02 + _NETWORK_SHARE)
        began = time.perf_counter()
        scene = join([done.reconstruction for done in passes], plan.chunks, places)
        run.seconds["post"] = run.seconds.get("post", 0.0) + time.perf_counter() - began
        return scene, None if history is None else history.tracks

    def _observer(
        self, report: Report, number: int, total: int, name: str | None = None
    ) -> Observer:
        """Tells `report` how far pass `number` of `total` is, under its stages' names or under
        one."""
        heads = self._engine.family.heads_share

        def observe(stage: str, share: float) -> None:
            within = 1 - heads + heads * share if stage == "heads" else (1 - heads) * share
            report(name or stage, 0.02 + _NETWORK_SHARE * (number + within) / total)

        return observe

    def _facts(self, plan: Plan, run: _Run) -> dict[str, Any]:
        return {
            **plan.document(),
            "measured_memory_bytes": run.peak_bytes,
            "memory_budget_bytes": self._engine.planner.budget,
            "out_of_memory_recovered": run.out_of_memory,
            "loops": run.loops,
        }

    def _count(
        self, prepared: PreparedScene, plan: Plan, run: _Run, timings: dict[str, float]
    ) -> None:
        metrics = self._metrics
        for stage, seconds in timings.items():
            if stage != "upload":  # counted as it happened, also for requests that came to nothing
                metrics.stages.labels(stage).observe(seconds)
        for step in plan.steps:
            metrics.degraded.labels(step).inc()
        if run.peak_bytes:
            metrics.admission_error.observe(plan.cost.bytes / run.peak_bytes)
        metrics.frames.inc(len(prepared.pixels))
        metrics.points.inc(int(prepared.keep.sum()))


def _resized(prepared: PreparedScene, scene: Reconstruction) -> Any:
    """The user's masks on the smaller grid that the network ran on."""
    keep = torch.from_numpy(prepared.keep).float()[:, None]
    size = (scene.depth.shape[-2], scene.depth.shape[-1])
    return (
        torch.nn.functional.interpolate(keep, size=size, mode="nearest-exact")[:, 0].bool().numpy()
    )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
