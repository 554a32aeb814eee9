from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from model import VGGT, Prediction, VGGTConfig
from model.errors import ReconstructionError
from model.families.vggt.cameras import pose_encoding_to_cameras
from model.preprocess import preprocess_images
from model.reconstruct import decode, reconstruct

CONFIG = VGGTConfig()


def _pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (h, w, 3), np.uint8)) for w, h in sizes]


def _prediction(frames: int, height: int, width: int) -> Prediction:
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(1, frames, 9, generator=generator)
    pose[..., 7:] = 1.0
    return Prediction(
        pose_enc=pose,
        depth=torch.rand(1, frames, height, width, 1, generator=generator) + 0.5,
        depth_conf=torch.rand(1, frames, height, width, generator=generator) + 1,
    )


@pytest.mark.parametrize("mode", ["fit", "crop", "pad"])
def test_everything_is_offered_on_both_grids(net: VGGT, mode: str) -> None:
    scene = reconstruct(net, _pictures((80, 60), (80, 60)), mode)
    rows, columns = scene.depth.shape[1:]
    assert scene.extrinsics.shape == (2, 3, 4)
    assert scene.world_points.shape == (2, rows, columns, 3)
    assert scene.colors.dtype == torch.uint8
    for frame in range(2):
        assert scene.original_depth(frame).shape == (60, 80)
    assert scene.extrinsics.isfinite().all()
    assert scene.original_intrinsics.isfinite().all()


def test_points_project_onto_their_original_pixels() -> None:
    batch = preprocess_images(_pictures((100, 150)), "crop", image_size=56)
    scene = decode(CONFIG, _prediction(1, 56, 56), batch)
    points = scene.world_points[0].reshape(-1, 3)
    camera = points @ scene.extrinsics[0, :, :3].T + scene.extrinsics[0, :, 3]
    projected = camera @ scene.original_intrinsics[0].T
    transform = batch.transforms[0]
    u = projected[:, 0] / projected[:, 2] * transform.scale[0] + transform.offset[0]
    torch.testing.assert_close(u, torch.arange(56.0).repeat(56), atol=1e-3, rtol=1e-4)


def test_padding_is_masked() -> None:
    batch = preprocess_images(_pictures((100, 50)), "pad", image_size=56)
    scene = decode(CONFIG, _prediction(1, 56, 56), batch)
    assert scene.mask[0, 28].all()
    assert not scene.mask[0, 0].any()


def test_a_field_of_view_of_zero_still_gives_finite_cameras() -> None:
    prediction = _prediction(2, 28, 28)
    prediction.pose_enc[..., 7:] = 0
    assert not pose_encoding_to_cameras(prediction.pose_enc, (28, 28))[1].isfinite().all()
    scene = decode(
        CONFIG, prediction, preprocess_images(_pictures((40, 40), (40, 40)), image_size=28)
    )
    assert scene.intrinsics.isfinite().all()


@pytest.mark.parametrize("field", ["pose_enc", "depth", "depth_conf"])
def test_values_that_are_not_finite_are_an_error(field: str) -> None:
    prediction = _prediction(1, 28, 28)
    broken = getattr(prediction, field).clone()
    broken.view(-1)[3] = torch.nan
    batch = preprocess_images(_pictures((40, 40)), image_size=28)
    with pytest.raises(ReconstructionError, match="not finite"):
        decode(CONFIG, dataclasses.replace(prediction, **{field: broken}), batch)


def test_a_network_without_the_depth_head_cannot_reconstruct(net: VGGT) -> None:
    net.depth_head = None
    with pytest.raises(ValueError, match="needs the camera head and the depth head"):
        reconstruct(net, _pictures((40, 40)))
