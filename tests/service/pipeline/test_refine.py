"""What the prediction of a refinement's cost learns from one that has ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refinement.network import network_scene
from refinement.result import Reason, Refinement
from refinement.unrefined import unrefined
from service.clock import clock
from service.inference.refinement_cost import RefinementWork
from service.inputs.options import Options
from service.inputs.originals import Original, RefinementOrder
from service.inputs.prepared import PreparedScene
from service.pipeline import refine
from service.pipeline.refine import Refiner
from service.settings import RefinementSettings
from service.telemetry.metrics import Metrics
from tests.refinement.rooms import make_room


@pytest.mark.parametrize(("dense_reason", "learns"), [("time-limit", False), (None, True)])
def test_time_of_dense_depth_that_was_stopped_is_not_taken_for_that_of_cameras(
    dense_reason: str | None, learns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make_room(tmp_path, seed=0, views=2, size=(56, 56))
    found = replace(
        unrefined(network_scene(room.network).cameras, Reason("already-supported", "They fit.")),
        dense_reason=None if dense_reason is None else Reason(dense_reason, "Stopped."),
    )

    def ended(*_: object) -> Refinement:
        return found

    monkeypatch.setattr(refine, "refine", ended)
    scene = PreparedScene(
        np.zeros((2, 56, 56, 3), np.uint8),
        np.ones((2, 56, 56), bool),
        room.network.transforms,
        ("0.png", "1.png"),
        "fit",
        Options(),
        {},
        RefinementOrder("dense", "auto", "none", 1024, 60.0),
        tuple(Original(56, 56, 1, "", None, None) for _ in range(2)),
    )
    refiner = Refiner(RefinementSettings(), 1, "cpu", Metrics(None, 1))
    work = RefinementWork.of([(56, 56)] * 2, 1024)
    before = refiner.model.seconds(work)
    refiner.refine(scene, tmp_path, room.network, clock.now() + 60, lambda stage, share: None)
    assert (refiner.model.seconds(work) != before) == learns
