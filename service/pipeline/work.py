"""One job's work, from its input on disk to its result on disk, in stages that can be watched and
stopped."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from model.scene.chunking import join, take
from model.scene.loops import most_loops
from model.scene.reconstruction import Reconstruction
from model.scene.shrinking import shrink
from refinement.result import Refinement
from service.errors import OutOfMemory
from service.exports.catalogue import Catalogue
from service.exports.records import BY_NAME
from service.inference.engine import Engine, Observer, Pass, Tracks
from service.inference.plan import Asked, Plan
from service.inputs.originals import original_file
from service.inputs.prepared import PreparedScene
from service.pipeline.alignment import apply_knowledge, with_known_intrinsics
from service.pipeline.refine import Refiner
from service.pipeline.report import Report
from service.pipeline.revisits import revisit
from service.pipeline.task import Task
from service.pipeline.tracks import TrackHistory
from service.result.document import (
    CONVENTIONS,
    ReconstructionDocument,
    ScaleDocument,
    describe_pictures,
    describe_refinement,
    world_frame,
)
from service.result.refined import moved, refined
from service.result.scene import TRACKS, arrays_of
from service.result.warnings import warnings_about, warnings_about_run
from service.settings import refinement_version
from service.states import NETWORK_STAGES, STAGES
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import tracer

_BEGUN, _DONE = 0.02, 0.92  # between them lie the network and the refinement

_log = logging.getLogger("service")


@dataclass
class _Run:
    """What is learnt while the work goes on. `started` are seconds since the epoch, `seconds` are
    by stage."""

    started: float
    seconds: dict[str, float]
    peak_bytes: int = 0
    out_of_memory: int = 0
    loops: list[dict[str, Any]] = field(default_factory=list)
    tracks: Tracks | None = None
    refinement: Refinement | None = None
    scale: ScaleDocument = field(default_factory=ScaleDocument)

    def add(self, done: Pass) -> None:
        for stage, seconds in done.seconds.items():
            self.took(stage, seconds)
        self.peak_bytes = max(self.peak_bytes, done.peak_bytes)

    def took(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, in the order of the stages."""
        return {stage: self.seconds[stage] for stage in STAGES if stage in self.seconds}


class Work:
    """Everything that the work on a task needs."""

    def __init__(
        self,
        engine: Engine,
        refiner: Refiner,
        storage: Storage,
        catalogue: Catalogue,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._refiner = refiner
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
            run = _Run(started, {**prepared.seconds, "queue": max(started - task.created, 0.0)})
            asked = Asked(prepared.options.attention_keys, prepared.options.passes)
            frames, height, width = prepared.pixels.shape[:3]
            plan = self._engine.planner.plan(frames, height, width, asked)
            plan = replace(plan, refinement=self._refiner.cost(prepared))
            with tracer.start_as_current_span("network", attributes={"passes": len(plan.chunks)}):
                scene, plan = self._passes(prepared, plan, run, report)
            scene = with_known_intrinsics(scene, prepared.options)
            if prepared.refinement is not None:
                with tracer.start_as_current_span("refinement"):
                    scene = self._refined(task, prepared, folder, scene, plan, run, report)
            scene = self._aligned(prepared, scene, run)
            report("store", 0.93)
            with tracer.start_as_current_span("store"):
                self._store(task, prepared, folder, scene, plan, run)

        report("export", 0.97)
        began = time.perf_counter()
        files = self._catalogue.files(task.result, insist=True)
        for name in prepared.options.output_names:
            if not BY_NAME[name].fits(files.document):
                continue  # its link in the document is null
            with tracer.start_as_current_span("export", attributes={"file": name}):
                made = files.file(BY_NAME[name])
            self._metrics.artifact_bytes.labels(name).inc(made.bytes)
        run.took("export", time.perf_counter() - began)
        self._count(prepared, plan, run)
        return run.timings

    def _refined(
        self,
        task: Task,
        prepared: PreparedScene,
        folder: Path,
        scene: Reconstruction,
        plan: Plan,
        run: _Run,
        report: Report,
    ) -> Reconstruction:
        """The scene with what was refined; exactly the network's if nothing was."""
        begun = _BEGUN + (_DONE - _BEGUN) * _network_share(plan)

        def observe(stage: str, share: float) -> None:
            report(stage, begun + (_DONE - begun) * share)

        run.refinement, seconds = self._refiner.refine(
            prepared, folder, scene, task.deadline, observe
        )
        for stage, took in seconds.items():
            run.took(stage, took)
        return refined(scene, run.refinement) if run.refinement.kept else scene

    def _aligned(self, prepared: PreparedScene, scene: Reconstruction, run: _Run) -> Reconstruction:
        """The scene, and its refinement with it, where what is known puts it."""
        began = time.perf_counter()
        aligned = apply_knowledge(scene, prepared.options, self._engine.unit, run.refinement)
        if run.refinement is not None:
            run.refinement = moved(run.refinement, aligned.similarity)
        run.scale = aligned.scale
        run.took("post", time.perf_counter() - began)
        return aligned.scene

    def _store(
        self,
        task: Task,
        prepared: PreparedScene,
        folder: Path,
        scene: Reconstruction,
        plan: Plan,
        run: _Run,
    ) -> None:
        began = time.perf_counter()
        model = self._engine.document()
        order, found = prepared.refinement, run.refinement
        refinement = None
        if order is not None and found is not None:
            refinement = describe_refinement(found, order.wanted)
        document = ReconstructionDocument(
            id=task.id,
            created=_utc(task.created),
            started=_utc(run.started),
            finished=datetime.now(timezone.utc),
            mode=prepared.mode,
            model=model,
            world_frame=world_frame(run.scale),
            conventions=CONVENTIONS,
            scale=run.scale,
            options=prepared.options.text(),
            run=self._facts(plan, run),
            refinement=refinement,
            warnings=[
                *warnings_about(
                    model,
                    refinement,
                    len(prepared.pixels),
                    () if found is None else found.notes,
                    refinable=refinement_version() is not None,
                ),
                *warnings_about_run(len(plan.chunks), plan.factor),
                *prepared.warnings,
            ],
            timings=run.timings,
            pictures=describe_pictures(scene, prepared.filenames, found),
        )
        keep = prepared.keep if plan.factor == 1 else _resized(prepared, scene)
        originals = [
            (folder / original_file(index)).read_bytes() for index in range(len(prepared.originals))
        ]
        arrays = arrays_of(scene, keep, found, originals, prepared.previews)
        if run.tracks is not None:
            values = (run.tracks.points, run.tracks.visibility, run.tracks.confidence)
            tracks = {
                name: value for name, value in zip(TRACKS, values, strict=True) if value is not None
            }
            arrays.update({name: value.numpy() for name, value in tracks.items()})
        self._storage.save(task.result, arrays, document.model_dump_json().encode())
        run.took("store", time.perf_counter() - began)

    def _passes(
        self, prepared: PreparedScene, plan: Plan, run: _Run, report: Report
    ) -> tuple[Reconstruction, Plan]:
        """Run the network as planned; after running out of memory, with less, until nothing less is
        left."""
        while True:
            try:
                return self._planned(prepared, plan, run, report), plan
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
    ) -> Reconstruction:
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
            observe = self._observer(report, plan, number, total)
            observe("transfer", 0.0)
            queries = None if history is None else history.queries(frames.start)
            done = self._engine.infer(
                take(batch, frames), observe, queries, seeks_loops, plan.attention_keys
            )
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
                lambda i: self._observer(report, plan, len(plan.chunks) + i, total, "loops"),
                plan.attention_keys,
            )
            for done in revisits.passes:
                run.add(done)
            run.loops, places = revisits.document(), revisits.places
        report("post", _BEGUN + (_DONE - _BEGUN) * _network_share(plan))
        began = time.perf_counter()
        scene = join([done.reconstruction for done in passes], plan.chunks, places)
        run.took("post", time.perf_counter() - began)
        run.tracks = None if history is None else history.tracks
        return scene

    def _observer(
        self, report: Report, plan: Plan, number: int, total: int, name: str | None = None
    ) -> Observer:
        """Tells `report` how far pass `number` of `total` is, under its stages' names or under
        one."""
        heads = self._engine.family.heads_share
        all_passes = (_DONE - _BEGUN) * _network_share(plan)

        def observe(stage: str, share: float) -> None:
            within = 1 - heads + heads * share if stage == "heads" else (1 - heads) * share
            report(name or stage, _BEGUN + all_passes * (number + within) / total)

        return observe

    def _facts(self, plan: Plan, run: _Run) -> dict[str, Any]:
        return {
            **plan.document(),
            "measured_memory_bytes": run.peak_bytes,
            "measured_seconds": round(
                sum(run.seconds.get(stage, 0.0) for stage in NETWORK_STAGES), 3
            ),
            "memory_budget_bytes": self._engine.planner.budget,
            "out_of_memory_recovered": run.out_of_memory,
            "loops": run.loops,
        }

    def _count(self, prepared: PreparedScene, plan: Plan, run: _Run) -> None:
        metrics = self._metrics
        for stage, seconds in run.seconds.items():
            if stage != "upload":  # counted as it happened, also for requests that came to nothing
                metrics.stages.labels(stage).observe(seconds)
        for step in plan.steps:
            metrics.degraded.labels(step).inc()
        if run.peak_bytes:
            metrics.admission_error.observe(plan.cost.bytes / run.peak_bytes)
        metrics.frames.inc(len(prepared.pixels))
        metrics.points.inc(int(prepared.keep.sum()))


def _network_share(plan: Plan) -> float:
    """Of the time that the network and the refinement take."""
    return plan.cost.seconds / plan.seconds if plan.seconds > 0 else 1.0


def _resized(prepared: PreparedScene, scene: Reconstruction) -> Any:
    """The user's masks on the smaller grid that the network ran on."""
    keep = torch.from_numpy(prepared.keep).float()[:, None]
    size = (scene.depth.shape[-2], scene.depth.shape[-1])
    return (
        torch.nn.functional.interpolate(keep, size=size, mode="nearest-exact")[:, 0].bool().numpy()
    )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
