from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model import families
from model.families.pi3.config import PRESETS
from model.files.checkpoint import build_empty
from model.network.prediction import Prediction
from tests.model.families.networks import filled, pi3

NAMES = Path(__file__).parents[3] / "parity" / "names"


def _listed(name: str) -> dict[str, tuple[int, ...]]:
    stored = json.loads((NAMES / f"{name}_state_dict.json").read_text())
    return {key: tuple(shape) for key, shape in stored.items()}


@pytest.mark.parametrize("name", PRESETS)
def test_a_public_checkpoint_has_the_networks_tensors_and_ignored_ones(name: str) -> None:
    tensors = _listed(name)
    config = families.recognise(None, tensors)
    assert config == PRESETS[name]
    ignored = families.of(config).ignored(config)
    used = {k: v for k, v in tensors.items() if not k.startswith(ignored)}
    assert used == {k: tuple(v.shape) for k, v in build_empty(config).state_dict().items()}


@pytest.mark.parametrize("name", PRESETS)
def test_what_no_tensor_tells_is_as_the_public_code_has_it(name: str) -> None:
    config = PRESETS[name]
    assert (config.encoder_heads, config.decoder_heads, config.head_heads) == (16, 16, 16)
    assert (config.metric_heads, config.rope_freq) == (8, 100)


@torch.no_grad()
def test_depth_of_pi3x_ends_at_the_exponential_of_15() -> None:
    net = filled(pi3(conv=True))
    net.point_head.output_block[1][2].bias.fill_(40)
    patches = torch.rand(1, 6, net.config.head_dim)
    assert net.local_points(patches, (28, 42))[..., 2].max() == torch.tensor(15.0).exp()


@torch.no_grad()
def test_depth_of_pi3_has_no_such_end() -> None:
    net = filled(pi3())
    net.point_head.proj.bias.fill_(20)
    patches = torch.rand(1, 6, net.config.head_dim)
    assert net.local_points(patches, (28, 42))[..., 2].min() > torch.tensor(15.0).exp()


def test_norms_of_the_convolutional_head_are_over_all_channels_then_over_groups_of_32() -> None:
    net = build_empty(PRESETS["pi3x"])
    norms = [module for module in net.modules() if isinstance(module, torch.nn.GroupNorm)]
    groups = {(norm.num_channels, norm.num_groups) for norm in norms}
    firsts, seconds = {(256, 1), (128, 1), (64, 1)}, {(512, 16), (256, 8), (128, 4)}
    assert groups == firsts | seconds


@pytest.mark.parametrize("name", PRESETS)
def test_every_layer_of_a_block_belongs_to_one_part(name: str) -> None:
    net = build_empty(PRESETS[name])
    family = families.of(net.config)
    for stage in net.blocks():
        block = net.get_submodule(stage.name)
        linears = [n for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)]
        assert {family.part_of(f"{stage.name}.{n}") for n in linears} < set(family.parts)


def test_the_world_is_the_first_pictures_camera_and_confidence_at_least_one() -> None:
    torch.manual_seed(0)
    config = PRESETS["pi3x"]
    rotation = torch.linalg.qr(torch.randn(3, 3, 3))[0]
    rotation *= torch.linalg.det(rotation)[:, None, None]
    poses = torch.cat((rotation, torch.randn(3, 3, 1)), dim=-1)
    place = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(6.0), indexing="xy"), -1)
    depth = 1 + torch.rand(3, 6, 8)
    ray = (place + 0.5 - torch.tensor([4.0, 3.0])) / torch.tensor([10.0, 11.0])
    points = torch.cat((ray * depth[..., None], depth[..., None]), dim=-1)
    prediction = Prediction(
        pose_enc=poses.flatten(1), depth_conf=torch.randn(3, 6, 8), camera_points=points
    )
    found = families.of(config).decode(config, prediction, (6, 8))
    torch.testing.assert_close(found.extrinsics[0], torch.eye(3, 4), atol=1e-5, rtol=0)
    relative = rotation[1].T @ rotation[0]
    torch.testing.assert_close(found.extrinsics[1, :, :3], relative)
    expected = torch.tensor([[10.0, 0, 4], [0, 11, 3], [0, 0, 1]])
    torch.testing.assert_close(found.intrinsics, expected.expand(3, -1, -1), atol=1e-4, rtol=0)
    assert torch.equal(found.depth, depth)
    assert found.confidence.min() >= 1
    assert families.of(config).scale(config) == "metre"
    assert families.of(config).scale(PRESETS["pi3"]) == "arbitrary"


def test_what_the_public_code_shows_no_points_of_has_the_least_confidence() -> None:
    depth = torch.full((1, 12, 16), 4.0)
    depth[:, :, 8:] = 2
    place = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="xy"), -1)
    ray = (place + 0.5 - torch.tensor([8.0, 6.0])) / 10
    points = torch.cat((ray * depth[..., None], depth[..., None]), dim=-1)
    logit = torch.zeros(1, 12, 16)
    logit[:, 5, 2] = -3  # a probability of 5 %
    config = PRESETS["pi3"]
    found = families.of(config).decode(
        config, Prediction(depth_conf=logit, camera_points=points), (12, 16)
    )
    expected = torch.full((1, 12, 16), 2.0)
    expected[:, :, 7:9] = 1  # on both sides of the step
    expected[:, 5, 2] = 1
    assert torch.equal(found.confidence, expected)
