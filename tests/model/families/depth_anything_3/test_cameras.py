from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from model.families.depth_anything_3.cameras import (
    cameras_to_encoding,
    encoding_to_cameras,
    normalised,
)
from model.reconstruct import reconstruct
from tests.model.families.networks import TINY, depth_anything_3, filled


def _pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8)) for _ in range(count)]


def _cameras(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator))[0]
    turned *= torch.linalg.det(turned)[:, None, None]
    extrinsics = torch.cat((turned, torch.randn(count, 3, 1, generator=generator)), dim=-1)
    intrinsics = torch.tensor([[70.0, 0, 40], [0, 75, 30], [0, 0, 1]]).expand(count, -1, -1)
    return extrinsics, intrinsics


def test_a_camera_comes_back_out_of_its_encoding() -> None:
    extrinsics, intrinsics = _cameras(4)
    encoding = cameras_to_encoding(extrinsics, intrinsics, (60, 80))
    again = encoding_to_cameras(encoding, (60, 80))
    torch.testing.assert_close(again[0], extrinsics, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again[1], intrinsics, atol=1e-3, rtol=1e-5)


def test_a_field_of_view_of_nothing_has_a_focal_length() -> None:
    _, intrinsics = encoding_to_cameras(torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 0, 0]), (60, 80))
    assert intrinsics.isfinite().all()


def test_known_cameras_at_nearly_one_place_are_moved_apart_by_so_much_only() -> None:
    extrinsics = torch.eye(4).repeat(1, 3, 1, 1)
    extrinsics[0, :, 0, 3] = torch.tensor([0, 0.01, 0.02])
    found = normalised(extrinsics)
    torch.testing.assert_close(found[0, :, 0, 3], torch.tensor([0, 0.1, 0.2]))


@torch.no_grad()
def test_a_predicted_field_of_view_is_not_negative() -> None:
    decoder = filled(depth_anything_3()).cam_dec
    tokens = torch.randn(1, 4, decoder.fc_t.in_features)
    decoder.fc_fov[0].bias.fill_(-100)
    assert torch.equal(decoder(tokens)[..., 7:], torch.zeros(1, 4, 2))


def test_known_cameras_change_the_answer_and_their_world_becomes_its_own() -> None:
    net, pictures = filled(depth_anything_3()), _pictures(3)
    known = _cameras(3)
    alone, told = reconstruct(net, pictures), reconstruct(net, pictures, cameras=known)
    assert not torch.allclose(alone.depth / alone.depth.mean(), told.depth / told.depth.mean())
    centres = -(known[0][:, :, :3].mT @ known[0][:, :, 3:])[..., 0]
    found = -(told.extrinsics[:, :, :3].mT @ told.extrinsics[:, :, 3:])[..., 0]
    torch.testing.assert_close(found.mean(0), centres.mean(0), atol=1e-3, rtol=1e-3)
    moved = (known[0] @ torch.eye(4), known[1])
    moved[0][..., 3] *= 3.0
    larger = reconstruct(net, pictures, cameras=moved)
    torch.testing.assert_close(larger.depth, 3 * told.depth, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_known_cameras_are_encoded_in_float32_whatever_the_caller_computes_in() -> None:
    net, (extrinsics, intrinsics) = filled(depth_anything_3()), _cameras(3)
    last = torch.tensor([0.0, 0, 0, 1]).expand(3, 1, 4)
    known = torch.cat((extrinsics, last), dim=1)[None]
    expected = net.camera_tokens(known, intrinsics[None], (28, 42))
    with torch.autocast("cpu", torch.bfloat16):
        found = net.camera_tokens(known, intrinsics[None], (28, 42))
    assert torch.equal(found, expected)


def test_a_scene_of_one_picture_stands_where_its_known_camera_does() -> None:
    net, pictures, known = filled(depth_anything_3()), _pictures(1), _cameras(1)
    scene = reconstruct(net, pictures, cameras=known)
    torch.testing.assert_close(scene.extrinsics, known[0], atol=1e-4, rtol=1e-4)


def test_as_many_cameras_as_pictures_are_asked_for() -> None:
    extrinsics, intrinsics = _cameras(3)
    for cameras in ((extrinsics, intrinsics), (extrinsics[:2], intrinsics)):
        with pytest.raises(ValueError, match=r"expected extrinsics \[2, 3, 4\] and intrinsics"):
            reconstruct(filled(depth_anything_3()), _pictures(2), cameras=cameras)


@pytest.mark.parametrize("name", ["pi3", "vggt"])
def test_a_network_that_takes_no_cameras_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="looks at pictures alone"):
        reconstruct(TINY[name](), _pictures(2), cameras=_cameras(2))


@torch.no_grad()
def test_cameras_come_from_rays_where_that_head_is_kept() -> None:
    config = depth_anything_3()
    net = filled(config.with_heads(["camera", "depth", "rays"]))
    images = torch.rand(1, 2, 3, 28, 42)
    found = net(images)
    without = filled(config)
    without.load_state_dict(net.state_dict(), strict=False)
    other = without(images)
    assert torch.equal(found.depth, other.depth)
    assert found.pose_enc.shape == other.pose_enc.shape
    assert not torch.allclose(found.pose_enc, other.pose_enc)
