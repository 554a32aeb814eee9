"""What synthetic scenes are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class SceneDistribution:
    """Lengths are metres, angles degrees, pairs (low, high); numbers are drawn uniformly unless said otherwise.

    An easier start of a training run narrows `half_range`; everything else keeps its meaning.
    """

    orbit_weight: float = 0.8
    dolly_weight: float = 0.1
    handheld_weight: float = 0.1

    half_range: Range = (15.0, 60.0)
    """Orbit: azimuths lie in [-A, A], A uniform in this range, one scene at a time."""
    minimum_cell: float = 5.0
    """Orbit: A grows with the number of views until each camera's share of [-A, A] is this wide."""
    radius_jitter: float = 0.15
    height_jitter: float = 0.35
    look_at_jitter: float = 0.4
    roll_sigma: float = 4.0
    field_of_view: Range = (50.0, 80.0)
    """Of the longer image side."""

    room_half_width: Range = (3.0, 4.8)
    room_height: Range = (2.6, 3.4)
    boxes: tuple[int, int] = (2, 6)
    spheres: tuple[int, int] = (1, 3)

    gain: Range = (0.85, 1.15)
    pixel_noise: Range = (0.0, 0.03)
    """Standard deviation of the pixel noise on the [0, 1] scale, one value a scene."""

    def __post_init__(self) -> None:
        weights = (self.orbit_weight, self.dolly_weight, self.handheld_weight)
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"motion weights are {weights}; expected non-negative numbers, at least one above 0")
        for name in (
            "half_range",
            "field_of_view",
            "room_half_width",
            "room_height",
            "boxes",
            "spheres",
            "gain",
            "pixel_noise",
        ):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is {(low, high)}; expected 0 <= low <= high")
        if self.half_range[1] > 180 or self.field_of_view[0] <= 0 or self.field_of_view[1] >= 180:
            raise ValueError(
                f"half_range {self.half_range} must end by 180 degrees and "
                f"field_of_view {self.field_of_view} lie inside (0, 180)"
            )
        if self.room_half_width[0] < 3.0 or self.room_height[0] < 2.6:
            raise ValueError(
                f"room_half_width {self.room_half_width} and room_height {self.room_height} must start at 3.0 m and "
                "2.6 m or more: smaller rooms leave no place for the camera paths"
            )


STANDARD = SceneDistribution()
