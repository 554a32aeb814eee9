"""The network's part of a job: the passes of a plan, joined into one scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from model.scene.chunking import Chain, Place, joined, moved, shared_with_previous
from model.scene.loops import most_loops
from model.scene.preprocess import PreprocessedImages
from model.scene.reconstruction import Reconstruction
from model.scene.shrinking import shrink
from service.inference.engine import Engine, Observer
from service.inference.network_pass import Pass
from service.inference.plan import Plan
from service.inputs.prepared import PreparedScene
from service.pipeline.alignment import known_cameras, with_known_intrinsics
from service.pipeline.chunks import FinishedChunks
from service.pipeline.found import leave_found
from service.pipeline.masks import on_grid
from service.pipeline.report import Report
from service.pipeline.revisits import revisit
from service.pipeline.run import Run
from service.pipeline.scene_parts import SceneParts
from service.pipeline.tracks import TrackHistory


class Passes:
    """Runs the network over one prepared scene, whose input lies in `folder`; notes in `run` what
    that took.

    Passes of a scene that takes several are kept in `folder`, and those that lie there are not run
    again; `keep` is told of the file of each, and of that of the points that it shows. `report` is
    told how far it is; what it raises ends the work.
    """

    def __init__(
        self,
        engine: Engine,
        prepared: PreparedScene,
        folder: Path,
        keep: Callable[[Path], None],
        run: Run,
        report: Report,
    ) -> None:
        self._engine = engine
        self._prepared = prepared
        self._folder = folder
        self._keep = keep
        self._run = run
        self._report = report

    def scene(self, plan: Plan) -> SceneParts:
        """The scene as planned. Raises a ServiceError, OutOfMemory among them."""
        chunks = plan.chunks
        loops = most_loops(len(chunks)) if self._prepared.options.close_loops else 0
        total = len(chunks) + loops
        history = self._history(plan)
        if len(chunks) == 1:
            observe = self._observer(0, total)
            observe("transfer", 0.0)
            done = self._infer(plan, chunks[0], observe, history)
            self._note(done, chunks[0], history)
            return SceneParts.of(done.reconstruction)

        identity = [self._engine.digest, plan.factor, plan.attention_keys, loops > 0]
        identity.append(self._prepared.options.query_points)
        finished = FinishedChunks(
            self._folder, chunks, lambda frames: self._take(plan, frames), identity
        )
        chain, descriptors = Chain(chunks), []
        for number, frames in enumerate(chunks):
            observe = self._observer(number, total)
            observe("transfer", 0.0)
            found = finished.find(number)
            done = found or self._infer(plan, frames, observe, history, describe=loops > 0)
            if found is None:
                self._keep(finished.keep(number, done))
            else:
                self._run.resumed += 1
            self._note(done, frames, history)
            if done.descriptors is not None:
                descriptors.append(done.descriptors[shared_with_previous(chunks, number) :])
            began = time.perf_counter()
            at = chain.add(done.reconstruction)
            self._tell(plan, number, done.reconstruction, at, (number + 1) / total)
            self._run.took("post", time.perf_counter() - began)
        places = chain.places
        if loops:
            finished.watch = lambda: self._report("loops", len(chunks) / total)

            def look(number: int, frames: Sequence[int]) -> Pass:
                observe = self._observer(len(chunks) + number, total, "loops")
                return self._infer(plan, frames, observe)

            revisits = revisit(
                look, chunks, finished, places, torch.cat(descriptors), self._run.add
            )
            self._run.loops, places = revisits.document(), revisits.places
            finished.watch = lambda: None
        return SceneParts(lambda: joined(finished, chunks, places))

    def _tell(self, plan: Plan, number: int, part: Reconstruction, at: Place, share: float) -> None:
        """Show what a chunk has found to those who follow the job."""
        chunks = plan.chunks
        shared = shared_with_previous(chunks, number)
        new = moved(part, slice(shared, None), at.similarity)
        new = with_known_intrinsics(new, self._prepared.options, chunks[number].start + shared)
        frames = slice(chunks[number].start + shared, chunks[number].stop)
        rows, columns = new.mask.shape[1:]
        keep = on_grid(self._prepared.keep[frames], (rows, columns))
        found, points = leave_found(self._folder, number, len(chunks), frames.start, new, keep)
        self._keep(points)
        self._report("post", share, found)

    def _take(self, plan: Plan, frames: Sequence[int]) -> PreprocessedImages:
        batch = self._prepared.batch(frames)
        return batch if plan.factor == 1 else shrink(batch, plan.factor, self._engine.patch_size)

    def _history(self, plan: Plan) -> TrackHistory | None:
        points = self._prepared.options.query_points
        return TrackHistory(points, self._take(plan, [0]).transforms[0]) if points else None

    def _infer(
        self,
        plan: Plan,
        frames: Sequence[int],
        observe: Observer,
        history: TrackHistory | None = None,
        *,
        describe: bool = False,
    ) -> Pass:
        queries = None if history is None else history.queries(frames[0])
        cameras = None
        if self._engine.takes_cameras:
            cameras = known_cameras(self._prepared.options, frames)
        return self._engine.infer(
            self._take(plan, frames), observe, queries, describe, plan.attention_keys, cameras
        )

    def _note(self, done: Pass, frames: range, history: TrackHistory | None) -> None:
        self._run.add(done)
        if history is not None:
            history.extend(frames.start, done.tracks)
            self._run.tracks = history.tracks

    def _observer(self, number: int, total: int, name: str | None = None) -> Observer:
        """Tells `report` how far pass `number` of `total` is, under its stages' names or under
        one."""
        heads = self._engine.family.heads_share

        def observe(stage: str, share: float) -> None:
            within = 1 - heads + heads * share if stage == "heads" else (1 - heads) * share
            self._report(name or stage, (number + within) / total)

        return observe
