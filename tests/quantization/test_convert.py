from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kernels import QuantizedLinear
from model import VGGT, families
from model.families.vggt.presets import PRESETS
from model.files.checkpoint import TensorSource, build_empty
from quantization.convert import quantize, quantize_network
from quantization.recipe import RECIPES, Recipe
from tests.model.conftest import tiny_config
from tests.model.families.networks import filled


def _schemes(net: VGGT) -> dict[str, str]:
    return {n: m.format.name for n, m in net.named_modules() if isinstance(m, QuantizedLinear)}


def test_every_block_linear_gets_the_scheme_of_its_part(net: VGGT) -> None:
    recipe = Recipe().with_parts(aggregator="w4a4", image_encoder="w4a8", camera_head="w8a8")
    schemes = _schemes(quantize_network(net, recipe))
    assert schemes["aggregator.frame_blocks.0.attn.qkv"] == "w4a4"
    assert schemes["aggregator.global_blocks.1.mlp.fc2"] == "w4a4"
    assert schemes["aggregator.patch_embed.blocks.0.mlp.fc1"] == "w4a8"
    assert schemes["camera_head.trunk.0.attn.proj"] == "w8a8"
    assert len(schemes) == 4 * (2 + 2 + 1 + 1)


def test_the_papers_192_layers_are_those_of_the_aggregator() -> None:
    recipe = Recipe().with_parts(image_encoder="float", camera_head="float")
    net = build_empty(PRESETS["vggt-1b"])
    chosen = [
        m
        for n, m in net.named_modules()
        if isinstance(m, nn.Linear) and recipe.scheme(families.of(net.config), n) is not None
    ]
    assert len(chosen) == 192
    assert sum(m.weight.numel() for m in chosen) == 603_979_776


def test_a_quantised_network_is_on_the_device_of_its_float_one(net: VGGT) -> None:
    made = quantize_network(net.to("meta"), Recipe())  # stands for a GPU: it has no values
    assert {value.device.type for value in made.state_dict().values()} == {"meta"}


def test_an_override_changes_one_layer(net: VGGT) -> None:
    layer = "aggregator.global_blocks.1.mlp.fc1"
    schemes = _schemes(quantize_network(net, Recipe(overrides=((layer, "w4a8"),))))
    assert schemes.pop(layer) == "w4a8"
    assert "w4a8" not in {name for layer, name in schemes.items() if "_blocks" in layer}


@pytest.mark.parametrize(
    "layer",
    [
        "aggregator.global_blocks.9.mlp.fc1",  # there are two blocks
        "aggregator.global_blocks.1.mlp",
        "depth_head.projects.0",  # of a dense head, which is never quantised
    ],
)
def test_an_override_of_no_quantised_layer_is_refused(net: VGGT, layer: str) -> None:
    with pytest.raises(ValueError, match=f"overrides name {layer}, nothing: no layers"):
        quantize_network(net, Recipe(overrides=((layer, "w4a8"), ("nothing", "float"))))


@pytest.mark.parametrize("scheme", ["w3a4", "w2a4"])
def test_narrower_weights_are_four_bit_ones_with_fewer_codes(net: VGGT, scheme: str) -> None:
    quantized = quantize_network(net, Recipe().with_parts(aggregator=scheme))
    layer = quantized.get_submodule("aggregator.frame_blocks.0.attn.qkv")
    assert isinstance(layer, QuantizedLinear)
    top = {"w3a4": 3, "w2a4": 1}[scheme]
    assert layer.format.name == scheme
    assert layer.weight.nbytes == layer.in_features * layer.out_features // 2
    assert layer.weight_codes().max() == top
    assert layer.weight_codes().min() >= -top - 1


def test_eight_bits_hardly_change_the_prediction_and_four_bits_change_it_more(net: VGGT) -> None:
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    eight = Recipe().with_parts(aggregator="w8a8", image_encoder="w8a8", camera_head="w8a8")
    four = Recipe().with_parts(aggregator="w4a4", image_encoder="w4a4", camera_head="w4a4")
    with torch.no_grad():
        exact = net(images).depth
        errors = [
            (quantize_network(net, r)(images).depth - exact).norm() / exact.norm()
            for r in (eight, four)
        ]
    assert errors[0] < 0.01
    assert errors[0] < errors[1]


@pytest.mark.parametrize("recipe", ["quarot", "best"])
def test_the_float_network_is_left_as_it_was(
    net: VGGT, pictures: list[Tensor], recipe: str
) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quantize_network(net, RECIPES[recipe], pictures)
    assert not _schemes(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("recipe", ["quarot", "best"])
def test_a_checkpoint_and_a_network_in_memory_give_the_same_layers(
    net: VGGT, checkpoint: Path, pictures: list[Tensor], recipe: str
) -> None:
    source = TensorSource(checkpoint / "model.safetensors")
    streamed = quantize(net.config, source.read, RECIPES[recipe], pictures).net.state_dict()
    direct = quantize_network(net, RECIPES[recipe], pictures).state_dict()
    assert streamed.keys() == direct.keys()
    assert all(torch.equal(streamed[name], direct[name]) for name in direct)


def test_a_recipe_that_looks_at_activations_needs_samples(net: VGGT) -> None:
    with pytest.raises(ValueError, match="give it calibration samples"):
        quantize_network(net, RECIPES["best"])


def test_a_width_without_a_rotation_is_refused_before_any_layer_is_read() -> None:
    config = tiny_config()
    assert config.camera_head is not None
    config = replace(config, camera_head=replace(config.camera_head, mlp_ratio=3.5))

    def read(name: str) -> Tensor:
        raise AssertionError(name)

    layer = "camera_head.trunk.0.mlp.fc2"
    with pytest.raises(ValueError, match=f"{layer} cannot be rotated: .* 224.*--no-rotation"):
        quantize(config, read, Recipe())
    net = filled(config)
    made = quantize_network(net, Recipe(overrides=((layer, "float"),)))
    assert layer not in _schemes(made)
    assert layer in _schemes(quantize_network(net, Recipe(rotate=False)))
