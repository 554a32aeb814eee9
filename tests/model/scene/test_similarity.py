from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.rotations import quaternion_to_matrix
from model.scene.similarity import Similarity, camera_centres, fit_cameras, fit_points, fit_points_robustly


@pytest.fixture
def similarity() -> Similarity:
    quaternion = torch.tensor([0.3, -0.2, 0.5, 0.7], dtype=torch.float64)
    return Similarity(2.5, quaternion_to_matrix(quaternion), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))


def random_cameras(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rotation = quaternion_to_matrix(torch.randn(count, 4, generator=generator, dtype=torch.float64))
    return torch.cat((rotation, torch.randn(count, 3, 1, generator=generator, dtype=torch.float64)), dim=-1)


def close(a: Similarity, b: Similarity) -> bool:
    return (
        abs(a.scale - b.scale) < 1e-9
        and torch.allclose(a.rotation, b.rotation, atol=1e-9)
        and torch.allclose(a.translation, b.translation, atol=1e-9)
    )


def test_points_that_were_moved_give_the_similarity_back(similarity: Similarity) -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert close(fit_points(points, similarity.move_points(points)), similarity)


def test_cameras_that_were_moved_give_the_similarity_back(similarity: Similarity) -> None:
    cameras = random_cameras(4)
    assert close(fit_cameras(cameras, similarity.move_extrinsics(cameras)), similarity)


def test_a_moved_camera_sees_a_moved_point_in_the_same_direction_and_scaled_depth(similarity: Similarity) -> None:
    camera, point = random_cameras(1)[0], torch.tensor([0.4, 0.1, 2.0], dtype=torch.float64)
    before = camera[:, :3] @ point + camera[:, 3]
    moved = similarity.move_extrinsics(camera)
    after = moved[:, :3] @ similarity.move_points(point) + moved[:, 3]
    torch.testing.assert_close(after, similarity.scale * before)


def test_a_third_of_stray_points_does_not_pull_the_robust_fit(similarity: Similarity) -> None:
    generator = torch.Generator().manual_seed(2)
    points = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    target = similarity.move_points(points)
    target[:80] += 20 * torch.rand(80, 3, generator=generator, dtype=torch.float64)
    weights = torch.ones(300)
    assert abs(fit_points(points, target).translation - similarity.translation).max() > 1
    assert close(fit_points_robustly(points, target, weights), similarity)


def test_mirrored_points_are_still_given_a_rotation() -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rotation = fit_points(points, points * torch.tensor([-1.0, 1.0, 1.0])).rotation
    assert torch.det(rotation).item() == pytest.approx(1)


def test_cameras_in_one_place_keep_their_scale() -> None:
    cameras = random_cameras(3)
    cameras[:, :, 3] = 0
    assert fit_cameras(cameras, cameras).scale == 1.0
    assert camera_centres(cameras).abs().max() == 0
