from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.scene.similarity import camera_centres
from scenes.synthetic.walk import there_and_back, walk


def headings(extrinsics: Tensor) -> Tensor:
    """Degrees that each camera looks along, in the plane of the floor."""
    axes = extrinsics[:, 2, :3]
    return torch.rad2deg(torch.atan2(axes[:, 0], axes[:, 2]))


def turn(a: Tensor, b: Tensor) -> Tensor:
    return (a - b + 180) % 360 - 180


def test_a_lap_turns_once_and_the_next_one_passes_the_same_places() -> None:
    scene = walk(0, frames=30, lap=20, size=12)
    assert scene.images.shape == (30, 3, 12, 12)
    heading = headings(scene.extrinsics)
    steps = turn(heading[1:], heading[:-1])
    assert abs(steps[:20].sum().abs() - 360) < 60
    assert turn(heading[20:], heading[:10]).abs().max() < 60
    centres = camera_centres(scene.extrinsics)
    assert (torch.cdist(centres, centres) + torch.eye(30)).min() > 0.01


def test_the_way_back_passes_the_places_of_the_way_there() -> None:
    scene = there_and_back(0, frames=80, arc=160, size=4)
    heading = headings(scene.extrinsics)
    steps = turn(heading[1:], heading[:-1])
    # cameras look about a little, by more than their distance on the arc
    assert 100 < steps[:40].sum().abs() < 220
    assert abs(turn(heading[0], heading[-1])) < 60
    assert turn(heading[:40], heading[40:].flip(0)).abs().median() < 30
    with pytest.raises(ValueError, match="1 frames there and back; expected 2 to 1000"):
        there_and_back(0, frames=1, arc=160, size=4)


def test_the_same_seed_gives_the_same_walk_and_another_one_another() -> None:
    first, again, other = (walk(seed, frames=5, lap=5, size=12) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_walk_of_many_views_turns_once_in_small_steps() -> None:
    scene = walk(0, frames=200, lap=200, size=4)
    steps = turn(headings(scene.extrinsics)[1:], headings(scene.extrinsics)[:-1])
    assert 300 < steps.sum().abs() < 420
    centres = camera_centres(scene.extrinsics)
    assert (torch.cdist(centres, centres) + torch.eye(200)).min() > 1e-3


@pytest.mark.parametrize(("frames", "lap"), [(0, 4), (4, 0), (1100, 400), (10, 1001)])
def test_more_views_than_a_circle_has_room_for_are_refused(frames: int, lap: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        walk(0, frames, lap, size=12)
