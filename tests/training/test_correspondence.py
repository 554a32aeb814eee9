from __future__ import annotations

import pytest
import torch

from scenes.scene import SceneBatch
from scenes.synthetic.generator import render_batch
from training.correspondence import patch_matches, patch_points

PATCH, SIDE = 4, 16  # a grid of 4 x 4 patches


def wall(shift: float) -> SceneBatch:
    """Two cameras with parallel axes look at a wall at depth 2; the second stands `shift` to the
    right."""
    extrinsics = torch.eye(4)[:3].repeat(1, 2, 1, 1)
    extrinsics[0, 1, 0, 3] = -shift
    intrinsics = torch.tensor([[8.0, 0, 8], [0, 8, 8], [0, 0, 1]]).repeat(1, 2, 1, 1)
    return SceneBatch(
        torch.zeros(1, 2, 3, SIDE, SIDE),
        extrinsics,
        intrinsics,
        torch.full((1, 2, SIDE, SIDE), 2.0),
    )


def look_up(
    batch: SceneBatch, source: int = 0, target: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    points = patch_points(batch, PATCH)
    matches = patch_matches(points, batch, torch.tensor([source]), torch.tensor([target]), PATCH)
    return matches.index[0, 0].view(4, 4), matches.visible[0, 0].view(4, 4)


def test_patch_points_are_the_world_points_of_the_centre_pixels() -> None:
    batch = render_batch([3, 4], split="train", num_views=2, height=24, width=36)
    points = patch_points(batch, 12)
    expected = batch.world_points[:, :, 6::12, 6::12].flatten(2, 3)
    assert (points.world - expected).abs().max() < 1e-4
    assert points.valid.all()


def test_a_point_moves_by_the_disparity_and_leaves_the_image_at_its_border() -> None:
    # A shift of 1 at depth 2 and focal length 8 moves the picture 4 pixels to the left: one patch.
    index, visible = look_up(wall(shift=1.0))
    assert visible.tolist() == [[False, True, True, True]] * 4
    assert (index[:, 1:] == torch.arange(16).view(4, 4)[:, :3]).all()


def test_looking_back_inverts_the_match() -> None:
    index, visible = look_up(wall(shift=1.0), source=1, target=0)
    assert visible.tolist() == [[True, True, True, False]] * 4
    assert (index[:, :3] == torch.arange(16).view(4, 4)[:, 1:]).all()


def test_an_occluded_point_is_invisible() -> None:
    batch = wall(shift=1.0)
    batch.depth[0, 1, :8] = 1.0  # something stands in front of the upper half of the second view
    _, visible = look_up(batch)
    assert not visible[:2].any()
    assert visible[2:, 1:].all()


def test_a_point_behind_the_other_camera_is_invisible() -> None:
    batch = wall(shift=0.0)
    batch.extrinsics[0, 1, 2, 3] = -3.0  # the second camera stands behind the wall
    _, visible = look_up(batch)
    assert not visible.any()


@pytest.mark.parametrize("frame", [0, 1], ids=["in the source", "in the target"])
def test_a_pixel_without_ground_truth_is_invisible(frame: int) -> None:
    batch = wall(shift=0.0)
    batch.depth[0, frame] = 0.0
    _, visible = look_up(batch)
    assert not visible.any()


def test_every_patch_matches_itself_in_its_own_frame() -> None:
    batch = render_batch([5], split="train", num_views=2, height=48, width=48)
    points = patch_points(batch, 12)
    own = torch.arange(2)
    matches = patch_matches(points, batch, own, own, 12)
    assert matches.visible.all()
    assert (matches.index == torch.arange(16)).all()
