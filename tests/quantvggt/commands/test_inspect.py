from __future__ import annotations

from pathlib import Path

import pytest

from model.files.artifact import save
from model.files.manifest import read
from quantization.convert import quantize_network
from quantization.recipe import RECIPES
from quantvggt.commands.inspect import summary
from tests.model.families.networks import TINY


@pytest.mark.parametrize(("commercial", "word"), [(True, "yes"), (False, "no"), (None, "unknown")])
def test_an_artifact_shows_the_licence_that_it_inherits(
    tmp_path: Path, commercial: bool | None, word: str
) -> None:
    provenance = {
        "checkpoint": "someone/Some",
        "weights_licence": "Some-1.0",
        "commercial_use": commercial,
        "licence_source": "its card",
    }
    made = quantize_network(TINY["any-view"](), RECIPES["rtn"])
    save(made, tmp_path / "artifact", provenance=provenance)
    found = summary(read(tmp_path / "artifact"))
    assert found["licence"] == f"Some-1.0, commercial use: {word} (its card)"
    assert found["source"] == "checkpoint someone/Some"
    assert found["family"] == "depth_anything_3"
    assert found["heads"] == "camera, depth"
