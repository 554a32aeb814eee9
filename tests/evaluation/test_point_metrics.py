from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from evaluation.point_metrics import (
    estimate_normals,
    icp,
    point_errors,
    scene_scale,
    surface_errors,
)


def rotation(*angles: float) -> Tensor:
    return torch.matrix_exp(
        torch.tensor(
            [[0, -angles[2], angles[1]], [angles[2], 0, -angles[0]], [-angles[1], angles[0], 0]]
        ).double()
    )


def cloud(count: int = 200, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sphere(count: int, radius: float = 1.0) -> Tensor:
    """Fibonacci lattice: evenly spread, so nearest-neighbour distances are known."""
    k = torch.arange(count, dtype=torch.float64) + 0.5
    z, azimuth = 1 - 2 * k / count, math.pi * (1 + 5**0.5) * k
    ring = (1 - z * z).sqrt()
    return radius * torch.stack((ring * azimuth.cos(), ring * azimuth.sin(), z), dim=1)


def test_icp_undoes_a_small_motion_without_correspondences() -> None:
    surface = cloud(1500)
    turn, shift = rotation(0.02, -0.03, 0.02), torch.tensor([0.02, 0.01, -0.02]).double()
    moved = (surface @ turn.T + shift)[
        torch.randperm(1500, generator=torch.Generator().manual_seed(3))
    ]
    motion = icp(moved, surface, max_distance=0.5, iterations=100, tolerance=1e-12)
    torch.testing.assert_close(motion.rotation, turn.T, atol=1e-6, rtol=0)
    assert motion.scale == 1


def test_icp_stays_where_nothing_matches() -> None:
    motion = icp(cloud(), cloud() + 100, max_distance=0.1)
    assert torch.equal(motion.rotation, torch.eye(3).double())
    assert not motion.translation.any()


def test_normals_of_a_sphere_point_from_its_centre() -> None:
    points = sphere(2000)
    cosine = (estimate_normals(points, neighbours=12) * points).sum(dim=1).abs()
    assert float(cosine.min()) > 0.99


def test_equal_clouds_have_no_surface_error() -> None:
    errors = surface_errors(sphere(500), sphere(500))
    assert errors.overall_mean == errors.overall_median == 0
    assert errors.normal_consistency_mean == pytest.approx(1)


def test_an_inflated_sphere_is_off_by_the_difference_of_radii() -> None:
    errors = surface_errors(sphere(4000, 1.1), sphere(4000, 1.0))
    for found in (
        errors.accuracy_mean,
        errors.accuracy_median,
        errors.completeness_mean,
        errors.completeness_median,
    ):
        assert found == pytest.approx(0.1, rel=1e-3)
    assert errors.overall_mean == pytest.approx(
        (errors.accuracy_mean + errors.completeness_mean) / 2
    )


def test_a_half_seen_object_is_accurate_but_incomplete() -> None:
    whole = sphere(2000)
    errors = surface_errors(whole[whole[:, 2] > 0], whole)
    assert errors.accuracy_mean == 0
    assert errors.completeness_mean > 0.2


def test_crossed_planes_have_inconsistent_normals() -> None:
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40)).double()
    level = torch.cat((grid, torch.zeros(1600, 1).double()), dim=1)
    upright = level[:, [0, 2, 1]]
    assert surface_errors(level, upright).normal_consistency_mean < 0.1
    assert surface_errors(level, level + 0.01).normal_consistency_mean == pytest.approx(1)


def test_the_scene_scale_is_the_mean_distance_from_the_first_camera() -> None:
    turn = rotation(0.2, 0.7, -0.4)
    centre = torch.tensor([1.0, 2, 3]).double()
    camera = torch.cat((turn, -(turn @ centre)[:, None]), dim=1)
    assert scene_scale(sphere(100, 4.0) + centre, camera) == pytest.approx(4)


def test_point_errors_ignore_a_similarity_and_are_relative_to_the_scene() -> None:
    true = cloud()
    camera = torch.eye(3, 4)
    moved = 0.2 * true @ rotation(1, 2, 3).T - 4
    assert point_errors(moved, true, camera).median == pytest.approx(0, abs=1e-9)
    noisy = moved + 0.02 * cloud(seed=5)
    small, large = point_errors(noisy, true, camera), point_errors(noisy, 1000 * true, camera)
    assert small.median == pytest.approx(large.median, rel=1e-6)
    assert small.median > 0.01
    assert large.scene_scale == pytest.approx(1000 * small.scene_scale)


def test_bad_clouds_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted cloud"):
        surface_errors(torch.zeros(0, 3), cloud())
    with pytest.raises(ValueError, match="max_distance"):
        icp(cloud(), cloud(), max_distance=0)
    with pytest.raises(ValueError, match="scene scale"):
        scene_scale(torch.zeros(0, 3), torch.eye(3, 4))
    with pytest.raises(ValueError, match="at least 3 points"):
        estimate_normals(cloud(2))
