from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from model import VGGT
from model.errors import ArtifactError
from model.families.vggt.presets import PRESETS
from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from service.inference.served import ServedNetwork


def test_a_network_without_a_camera_head_is_refused_before_loading(tmp_path: Path) -> None:
    config = dataclasses.replace(
        PRESETS["demo"], depth=1, camera_head=None, depth_head=None, point_head=None
    )
    save(quantize_network(VGGT(config), Recipe()), tmp_path / "headless")
    with pytest.raises(ArtifactError, match="without camera and depth head"):
        ServedNetwork(tmp_path / "headless")


def test_the_digest_follows_the_weights(artifact: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save(quantize_network(VGGT(PRESETS["demo"]), Recipe()), tmp_path / "other")
    digests = [ServedNetwork(path).digest for path in (artifact, artifact, tmp_path / "other")]
    assert digests[0] == digests[1] != digests[2]
