from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model import VGGT
from model.files.checkpoint import load_checkpoint
from quantization.ablation import VARIANTS, ablate, table
from quantization.recipe import RECIPES
from quantvggt.command import main
from scenes.scene import Scene
from scenes.synthetic.generator import SyntheticScenes

CHEAP = ("no rotation", "middle of the scene's blocks in W4A8")


@pytest.fixture
def demo() -> VGGT:
    """The bundled network: one with random weights has no cameras to speak of."""
    net = load_checkpoint("demo")
    assert isinstance(net, VGGT)
    return net


@pytest.fixture
def scenes() -> dict[int, list[Scene]]:
    return {2: list(SyntheticScenes("test", 3, 2, 96, 96))}


def test_every_variant_is_compared_with_the_recipe_on_the_same_scenes(
    demo: VGGT, scenes: dict[int, list[Scene]]
) -> None:
    changes = {name: VARIANTS[name] for name in CHEAP}
    found = ablate(demo, RECIPES["quarot"], changes, (), scenes)
    assert [one.name for one in found] == ["the recipe", *CHEAP]
    base, *others = found
    for name, interval in base.change.items():
        assert interval is not None, name
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)
    assert base.verdict == ""
    for one in others:
        for name, interval in one.change.items():
            moved, before = one.deviation[name], base.deviation[name]
            assert interval is not None
            assert moved is not None
            assert before is not None
            assert interval.value == pytest.approx(moved.value - before.value, abs=1e-9)
            assert interval.value != 0
    assert table(found).count("\n") == 1 + len(found)


@pytest.mark.slow
def test_8_bit_activations_bring_the_answers_nearer_to_full_precision(
    demo: VGGT, scenes: dict[int, list[Scene]]
) -> None:
    images = [scene.images for scene in SyntheticScenes("calibration", 2, 2, 96, 96)]
    recipe = replace(RECIPES["best"], rounding="nearest", alpha=0.5)  # quicker
    narrow, wide = (
        ablate(demo, recipe, {}, images, scenes, wide=wide)[0] for wide in (False, True)
    )
    assert narrow.deviation["depth"] is not None
    assert wide.deviation["depth"] is not None
    assert wide.deviation["depth"].value < narrow.deviation["depth"].value


def test_every_variant_changes_the_recipe(net: VGGT) -> None:
    for name, change in VARIANTS.items():
        assert change(RECIPES["best"], net) != RECIPES["best"], name


def test_the_command_prints_a_table_and_writes_its_figures(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ablation.json"
    arguments = ["ablate", str(checkpoint), "--recipe", "quarot", "--samples", "2", "--pool", "2"]
    arguments += ["--frames", "2", "--views", "2", "--scenes", "2", "--out", str(file)]
    assert main([*arguments, "--only", "another seed"]) == 0
    printed = capsys.readouterr().out
    assert "| another seed | 2 |" in printed
    document = json.loads(file.read_text())
    assert [one["name"] for one in document["variants"]] == ["the recipe", "another seed"]
    assert document["recipe"] == "quarot"
