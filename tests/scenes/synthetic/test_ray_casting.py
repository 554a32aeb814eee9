from __future__ import annotations

import pytest
import torch

from scenes.synthetic.ray_casting import cast

ROOM = [5.0, 2.0, 6.0]


def hit(
    x: float,
    y: float,
    *solids: tuple[list[float], list[float]],
    num_spheres: int = 0,
    ellipsoids: bool = False,
) -> tuple[float, int]:
    """Depth and solid along (x, y, 1) from the middle of a room; solids are (centre, half extents),
    not turned."""
    centres = torch.tensor([[0.0, 0.0, 0.0], *(centre for centre, _ in solids)])
    halves = torch.tensor([ROOM, *(half for _, half in solids)])
    depth, solid = cast(
        torch.eye(3).expand(1, len(halves), 3, 3),
        -centres[None],
        halves[None],
        num_spheres,
        torch.tensor([[[x]]]),
        torch.tensor([[[y]]]),
        ellipsoids=ellipsoids,
    )
    return depth.item(), int(solid.item())


@pytest.mark.parametrize(
    ("x", "y", "depth"), [(0.0, 0.0, 6.0), (2.0, 0.0, 2.5), (0.0, -1.0, 2.0), (0.1, 0.5, 4.0)]
)
def test_a_ray_ends_at_the_first_wall(x: float, y: float, depth: float) -> None:
    assert hit(x, y) == (pytest.approx(depth), 0)


@pytest.mark.parametrize("component", [0.0, -0.0, 1e-7, -1e-7, -1e-9, 1e-38, -1e-38])
def test_a_ray_along_the_faces_has_a_sane_depth(component: float) -> None:
    ahead = ([0.0, 0.0, 3.0], [0.5, 0.5, 0.5])
    beside = ([2.0, 0.0, 3.0], [0.5, 0.5, 0.5])
    assert hit(component, component) == (pytest.approx(6.0), 0)
    assert hit(component, component, ahead, beside) == (pytest.approx(2.5), 1)
    assert hit(component, component, beside) == (pytest.approx(6.0), 0)


def test_the_nearer_of_two_boxes_hides_the_other_whatever_their_order() -> None:
    near, far = ([0.0, 0.0, 2.0], [0.5, 0.5, 0.5]), ([0.0, 0.0, 4.0], [0.5, 0.5, 0.5])
    assert hit(0.0, 0.0, near, far) == (pytest.approx(1.5), 1)
    assert hit(0.0, 0.0, far, near) == (pytest.approx(1.5), 2)


def test_a_sphere_is_hit_on_its_near_side_and_not_beside_it() -> None:
    ball = ([0.0, 0.0, 3.0], [1.0, 1.0, 1.0])
    assert hit(0.0, 0.0, ball, num_spheres=1) == (pytest.approx(2.0), 1)
    assert hit(0.5, 0.0, ball, num_spheres=1) == (pytest.approx(6.0), 0)
    # |t (0.25, 0, 1) - (0, 0, 3)| = 1
    slanted = (6 - (36 - 4 * 1.0625 * 8) ** 0.5) / (2 * 1.0625)
    assert hit(0.25, 0.0, ball, num_spheres=1) == (pytest.approx(slanted), 1)


@pytest.mark.parametrize("num_spheres", [0, 1], ids=["box", "sphere"])
def test_what_lies_behind_the_camera_is_not_seen(num_spheres: int) -> None:
    assert hit(0.0, 0.0, ([0.0, 0.0, -3.0], [1.0, 1.0, 1.0]), num_spheres=num_spheres) == (
        pytest.approx(6.0),
        0,
    )


def test_an_ellipsoid_is_hit_at_its_own_half_extents() -> None:
    egg = ([0.0, 0.0, 3.0], [0.5, 1.0, 2.0])
    assert hit(0.0, 0.0, egg, num_spheres=1, ellipsoids=True) == (pytest.approx(1.0), 1)
    assert hit(0.4, 0.0, egg, num_spheres=1, ellipsoids=True) == (pytest.approx(6.0), 0)
    # |(t/10, t/5, t - 3) / half extents| = 1
    a, b = 0.01 / 0.25 + 0.04 + 0.25, -0.25 * 3
    slanted = (-b - (b * b - a * (9 / 4 - 1)) ** 0.5) / a
    assert hit(0.1, 0.2, egg, num_spheres=1, ellipsoids=True) == (pytest.approx(slanted), 1)


def test_an_ellipsoid_of_equal_half_extents_is_a_sphere() -> None:
    ball = ([0.3, -0.2, 3.0], [1.0, 1.0, 1.0])
    for x, y in ((0.0, 0.0), (0.2, 0.1), (-0.3, 0.2), (0.5, 0.5)):
        assert hit(x, y, ball, num_spheres=1, ellipsoids=True)[0] == pytest.approx(
            hit(x, y, ball, num_spheres=1)[0]
        )
