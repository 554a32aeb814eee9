from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.families.pi3.cameras import intrinsics_of

FOCAL, CENTRE, HEIGHT, WIDTH = (40.0, 55.0), (20.0, 9.0), 24, 31


@pytest.fixture
def points() -> Tensor:
    """Points `[1, H, W, 3]` that a camera sees whose principal point is not the image's centre."""
    depth = 1 + torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)).double()
    y, x = torch.meshgrid(
        torch.arange(HEIGHT).double(), torch.arange(WIDTH).double(), indexing="ij"
    )
    x, y = (x - CENTRE[0]) / FOCAL[0], (y - CENTRE[1]) / FOCAL[1]
    return torch.stack((x * depth, y * depth, depth), dim=-1)[None]


def test_with_a_free_principal_point_the_camera_that_saw_the_points_comes_out(
    points: Tensor,
) -> None:
    expected = torch.tensor([[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]])
    torch.testing.assert_close(intrinsics_of(points, centred=False)[0], expected.double())


def test_else_the_focal_length_is_that_of_least_squares_about_the_middle_of_the_pixels(
    points: Tensor,
) -> None:
    """Pixels are counted from 0, so the middle of n is at (n - 1) / 2."""
    found = intrinsics_of(points)[0]
    y, x = torch.meshgrid(
        torch.arange(HEIGHT).double(), torch.arange(WIDTH).double(), indexing="ij"
    )
    for axis, pixels, middle in ((0, x, 15.0), (1, y, 11.5)):
        ratio = (points[0, ..., axis] / points[0, ..., 2]).reshape(-1, 1)
        focal = torch.linalg.lstsq(ratio, (pixels - middle).reshape(-1, 1)).solution.item()
        assert found[axis, axis].item() == pytest.approx(focal)
        assert found[axis, 2].item() == middle
