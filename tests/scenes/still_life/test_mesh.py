from __future__ import annotations

import numpy as np
import pytest

from scenes.still_life.mesh import (
    Mesh,
    blade,
    box,
    joined,
    rectangle,
    revolved,
    smooth_curve,
    tube,
    turned,
)

BALL = [(np.sin(angle), np.cos(angle)) for angle in np.linspace(0, np.pi, 25)]
SHAPES = {
    "ball": revolved(BALL),
    "cup": revolved([(0, 0.2), (0.8, 0.3), (0.9, 1.0), (1.0, 0.3), (0.5, 0), (0, 0)]),
    "tube": tube(np.array([[0, 0, 0], [0, 1, 0.2], [0.3, 2, 1.0]]), np.array([0.2, 0.1, 0.05])),
    "rectangle": rectangle(2, 1),
    "blade": blade(1, 0.4, 0.8, 0.3),
    "box": joined(list(box(1, 0.5, 0.25, 0.02).values())),
}


def face_normals(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.points[mesh.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


@pytest.mark.parametrize("name", SHAPES)
def test_normals_are_units_and_faces_look_their_way(name: str) -> None:
    mesh = SHAPES[name]
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-9)
    assert ((face_normals(mesh) * mesh.normals[mesh.faces].sum(axis=1)).sum(axis=1) >= 0).all()
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1
    assert mesh.faces.max() < len(mesh.points)


def test_a_turned_half_circle_is_a_ball_that_looks_outwards() -> None:
    ball = SHAPES["ball"]
    np.testing.assert_allclose(np.linalg.norm(ball.points, axis=1), 1, atol=2e-3)
    assert (ball.points * ball.normals).sum(axis=1).min() > 0.99
    area = np.linalg.norm(face_normals(ball), axis=1).sum() / 2
    assert area == pytest.approx(4 * np.pi, rel=0.01)


@pytest.mark.parametrize("name", ["tube", "box"])
def test_closed_shapes_look_outwards(name: str) -> None:
    mesh = SHAPES[name]
    middle = mesh.points[mesh.faces].mean(axis=1)
    # the divergence theorem: the volume inside is positive
    volume = (middle * face_normals(mesh)).sum() / 6
    assert volume > 0
    if name == "box":
        assert volume == pytest.approx(0.125, rel=0.1)


def test_the_sides_of_a_box_lie_where_they_are_named() -> None:
    sides = box(1, 0.5, 0.25, 0.02)
    towards = {
        "right": (1, 0, 0), "left": (-1, 0, 0), "top": (0, 1, 0), "bottom": (0, -1, 0),
        "front": (0, 0, 1), "back": (0, 0, -1),
    }  # fmt: skip
    for name, direction in towards.items():
        assert sides[name].normals.mean(axis=0) @ direction > 0.7
    lowest, highest = joined(list(sides.values())).bounds
    np.testing.assert_allclose(highest - lowest, [1, 0.5, 0.25], atol=0.02)


def test_a_picture_on_a_rectangle_is_upright() -> None:
    page = rectangle(2, 1)
    top_left = page.points[np.argmin(page.uv.sum(axis=1))]
    np.testing.assert_allclose(top_left, [-1, 0.5, 0])


def test_a_curve_runs_through_its_ends_at_an_even_pace() -> None:
    curve = smooth_curve(np.array([[0, 0], [1, 2], [3, 1.0]]), 40)
    np.testing.assert_allclose(curve[[0, -1]], [[0, 0], [3, 1]], atol=1e-9)
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    assert steps.max() < 1.05 * steps.min()


def test_turns_are_rotations_in_the_order_roll_pitch_yaw() -> None:
    turn = turned(30, 40, 50)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn, turned(30) @ turned(0, 40) @ turned(0, 0, 50), atol=1e-12)
    np.testing.assert_allclose(turned(yaw=90) @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_moved_meshes_turn_before_they_shift() -> None:
    mesh = rectangle(2, 1).moved((5, 0, 0), turned(yaw=90))
    np.testing.assert_allclose(mesh.points[:, 0], 5, atol=1e-12)
    np.testing.assert_allclose(mesh.normals, [[1, 0, 0]] * 4, atol=1e-12)
