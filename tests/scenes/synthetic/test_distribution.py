from __future__ import annotations

from typing import Any

import pytest

from scenes.synthetic.distribution import NARROW, STANDARD, TEST_SETS, FreeScenes, SceneDistribution


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("orbit_weight", -0.1),
        ("half_range", (60.0, 15.0)),
        ("half_range", (10.0, 200.0)),
        ("field_of_view", (0.0, 80.0)),
        ("boxes", (3, 1)),
        ("pixel_noise", (-0.1, 0.1)),
        ("room_half_width", (1.0, 4.0)),
        ("room_height", (2.0, 3.0)),
    ],
)
def test_an_impossible_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match="weights" if field.endswith("weight") else field):
        SceneDistribution(**{field: value})


def test_some_motion_must_be_possible() -> None:
    with pytest.raises(ValueError, match="at least one above 0"):
        SceneDistribution(orbit_weight=0, dolly_weight=0, handheld_weight=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("half_range", (60.0, 15.0)),
        ("half_range", (5.0, 80.0)),
        ("pitch", 70.0),
        ("field_of_view", (35.0, 160.0)),
        ("radius", (0.1, 1.0)),
        ("object_size", (0.3, 0.1)),
        ("wall_share", 1.5),
        ("floating_share", -0.1),
        ("relief_share", 0.9),
    ],
)
def test_an_impossible_range_of_free_scenes_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        FreeScenes(**{field: value})


def test_the_dial_starts_at_the_standard_rooms_and_ends_at_the_widest_scenes() -> None:
    assert SceneDistribution.at_dial(0.0) == STANDARD == SceneDistribution()
    assert SceneDistribution.at_dial(1.0, standard_share=0.4) == SceneDistribution(free_share=0.6)
    assert FreeScenes().narrowed(1.0) == FreeScenes()
    assert FreeScenes().narrowed(0.0).half_range == NARROW.half_range
    half = FreeScenes().narrowed(0.5)
    assert half.half_range == (4.0, 35.0)
    assert half.roll_sigma == 8.0
    assert NARROW.pitch < half.pitch < FreeScenes().pitch


@pytest.mark.parametrize("dial", [-0.1, 1.1])
def test_a_dial_beyond_its_ends_is_refused(dial: float) -> None:
    with pytest.raises(ValueError, match="dial"):
        SceneDistribution.at_dial(dial)


def test_every_test_set_is_another_distribution() -> None:
    assert TEST_SETS["std"] == STANDARD
    assert len(set(TEST_SETS.values())) == len(TEST_SETS)
