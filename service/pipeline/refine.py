"""A scene's refinement as a stage of its job: what it may take, how it is watched, what became of
it.

Whatever goes wrong in it costs the refinement, never the job.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.scene.reconstruction import Reconstruction
from refinement.network import network_scene
from refinement.options import RefineOptions
from refinement.result import Reason, Refinement
from refinement.run import refine
from refinement.unrefined import unrefined
from service.clock import clock
from service.inference.cost import Cost
from service.inference.engine import Observer
from service.inference.memory import free_budget
from service.inference.refinement_cost import RefinementCost, RefinementWork
from service.inputs.originals import photographs
from service.inputs.prepared import PreparedScene
from service.settings import RefinementSettings, refinement_version
from service.states import REFINEMENT_STAGES
from service.telemetry.metrics import Metrics

_RESERVE = 0.05  # of the time that is left, for storing the result
_LEAST_SECONDS = 1.0
_NOT_BEGUN = "start"
FAILURES = (
    "colmap-not-installed", "crashed", "failed", "invalid-answer", "memory-limit", "not-finished",
    "time-limit",
)  # fmt: skip
"""Codes of reasons that say nothing of the pictures."""

_log = logging.getLogger("service")


class Refiner:
    """Refines the scenes that ask for it, `threads` of them working on one scene."""

    def __init__(
        self, settings: RefinementSettings, threads: int, device: str, metrics: Metrics
    ) -> None:
        """`device` is that of dense depth, as torch names it."""
        self._device = device
        self._settings = settings
        self._threads = threads
        self._metrics = metrics
        self.model = RefinementCost(threads)

    def cost(self, scene: PreparedScene) -> Cost | None:
        """What refining the scene will take; None if it does not ask for that."""
        work = _work(scene)
        if work is None or scene.refinement is None or refinement_version() is None:
            return None
        cost = self.model.predict(work)
        return Cost(
            min(cost.bytes, self._settings.refine_memory),
            min(cost.seconds, scene.refinement.seconds),
        )

    def refine(
        self,
        scene: PreparedScene,
        folder: Path,
        network: Reconstruction,
        deadline: float,
        report: Observer,
    ) -> tuple[Refinement, dict[str, float]]:
        """What refining `network` on the originals in `folder` gives, and seconds by stage.

        `report` is called often, with the share of the refinement that is done; what it raises ends
        the refinement and is raised again.
        """
        began = time.perf_counter()
        found = self._refined(scene, folder, network, deadline, report)
        seconds = _by_stage(found, time.perf_counter() - began)
        self._metrics.refinements.labels(outcome(found)).inc()
        work = _work(scene)
        if work is not None and not (_failed(found.reason) or _failed(found.dense_reason)):
            self.model.observe(work, seconds, found.peak_bytes)
        return found, seconds

    def _refined(
        self,
        scene: PreparedScene,
        folder: Path,
        network: Reconstruction,
        deadline: float,
        report: Observer,
    ) -> Refinement:
        order = scene.refinement
        assert order is not None
        left = (1 - _RESERVE) * (deadline - clock.now())
        if left < _LEAST_SECONDS:
            message = "The job's time was used up before the refinement began."
            return _not_tried(network, Reason("time-limit", message))
        options = RefineOptions(
            seconds=min(order.seconds, left),
            memory_bytes=min(self._settings.refine_memory, free_budget("cpu") or 2**63),
            camera=order.camera,
            distortion=order.distortion,
            pixels=order.pixels,
            threads=self._threads,
            device=self._device,
        )
        watch = _Watch(report, self._predicted(scene))
        try:
            pictures = photographs(folder, scene.originals)
            return refine(pictures, network, order.wanted, options, watch)
        except Exception as error:
            if error is watch.stopped:
                raise
            _log.exception("the refinement failed")
            message = "The refinement met a condition that it did not expect; the log says more."
            return _not_tried(network, Reason("failed", message))

    def _predicted(self, scene: PreparedScene) -> dict[str, float]:
        work = _work(scene)
        return {} if work is None else self.model.seconds(work)


@dataclass
class _Watch:
    """Turns a stage's share into that of the whole refinement, and remembers what ended it."""

    report: Observer
    predicted: dict[str, float]
    stopped: BaseException | None = None

    def __call__(self, stage: str, share: float) -> None:
        if stage == _NOT_BEGUN:
            stage = REFINEMENT_STAGES[0]
        elif stage not in REFINEMENT_STAGES:  # one of the methods that look for cameras
            stage = "cameras"
        before = REFINEMENT_STAGES[: REFINEMENT_STAGES.index(stage)]
        total = sum(self.predicted.values()) or 1.0
        done = sum(self.predicted.get(each, 0.0) for each in before)
        done += share * self.predicted.get(stage, 0.0)
        try:
            self.report(stage, min(done / total, 1.0))
        except BaseException as error:
            self.stopped = error
            raise


def _not_tried(network: Reconstruction, reason: Reason) -> Refinement:
    return unrefined(network_scene(network).cameras, reason)


def outcome(refinement: Refinement) -> str:
    """How a refinement ended, in one of the words of `quantvggt_refinements_total`."""
    if refinement.kept == len(refinement.pictures):
        return "refined"
    if refinement.kept:
        return "partly-refined"
    return "failed" if _failed(refinement.reason) else "not-refined"


def _failed(reason: Reason | None) -> bool:
    return reason is not None and reason.code in FAILURES


def _work(scene: PreparedScene) -> RefinementWork | None:
    order = scene.refinement
    if order is None:
        return None
    sizes = [(original.height, original.width) for original in scene.originals]
    return RefinementWork.of(sizes, order.pixels if order.wanted == "dense" else None)


def _by_stage(refinement: Refinement, total: float) -> dict[str, float]:
    """Seconds by stage: what is none of the others went into the cameras."""
    seconds: dict[str, Any] = {
        stage: refinement.seconds[stage]
        for stage in REFINEMENT_STAGES
        if stage != "cameras" and stage in refinement.seconds
    }
    return {**seconds, "cameras": max(total - sum(seconds.values()), 0.0)}
