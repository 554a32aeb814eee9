from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model import VGGT
from quantization.recipe import Recipe
from quantization.sensitivity import Sensitivity, measure, within_budget
from quantvggt.command import main


def test_the_layer_with_an_outlier_is_the_most_sensitive(net: VGGT, pictures: list[Tensor]) -> None:
    layer = net.get_submodule("aggregator.frame_blocks.1.mlp.fc1")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[:, 3] *= 30  # its rows cannot be rounded well any more
    found = measure(net, pictures, Recipe(rotate=False), "aggregator")
    assert len(found) == 16
    assert sum(item.share for item in found) == pytest.approx(1)
    assert (
        max(found, key=lambda item: item.depth + item.pose).layer
        == "aggregator.frame_blocks.1.mlp.fc1"
    )
    assert all(isinstance(m, nn.Linear) for n, m in net.named_modules() if n.endswith("fc1")), (
        "put back"
    )


def test_the_budget_goes_to_what_is_worth_most_and_is_kept() -> None:
    found = [
        Sensitivity("a", 0.1, 0.0, 0.5),
        Sensitivity("b", 0.2, 0.0, 0.2),
        Sensitivity("c", 0.1, 0.1, 0.3),
    ]
    assert within_budget(found, 0.2) == ["b"]
    assert within_budget(found, 0.5) == ["b", "c"]
    assert within_budget(found, 1.0) == ["a", "b", "c"]


def test_its_file_is_what_quantize_takes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "overrides.json"
    measured = [
        "sensitivity",
        str(checkpoint),
        "--samples",
        "2",
        "--frames",
        "2",
        "--budget",
        "0.3",
        "--json",
    ]
    assert main([*measured, "--out", str(file)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["overrides"]
    assert set(document["overrides"].values()) == {"w4a8"}
    command = [
        "quantize",
        str(checkpoint),
        "--out",
        str(tmp_path / "artifact"),
        "--overrides",
        str(file),
    ]
    assert main(command) == 0
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    assert {manifest["layers"][layer]["scheme"] for layer in document["overrides"]} == {"w4a8"}
