from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.rotations import quaternion_to_matrix
from model.scene.similarity import (
    Similarity,
    camera_centres,
    fit_cameras,
    fit_points,
    fit_points_robustly,
)


@pytest.fixture
def similarity() -> Similarity:
    quaternion = torch.tensor([0.3, -0.2, 0.5, 0.7], dtype=torch.float64)
    return Similarity(
        2.5, quaternion_to_matrix(quaternion), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    )


def random_cameras(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rotation = quaternion_to_matrix(torch.randn(count, 4, generator=generator, dtype=torch.float64))
    return torch.cat(
        (rotation, torch.randn(count, 3, 1, generator=generator, dtype=torch.float64)), dim=-1
    )


def rotation(*angles: float) -> Tensor:
    return torch.matrix_exp(
        torch.tensor(
            [[0, -angles[2], angles[1]], [angles[2], 0, -angles[0]], [-angles[1], angles[0], 0]]
        ).double()
    )


def cloud(count: int = 200, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


def test_a_moved_camera_sees_a_moved_point_in_the_same_direction_and_scaled_depth(
    similarity: Similarity,
) -> None:
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


@pytest.mark.parametrize("flat", [False, True], ids=["in space", "in a plane"])
def test_a_known_similarity_is_found(flat: bool) -> None:
    source = cloud()
    if flat:
        source[:, 2] = 0
    turn, shift = rotation(0.4, -1.1, 2.0), torch.tensor([3.0, -2, 0.5]).double()
    found = fit_points(source, 2.5 * source @ turn.T + shift)
    assert found.scale == pytest.approx(2.5)
    torch.testing.assert_close(found.rotation, turn)
    torch.testing.assert_close(found.translation, shift)


def test_the_fit_is_never_a_mirror_image() -> None:
    source = cloud()
    mirrored = source * torch.tensor([1.0, 1, -1]).double()
    found = fit_points(source, mirrored)
    assert float(torch.linalg.det(found.rotation)) == pytest.approx(1)
    assert float((found.move_points(source) - mirrored).norm(dim=1).mean()) > 0.3


def test_the_fit_is_a_least_squares_optimum() -> None:
    source = cloud()
    target = source @ rotation(0.3, 0.2, 0.1).T + 0.1 * cloud(seed=1)
    found = fit_points(source, target)
    best = float((found.move_points(source) - target).square().sum())
    for step in (1e-2, -1e-2):
        for axis in range(3):
            angles = [0.0, 0.0, 0.0]
            angles[axis] = step
            moved = found.move_points(source) @ rotation(*angles).T
            assert float((moved - target).square().sum()) > best
        assert float(((1 + step) * found.move_points(source) - target).square().sum()) > best


def test_a_collapsed_cloud_maps_onto_the_mean_of_the_target() -> None:
    target = cloud()
    found = fit_points(torch.ones(200, 3), target)
    torch.testing.assert_close(found.move_points(torch.ones(1, 3))[0], target.mean(dim=0))


def test_clouds_without_three_finite_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="corresponding"):
        fit_points(cloud(3), cloud(4))
    with pytest.raises(ValueError, match="finite"):
        fit_points(cloud() * torch.nan, cloud())


def test_without_scale_the_fit_is_a_rigid_motion() -> None:
    found = fit_points(cloud(), 2 * cloud() @ rotation(0.1, 0.2, 0.3).T, with_scale=False)
    assert found.scale == 1
    torch.testing.assert_close(found.rotation, rotation(0.1, 0.2, 0.3))


def test_cameras_in_one_place_keep_their_scale() -> None:
    cameras = random_cameras(3)
    cameras[:, :, 3] = 0
    assert fit_cameras(cameras, cameras).scale == 1.0
    assert camera_centres(cameras).abs().max() == 0
