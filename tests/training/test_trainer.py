from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import VGGT, VGGTConfig
from training import TrainingConfig, TrainingError, export, train
from training.curve import read_log
from training.objective import Objective
from training.state import load_state


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    state = load_state(folder)
    assert state is not None
    return state[1]


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tiny: TrainingConfig, tmp_path: Path) -> None:
    train(tiny, tmp_path / "whole")
    train(tiny, tmp_path / "pieces", minutes=0.0)
    for step in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            _interrupt_at(step, patch)
            with pytest.raises(KeyboardInterrupt):
                train(tiny, tmp_path / "pieces")
    train(tiny, tmp_path / "pieces")
    whole, pieces = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "pieces")
    assert whole.keys() == pieces.keys()
    assert [name for name in whole if not torch.equal(whole[name], pieces[name])] == []


def _interrupt_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Saves after every step and interrupts the run before `step`."""
    from training import trainer

    advance = trainer._Run._advance

    def interrupted(run: trainer._Run) -> tuple[dict[str, float], int]:
        if run.step == step:
            raise KeyboardInterrupt
        return advance(run)

    patch.setattr(trainer, "SAVE_EVERY", 1)
    patch.setattr(trainer._Run, "_advance", interrupted)


def test_two_processes_compute_nearly_what_one_does(tiny: TrainingConfig, tmp_path: Path) -> None:
    short = replace(tiny, steps=1)
    train(short, tmp_path / "one")
    train(replace(short, processes=2), tmp_path / "two")
    one, two = read_log(tmp_path / "one")[0], read_log(tmp_path / "two")[0]
    assert two["losses"]["camera"] == pytest.approx(one["losses"]["camera"], rel=1e-4)


def test_a_finished_run_can_be_exported_and_loaded(
    tiny: TrainingConfig, tiny_network: VGGTConfig, tmp_path: Path
) -> None:
    train(tiny, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "checkpoint")
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    config = VGGTConfig.from_dict(json.loads((tmp_path / "checkpoint" / "config.json").read_text()))
    assert config == tiny_network
    VGGT(config).load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    provenance = json.loads((tmp_path / "checkpoint" / "training.json").read_text())
    assert provenance["steps"] == 6
    assert provenance["validation"]["step"] == 6


def test_a_run_can_start_from_the_weights_of_another(tiny: TrainingConfig, tmp_path: Path) -> None:
    train(tiny, tmp_path / "first")
    export(tmp_path / "first", tmp_path / "checkpoint")
    train(replace(tiny, start=str(tmp_path / "checkpoint")), tmp_path / "second", minutes=0.0)
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    started = tensors_of(tmp_path / "second")
    assert all(torch.equal(started[f"average.{name}"], tensor.float()) for name, tensor in weights.items())


def test_weights_of_another_shape_cannot_be_started_from(tiny: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has another shape"):
        train(replace(tiny, start="demo"), tmp_path)


def test_a_state_of_another_configuration_is_refused(tiny: TrainingConfig, tmp_path: Path) -> None:
    train(tiny, tmp_path, minutes=0.0)
    with pytest.raises(TrainingError, match="seed was 0, now 1"):
        train(replace(tiny, seed=1), tmp_path)


def test_a_run_that_diverges_skips_steps_and_then_says_so(
    tiny: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Objective.forward

    def broken(self: Objective, *args: object) -> dict[str, torch.Tensor]:
        terms = forward(self, *args)  # type: ignore[arg-type]
        return {**terms, "total": terms["total"] * float("nan")}

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(TrainingError, match="no finite loss in 20 steps"):
        train(replace(tiny, steps=30), tmp_path)


def test_exporting_before_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run the training first"):
        export(tmp_path, tmp_path / "checkpoint")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        TrainingConfig(preset="huge")
