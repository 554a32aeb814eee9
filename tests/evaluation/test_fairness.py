"""Every command that scores refuses what a model was calibrated on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import VGGT, families
from model.families.vggt.presets import PRESETS
from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from quantvggt.command import main
from scenes.readers.folder import write_folder
from scenes.synthetic.generator import SyntheticScenes


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that was calibrated on photographs in a folder called "room"."""
    torch.manual_seed(3)
    recipe = Recipe().of(families.named("vggt"))
    path = tmp_path_factory.mktemp("model") / "packed"
    calibration = {"split": "photographs", "scenes": ["room"]}
    net = quantize_network(VGGT(PRESETS["demo"]), recipe)
    save(net, path, recipe=recipe.to_dict(), calibration=calibration)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--dataset", "folder", "--views", "2"],
        ["evaluate", "--dataset", "folder", "--views", "2", "--refine", "cameras"],
        ["pairs"],
    ],
)
def test_a_folder_of_the_calibration_data_gets_no_score(
    command: list[str], artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(SyntheticScenes("test", 1, 2, 24, 36)[0], tmp_path / "room")
    assert main([*command, "--model", str(artifact), "--data", str(tmp_path)]) == 2
    assert "scene 'room' of split 'test' belongs to the data" in capsys.readouterr().err
