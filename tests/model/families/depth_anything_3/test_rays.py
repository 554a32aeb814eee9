"""Cameras out of rays that no camera has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.families.depth_anything_3.cameras import cameras_to_encoding, encoding_to_cameras
from model.families.depth_anything_3.rays import cameras_from_rays

SIZE = (28, 42)


def _through(rays: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """What becomes of the rays' cameras in a pass."""
    return encoding_to_cameras(
        cameras_to_encoding(*cameras_from_rays(rays, confidence, SIZE), SIZE), SIZE
    )


def _parallel() -> Tensor:
    return torch.tensor([0.0, 0, 1, 0, 0, 0]).expand(1, 8, 12, 6)


@pytest.mark.parametrize("rays", [torch.zeros(1, 8, 12, 6), _parallel()], ids=["none", "parallel"])
def test_rays_that_tell_no_camera_still_give_a_rotation_and_finite_numbers(rays: Tensor) -> None:
    extrinsics, intrinsics = _through(rays, torch.ones(1, 8, 12))
    rotation = extrinsics[0, :, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
    assert torch.linalg.det(rotation) > 0
    assert extrinsics.isfinite().all()
    assert intrinsics.isfinite().all()


def test_a_frame_whose_rays_are_not_finite_has_no_camera_and_others_keep_theirs() -> None:
    rays = torch.randn(3, 8, 12, 6, generator=torch.Generator().manual_seed(0))
    confidence = torch.ones(3, 8, 12)
    rays[0, 2, 3, 1] = torch.nan
    confidence[2, 0, 0] = torch.inf
    extrinsics, intrinsics = _through(rays, confidence)
    for values in (extrinsics, intrinsics):
        assert [bool(one.isfinite().all()) for one in values] == [False, True, False]
