from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from training import TrainingConfig, export, train
from training.curve import read_log
from training.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_carries_its_name(name: str) -> None:
    assert RECIPES[name].recipe == name


def test_free_cameras_are_learned_slowly_from_the_bundled_weights() -> None:
    free, rooms = RECIPES["free"], TrainingConfig()
    assert free.start == "demo"
    assert free.learning_rate == pytest.approx(0.3 * rooms.learning_rate)
    assert free.muon_learning_rate == pytest.approx(0.3 * rooms.muon_learning_rate)
    assert free.constant_until == 0
    assert (free.batches.dial_until, free.batches.standard_share) == (0.5, 0.4)
    assert free.validation_sets == ("std", "free")


def test_every_step_of_the_recipe_for_a_gpu_has_the_same_number_of_frames() -> None:
    batches = RECIPES["free-gpu"].batches
    for frames, _ in (*batches.short_frames, *batches.long_frames):
        assert batches.frames_per_step % frames == 0


# torch.compile looks at it, and hides that
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_the_recipe_for_a_gpu_runs_on_a_cpu_when_it_is_tiny(
    tiny: TrainingConfig, tmp_path: Path
) -> None:
    train(tiny, tmp_path / "start", minutes=0.0)
    export(tmp_path / "start", tmp_path / "checkpoint")
    recipe = RECIPES["free-gpu"]
    config = replace(
        recipe,
        preset="tiny",
        start=str(tmp_path / "checkpoint"),
        processes=1,
        steps=4,
        batches=replace(
            recipe.batches,
            frames_per_step=8,
            pool_frames=8,
            sizes=((24, 24),) * 3,
            large_sizes=((36, 36),) * 3,
        ),
        compiler="eager",  # traces the blocks as the real one does, and compiles nothing
        drawing_processes=1,
        validation_scenes=2,
    )
    train(config, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exported")
    facts = json.loads((tmp_path / "exported" / "training.json").read_text())
    assert facts["steps"] == 4
    assert "--recipe free-gpu" in facts["command"]
    assert [record["step"] for record in read_log(tmp_path / "run") if "validation" in record] == [
        0,
        4,
    ]


def test_the_number_of_steps_can_follow_the_time(
    tiny: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import run

    monkeypatch.setattr(run, "_FIT_SECONDS", 0.0)
    train(replace(tiny, steps=10**9), tmp_path, fit_minutes=0.02)
    last = read_log(tmp_path)[-1]
    assert 0 < last["step"] < 10**4
    assert "validation" in last  # the schedule came to its end


def test_a_run_of_several_processes_cannot_follow_the_time(
    tiny: TrainingConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="one process"):
        train(replace(tiny, processes=2), tmp_path, fit_minutes=1.0)
