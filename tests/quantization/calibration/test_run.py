from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels import kernel_path
from model import VGGT
from quantization.calibration import run as module
from quantization.calibration.run import calibrate
from quantization.calibration.store import StageStore
from quantization.convert import reader
from quantization.recipe import RECIPES


class _KilledError(BaseException):
    """The process ends here."""


def _states(net: VGGT) -> dict[str, Tensor]:
    return dict(net.state_dict())


@pytest.mark.parametrize("recipe", ["best", "dsfq"])
def test_a_run_that_is_killed_twice_and_goes_on_gives_the_same_bits(
    recipe: str, net: VGGT, pictures: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(RECIPES[recipe], learning_epochs=min(2, RECIPES[recipe].learning_epochs))
    undisturbed = calibrate(net.config, reader(net), pictures, wanted)
    whole = _states(undisturbed.net)
    true = module.quantize_stage
    calls = []

    def killed_in_the_third(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) % 3 == 0:
            raise _KilledError
        return true(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "quantize_stage", killed_in_the_third)
    for _ in range(2):
        with pytest.raises(_KilledError):
            calibrate(net.config, reader(net), pictures, wanted, store=StageStore(tmp_path, {}))
    monkeypatch.undo()
    finished = StageStore(tmp_path, {})
    assert finished.get("aggregator.global_blocks.0") is not None
    assert finished.get("aggregator.global_blocks.1") is None
    resumed = calibrate(net.config, reader(net), pictures, wanted, store=finished)
    found = _states(resumed.net)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert len(resumed.layers) == 4 * (1 + 4 + 1)
    assert len(resumed.wide) == (
        16 if wanted.wide else 0
    )  # encoder and camera head have 8 bits as they are
    assert resumed.wide.keys() == undisturbed.wide.keys()
    for name, layer in resumed.wide.items():
        kept = undisturbed.wide[name].state_dict()
        assert all(torch.equal(value, kept[part]) for part, value in layer.state_dict().items())


def test_float_and_quantised_inputs_give_different_networks(
    net: VGGT, pictures: list[Tensor]
) -> None:
    best = RECIPES["best"]
    one, other = (
        _states(calibrate(net.config, reader(net), pictures, replace(best, propagate=p)).net)
        for p in ("quantised", "float")
    )
    name = "aggregator.global_blocks.1.mlp.fc2.weight"
    assert not torch.equal(one[name], other[name])


def test_layers_are_quantised_on_what_8_bit_attention_gives_them(
    net: VGGT, pictures: list[Tensor]
) -> None:
    if "int8_attention" not in kernel_path("cpu").operators:
        pytest.skip("there is no 8-bit attention on this machine")

    def made(**settings: str) -> Tensor:
        recipe = replace(RECIPES["best"], **settings)
        return _states(calibrate(net.config, reader(net), pictures, recipe).net)[
            "camera_head.trunk.0.mlp.fc2.bias"
        ]

    assert not torch.equal(made(attention="int8"), made(attention="float"))
    assert torch.equal(made(attention="int8", propagate="float"), made(propagate="float"))


def test_progress_tells_the_time_left(
    net: VGGT, pictures: list[Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(net.config, reader(net), pictures, RECIPES["dsfq-static"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("quantised 1/6: aggregator.patch_embed.blocks.0, ")
    assert lines[-1] == "quantised 6/6: camera_head, 0 s left"
