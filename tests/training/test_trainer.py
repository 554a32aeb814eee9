from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import VGGT, VGGTConfig
from model.files.domain import Domain, domain_beside
from training import TrainingConfig, TrainingError, export, train
from training.curve import read_log
from training.objective import LossWeights, Objective
from training.state import load_state


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    state = load_state(folder)
    assert state is not None
    return state[1]


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    tiny: TrainingConfig, tmp_path: Path
) -> None:
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
    from training import run

    advance = run.Run._advance

    def interrupted(current: run.Run) -> tuple[dict[str, float], int]:
        if current.step == step:
            raise KeyboardInterrupt
        return advance(current)

    patch.setattr(run, "SAVE_SECONDS", 0.0)
    patch.setattr(run.Run, "_advance", interrupted)


def test_a_resumed_run_to_free_cameras_ends_with_the_same_bits(
    tiny: TrainingConfig, tmp_path: Path
) -> None:
    train(tiny, tmp_path / "start")
    export(tmp_path / "start", tmp_path / "checkpoint")
    free = replace(
        tiny,
        start=str(tmp_path / "checkpoint"),
        batches=replace(tiny.batches, dial_until=0.5, photography=True),
        teaching_boost=2.0,
        auxiliary_warmup=2,
        validation_sets=("std", "free"),
    )
    train(free, tmp_path / "whole")
    for step in (1, 3, 4):
        with pytest.MonkeyPatch.context() as patch:
            _interrupt_at(step, patch)
            with pytest.raises(KeyboardInterrupt):
                train(free, tmp_path / "pieces")
    train(free, tmp_path / "pieces")
    whole, pieces = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "pieces")
    assert [name for name in whole if not torch.equal(whole[name], pieces[name])] == []
    log, log_of_pieces = (
        [record for record in read_log(tmp_path / run) if "validation" in record]
        for run in ("whole", "pieces")
    )
    assert log == log_of_pieces
    assert [record["step"] for record in log] == [0, 6]
    assert {"auc_30", "free_auc_30"} <= log[0]["validation"].keys()


def test_auxiliary_heads_that_warm_up_leave_the_network_alone(
    tiny: TrainingConfig, tmp_path: Path
) -> None:
    only = LossWeights(0, 0, 0, 0, 0, 0, 0, 1.0, 0)  # patch matching and nothing else
    plain = replace(tiny, losses=only, weight_decay=0.0)
    train(replace(plain, steps=2, auxiliary_warmup=2), tmp_path / "warm")
    train(replace(plain, steps=2), tmp_path / "taught")
    train(plain, tmp_path / "fresh", minutes=0.0)
    warm, taught, fresh = (tensors_of(tmp_path / run) for run in ("warm", "taught", "fresh"))
    network = [name for name in fresh if name.startswith("weights.net.aggregator.")]
    assert all(torch.equal(warm[name], fresh[name]) for name in network)
    assert not all(torch.equal(taught[name], fresh[name]) for name in network)
    assert not torch.equal(
        warm["weights.auxiliary.descriptor.weight"], fresh["weights.auxiliary.descriptor.weight"]
    )


@pytest.mark.parametrize(
    ("standard", "free", "exported"), [(50.0, 20.0, True), (50.0, 9.0, False), (41.0, 20.0, False)]
)
def test_weights_are_kept_when_free_cameras_gain_and_rooms_lose_little(
    tiny: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    standard: float,
    free: float,
    exported: bool,
) -> None:
    from training import run

    scores = iter([(52.0, 10.0), (standard, free)])
    current: list[float] = []

    def scored(*_: object) -> dict[str, float]:
        if not current:
            current.extend(next(scores))
        return {
            "auc_30": current.pop(0),
            "rotation_deg": 1.0,
            "translation_deg": 1.0,
            "depth_abs_rel": 0.1,
        }

    train(tiny, tmp_path / "start")
    export(tmp_path / "start", tmp_path / "checkpoint")
    monkeypatch.setattr(run, "validate", scored)
    train(
        replace(tiny, start=str(tmp_path / "checkpoint"), validation_sets=("std", "free")),
        tmp_path / "run",
    )
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file() == exported


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
    domain = domain_beside(tmp_path / "checkpoint" / "model.safetensors")
    assert domain == Domain("drawn rooms with textured boxes and spheres", photographs=False)
    provenance = json.loads((tmp_path / "checkpoint" / "training.json").read_text())
    assert provenance["steps"] == 6
    assert provenance["validation"]["step"] == 6


def test_a_run_can_start_from_the_weights_of_another(tiny: TrainingConfig, tmp_path: Path) -> None:
    train(tiny, tmp_path / "first")
    export(tmp_path / "first", tmp_path / "checkpoint")
    train(replace(tiny, start=str(tmp_path / "checkpoint")), tmp_path / "second", minutes=0.0)
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    started = tensors_of(tmp_path / "second")
    assert all(
        torch.equal(started[f"average.{name}"], tensor.float()) for name, tensor in weights.items()
    )


def test_weights_of_another_shape_cannot_be_started_from(
    tiny: TrainingConfig, tmp_path: Path
) -> None:
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
