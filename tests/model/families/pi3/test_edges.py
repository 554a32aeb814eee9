from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.families.pi3.edges import depth_edges, edges


def _points(depth: Tensor) -> Tensor:
    """Points `[1, H, W, 3]` of a camera with a field of view of 90 degrees."""
    height, width = depth.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.stack((x * depth, y * depth, depth), dim=-1)[None]


def _everything(points: Tensor) -> Tensor:
    return torch.ones(points.shape[:3], dtype=torch.bool)


def test_a_floor_seen_at_a_low_angle_jumps_in_depth_but_is_no_edge() -> None:
    rows = torch.linspace(-1, 1, 41)[24:]  # below the horizon, where depth is height / row
    depth = (0.5 / rows)[:, None].expand(-1, 21)
    y, x = torch.meshgrid(rows, torch.linspace(-1, 1, 21), indexing="ij")
    points = torch.stack((x * depth, y * depth, depth), dim=-1)[None]
    assert depth_edges(points[..., 2], _everything(points)).all()
    assert not edges(points, _everything(points)).any()


@pytest.mark.parametrize(("degrees", "turns"), [(8, False), (14, True)])
def test_a_hinge_is_an_edge_where_normals_turn_by_five_degrees(degrees: float, turns: bool) -> None:
    """A pixel on the hinge has the mean of both normals, so a pixel turns by half of it."""
    rows = torch.linspace(-1, 1, 41)[24:]
    hinge, angle = 0.5 / rows[8], math.radians(degrees)
    along = (0.5 - rows * hinge) / (math.sin(angle) + rows * math.cos(angle))
    depth = torch.where(along > 0, hinge + along * math.cos(angle), 0.5 / rows)
    depth = depth[:, None].expand(-1, 21)
    y, x = torch.meshgrid(rows, torch.linspace(-1, 1, 21), indexing="ij")
    points = torch.stack((x * depth, y * depth, depth), dim=-1)[None]
    assert bool(edges(points, _everything(points)).any()) == turns


def test_an_object_before_a_wall_has_edges_around_its_outline_only() -> None:
    depth = torch.full((24, 24), 4.0)
    depth[8:16, 8:16] = 2
    points = _points(depth)
    found = edges(points, _everything(points))[0]
    outline = torch.zeros_like(found)
    outline[7:17, 7:17] = True
    outline[9:15, 9:15] = False
    assert torch.equal(found, outline)


def test_a_crease_without_a_jump_is_no_edge() -> None:
    depth = 2 + 0.3 * torch.linspace(-1, 1, 201).abs().expand(201, -1)
    points = _points(depth)
    assert not edges(points, _everything(points)).any()


def test_what_the_mask_leaves_out_makes_no_edges() -> None:
    depth = torch.full((16, 16), 4.0)
    depth[8, 8] = 2
    points = _points(depth)
    mask = _everything(points)
    assert edges(points, mask).any()
    mask[0, 8, 8] = False
    assert not edges(points, mask).any()
