"""One job's work, from its input on disk to its result on disk, in stages that can be watched and
stopped."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from model.scene.shrinking import shrunk
from service.clock import clock
from service.errors import OutOfMemory
from service.exports.catalogue import Catalogue
from service.exports.records import BY_NAME
from service.inference.models import Models
from service.inference.plan import Asked, Plan
from service.inputs.originals import original_file
from service.inputs.prepared import PreparedScene
from service.pipeline.alignment import apply_knowledge, with_known_intrinsics
from service.pipeline.masks import on_grid
from service.pipeline.passes import Passes
from service.pipeline.refine import Refiner
from service.pipeline.report import FoundChunk, Report
from service.pipeline.run import Run
from service.pipeline.scene_parts import SceneParts
from service.pipeline.task import Task
from service.result.array_file import shape_of
from service.result.document import (
    CONVENTIONS,
    PictureDocument,
    ReconstructionDocument,
    describe_pictures,
    describe_refinement,
    world_frame,
)
from service.result.refined import moved, refined
from service.result.scene import arrays_beside, map_shapes, maps_of
from service.result.warnings import warnings_about, warnings_about_run
from service.settings import refinement_version
from service.storage.arrays import created
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import tracer

_BEGUN, _DONE = 0.02, 0.92  # between them lie the network and the refinement
_STORE, _EXPORT = 0.93, 0.97

_log = logging.getLogger("service")


class Work:
    """Everything that the work on a task needs."""

    def __init__(
        self,
        models: Models,
        refiner: Refiner,
        storage: Storage,
        catalogue: Catalogue,
        metrics: Metrics,
    ) -> None:
        self._models = models
        self._refiner = refiner
        self._storage = storage
        self._catalogue = catalogue
        self._metrics = metrics

    def do(self, task: Task, report: Report) -> dict[str, float]:
        """Reconstruct, store, make the outputs that were ordered; returns seconds by stage.

        Raises a ServiceError, or what `report` raises.
        """
        started = clock.now()
        with self._storage.incoming(task.id) as folder:
            prepared = PreparedScene.load(folder)
            name = self._models.recorded(prepared.options.model)
            engine = self._models.engines[name]
            run = Run(
                engine, started, {**prepared.seconds, "queue": max(started - task.created, 0.0)}
            )
            frames, height, width = prepared.pixels.shape[:3]
            asked = Asked(prepared.options.attention_keys, prepared.options.passes)
            plan = engine.planner.plan(frames, height, width, asked)
            plan = replace(plan, refinement=self._refiner.cost(prepared))
            with tracer.start_as_current_span("network", attributes={"passes": len(plan.chunks)}):
                report("transfer", _BEGUN)  # where its model has to be loaded first, it waits here
                with self._models.loaded(name):
                    scene, plan = self._passes(task, prepared, folder, plan, run, report)
            self._metrics.model_seconds.labels(name).inc(run.network_seconds)
            single = engine.single_pictures
            scene = scene.changed(
                lambda part, first: with_known_intrinsics(part, prepared.options, first, single)
            )
            if prepared.refinement is not None:
                with tracer.start_as_current_span("refinement"):
                    scene = self._refined(task, prepared, folder, scene, plan, run, report)
            report("post", _DONE)
            scene = self._aligned(prepared, scene, run)
            report("store", _STORE)
            with tracer.start_as_current_span("store"):
                self._store(task, prepared, folder, scene, plan, run, report)

        report("export", _EXPORT)
        began = time.perf_counter()
        files = self._catalogue.files(task.result, insist=True)
        for name in prepared.options.output_names:
            if not BY_NAME[name].fits(files.document):
                continue  # its link in the document is null
            report("export", _EXPORT)
            with tracer.start_as_current_span("export", attributes={"file": name}):
                made = files.file(BY_NAME[name])
            self._metrics.artifact_bytes.labels(name).inc(made.bytes)
        run.took("export", time.perf_counter() - began)
        self._count(prepared, plan, run)
        return run.timings

    def _passes(
        self,
        task: Task,
        prepared: PreparedScene,
        folder: Path,
        plan: Plan,
        run: Run,
        report: Report,
    ) -> tuple[SceneParts, Plan]:
        """Run the network as planned; after running out of memory, with less, until nothing less is
        left."""
        keep = partial(self._storage.keep, task.id)
        while True:
            all_passes = (_DONE - _BEGUN) * _network_share(plan)

            def observe(
                stage: str, share: float, chunk: FoundChunk | None = None, of: float = all_passes
            ) -> None:
                report(stage, _BEGUN + of * share, chunk)

            try:
                passes = Passes(run.engine, prepared, folder, keep, run, observe)
                return passes.scene(plan), plan
            except OutOfMemory as error:
                run.out_of_memory += 1
                less = run.engine.planner.harder(plan, *prepared.pixels.shape[1:3])
                problem = error
            self._metrics.out_of_memory.labels("false" if less is None else "true").inc()
            if less is None:
                run.engine.health.exhausted()
                raise problem
            _log.warning(
                "out of memory with %d frames a pass; trying %s", plan.pass_frames, less.document()
            )
            plan = less

    def _refined(
        self,
        task: Task,
        prepared: PreparedScene,
        folder: Path,
        scene: SceneParts,
        plan: Plan,
        run: Run,
        report: Report,
    ) -> SceneParts:
        """The scene with what was refined; exactly the network's if nothing was."""
        begun = _BEGUN + (_DONE - _BEGUN) * _network_share(plan)

        def observe(stage: str, share: float) -> None:
            report(stage, begun + (_DONE - begun) * share)

        network = scene.whole()
        run.refinement, seconds = self._refiner.refine(
            prepared, folder, network, task.deadline, observe
        )
        for stage, took in seconds.items():
            run.took(stage, took)
        kept = refined(network, run.refinement) if run.refinement.kept else network
        return SceneParts.of(kept)

    def _aligned(self, prepared: PreparedScene, scene: SceneParts, run: Run) -> SceneParts:
        """The scene, and its refinement with it, where what is known puts it."""
        began = time.perf_counter()
        unit = run.engine.unit
        if run.engine.single_pictures and not prepared.options.knows_intrinsic(0):
            unit = "arbitrary"
        aligned = apply_knowledge(
            scene.extrinsics, scene.frame, prepared.options, unit, run.refinement
        )
        if run.refinement is not None and aligned.similarity is not None:
            run.refinement = moved(run.refinement, aligned.similarity)
        run.scale = aligned.scale
        run.took("post", time.perf_counter() - began)
        return scene.changed(lambda part, first: aligned.moved(part))

    def _store(
        self,
        task: Task,
        prepared: PreparedScene,
        folder: Path,
        scene: SceneParts,
        plan: Plan,
        run: Run,
        report: Report,
    ) -> None:
        """Write the result part by part."""
        began = time.perf_counter()
        frames, height, width = prepared.pixels.shape[:3]
        size = shrunk(height, width, plan.factor, run.engine.patch_size)
        originals = [
            (folder / original_file(index)).read_bytes() for index in range(len(prepared.originals))
        ]
        found = run.tracks
        tracks = () if found is None else (found.points, found.visibility, found.confidence)
        beside = arrays_beside(run.refinement, originals, prepared.previews, tracks)
        shapes = {name: shape_of(array) for name, array in beside.items()}

        def write(result: Path) -> bytes:
            pictures: list[PictureDocument] = []
            with created(result, {**map_shapes(frames, *size), **shapes}) as file:
                for name, array in beside.items():
                    file.write(name, array)
                for first, part in scene:
                    report("store", _STORE + (_EXPORT - _STORE) * first / frames)
                    mine = slice(first, first + len(part.transforms))
                    for name, array in maps_of(part, on_grid(prepared.keep[mine], size)).items():
                        file.write(name, array, first)
                    names = prepared.filenames[mine]
                    pictures += describe_pictures(part, names, run.refinement, first)
            document = self._document(task, prepared, plan, run, pictures)
            return document.model_dump_json().encode()

        self._storage.save(task.result, write)
        run.took("store", time.perf_counter() - began)

    def _document(
        self,
        task: Task,
        prepared: PreparedScene,
        plan: Plan,
        run: Run,
        pictures: list[PictureDocument],
    ) -> ReconstructionDocument:
        model = run.engine.document()
        order, found = prepared.refinement, run.refinement
        refinement = None
        if order is not None and found is not None:
            refinement = describe_refinement(found, order.wanted)
        return ReconstructionDocument(
            id=task.id,
            created=_utc(task.created),
            started=_utc(run.started),
            finished=_utc(clock.now()),
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
            pictures=pictures,
        )

    def _facts(self, plan: Plan, run: Run) -> dict[str, Any]:
        return {
            **plan.document(),
            "measured_memory_bytes": run.peak_bytes,
            "measured_seconds": round(run.network_seconds, 3),
            "resumed_passes": run.resumed,
            "memory_budget_bytes": run.engine.planner.budget,
            "out_of_memory_recovered": run.out_of_memory,
            "loops": run.loops,
        }

    def _count(self, prepared: PreparedScene, plan: Plan, run: Run) -> None:
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


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
