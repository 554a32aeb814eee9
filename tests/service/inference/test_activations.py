from __future__ import annotations

from pathlib import Path

import pytest

from service.inference import activations
from service.inference.engine import Engine
from service.settings import InferenceSettings


@pytest.mark.parametrize(("cost", "wide"), [(1.04, True), (1.06, False)])
def test_by_default_the_measured_cost_chooses_the_width(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, cost: float, wide: bool
) -> None:
    monkeypatch.setattr(activations, "wide_cost", lambda shapes, device: cost)
    engine = Engine(InferenceSettings(artifact=artifact))
    engine.load()
    document = engine.document()
    assert document.activations is not None
    assert document.activations.model_dump() == {"asked": "auto", "wide": wide, "cost": cost}
