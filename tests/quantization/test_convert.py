from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kernels import QuantizedLinear
from model import VGGT, VGGTConfig
from model.config import CameraHeadConfig, DPTHeadConfig, VisionTransformerConfig
from quantization.convert import quantize_checkpoint, quantize_network, rotation_signs
from quantization.recipe import Recipe


@pytest.fixture
def net() -> VGGT:
    torch.manual_seed(0)
    return VGGT(
        VGGTConfig(
            img_size=56,
            embed_dim=32,
            depth=2,
            num_heads=2,
            init_values=1.0,
            patch_embed="dino_vit",
            patch_embed_vit=VisionTransformerConfig(img_size=56, embed_dim=32, depth=1, num_heads=2),
            camera_head=CameraHeadConfig(trunk_depth=1, num_heads=2),
            depth_head=DPTHeadConfig(features=8, out_channels=(8, 8, 8, 8), intermediate_layer_idx=(0, 0, 1, 1)),
            point_head=None,
            track_head=None,
        )
    ).eval()


def _schemes(net: VGGT) -> dict[str, str]:
    return {n: type(m).__name__ for n, m in net.named_modules() if isinstance(m, QuantizedLinear)}


def test_every_block_linear_gets_the_scheme_of_its_part(net: VGGT) -> None:
    schemes = _schemes(quantize_network(net, Recipe(aggregator="w4a4", image_encoder="w4a8", camera_head="w8a8")))
    assert schemes["aggregator.frame_blocks.0.attn.qkv"] == "W4A4Linear"
    assert schemes["aggregator.global_blocks.1.mlp.fc2"] == "W4A4Linear"
    assert schemes["aggregator.patch_embed.blocks.0.mlp.fc1"] == "W4A8Linear"
    assert schemes["camera_head.trunk.0.attn.proj"] == "W8A8Linear"
    assert len(schemes) == 4 * (2 + 2 + 1 + 1)


def test_the_papers_192_layers_are_those_of_the_aggregator() -> None:
    from model.checkpoint import build_empty
    from model.presets import PRESETS

    recipe = Recipe(image_encoder="float", camera_head="float")
    net = build_empty(PRESETS["vggt-1b"])
    chosen = [m for n, m in net.named_modules() if isinstance(m, nn.Linear) and recipe.scheme(n) != "float"]
    assert len(chosen) == 192
    assert sum(m.weight.numel() for m in chosen) == 603_979_776


def test_eight_bits_hardly_change_the_prediction_and_four_bits_change_it_more(net: VGGT) -> None:
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    eight = Recipe(aggregator="w8a8", image_encoder="w8a8", camera_head="w8a8")
    four = Recipe(aggregator="w4a4", image_encoder="w4a4", camera_head="w4a4")
    with torch.no_grad():
        exact = net(images).depth
        errors = [(quantize_network(net, r)(images).depth - exact).norm() / exact.norm() for r in (eight, four)]
    assert errors[0] < 0.01
    assert errors[0] < errors[1]


def test_the_float_network_is_left_as_it_was(net: VGGT) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quantize_network(net, Recipe())
    assert not _schemes(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_checkpoint_and_a_network_in_memory_give_the_same_layers(net: VGGT, tmp_path: Path) -> None:
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    streamed = quantize_checkpoint(tmp_path, Recipe()).state_dict()
    direct = quantize_network(net, Recipe()).state_dict()
    assert streamed.keys() == direct.keys()
    assert all(torch.equal(streamed[name], direct[name]) for name in direct)


def test_rotations_depend_on_seed_and_layer_only() -> None:
    assert torch.equal(rotation_signs(64, "a", 0), rotation_signs(64, "a", 0))
    assert not torch.equal(rotation_signs(64, "a", 0), rotation_signs(64, "b", 0))
    assert not torch.equal(rotation_signs(64, "a", 0), rotation_signs(64, "a", 1))


@pytest.mark.parametrize("part", ["aggregator", "image_encoder", "camera_head"])
def test_an_unknown_scheme_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match=f"scheme of {part} is 'w3a3'"):
        Recipe(**{part: "w3a3"})


def test_a_recipe_that_quantises_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="quantises nothing"):
        Recipe(aggregator="float", image_encoder="float", camera_head="float")
