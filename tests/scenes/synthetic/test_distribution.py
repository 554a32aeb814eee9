from __future__ import annotations

from typing import Any

import pytest

from scenes.synthetic.distribution import SceneDistribution


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
