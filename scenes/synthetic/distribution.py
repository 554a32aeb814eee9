"""What synthetic scenes are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class FreeScenes:
    """Scenes whose cameras keep neither level nor distance; the defaults are the widest that are
    trained on.

    Lengths are metres, angles degrees, shares lie in [0, 1], pairs are (low, high) of a uniform
    draw. `radius` means the distance from the cameras to the focus, a point near a wall or an
    object.
    """

    relief_share: float = 0.2
    """Of the scenes: a heightfield on a wall, hardly anything else."""
    facade_share: float = 0.2
    """Of the scenes: house fronts on open ground under a sky without depth."""

    half_range: Range = (5.0, 55.0)
    """A, uniform in this range: the cameras lie within [-A, A] on an arc about the focus; two turn
    by A on average."""
    arc_tilt: float = 25.0
    """The arc is level up to a turn by at most this angle."""
    pitch: float = 35.0
    """The middle of the arc lies at most this far above or below the focus."""
    radius: Range = (0.7, 2.6)
    radius_jitter: float = 0.25
    look_at_jitter: float = 0.2
    """Of the radius."""
    parallel_share: float = 0.2
    """Of the scenes: the cameras shift instead of turning."""
    roll_sigma: float = 12.0
    """Between two cameras; their common roll varies as much."""
    field_of_view: Range = (35.0, 85.0)

    focus_anywhere: float = 1.0
    """0: the focus has the height of tables; 1: any height of the room."""
    wall_share: float = 0.5
    """Of the rooms: the focus lies on a wall, else on an object."""
    hidden_floor_share: float = 1 / 3
    boxes: tuple[int, int] = (2, 9)
    ellipsoids: tuple[int, int] = (0, 3)
    object_size: Range = (0.05, 0.3)
    """Half extents, of the radius."""
    floating_share: float = 0.8
    """Of the objects: anywhere about the focus, turned any way; the others stand on the floor."""
    natural_textures: float = 0.6
    """Of the surfaces: pictures with the statistics of photographs instead of patterns."""

    def __post_init__(self) -> None:
        _check_ranges(
            self, ("half_range", "radius", "field_of_view", "boxes", "ellipsoids", "object_size")
        )
        for name in (
            "relief_share",
            "facade_share",
            "parallel_share",
            "focus_anywhere",
            "wall_share",
            "hidden_floor_share",
            "floating_share",
            "natural_textures",
        ):
            _check_share(name, getattr(self, name))
        if self.relief_share + self.facade_share > 1:
            raise ValueError(
                f"relief_share {self.relief_share} and facade_share {self.facade_share} must not "
                "exceed 1 together"
            )
        if (
            self.pitch > 60
            or self.half_range[1] > 75
            or not 0 < self.field_of_view[0] <= self.field_of_view[1] < 150
        ):
            raise ValueError(
                f"pitch {self.pitch}, half_range {self.half_range} and field_of_view "
                f"{self.field_of_view} must end by "
                "60, 75 and 150 degrees"
            )
        if self.radius[0] < 0.2:
            raise ValueError(f"radius {self.radius} must start at 0.2 m or more")

    def narrowed(self, dial: float) -> FreeScenes:
        """From `NARROW` (dial 0: small turns of level cameras about a table) to these (dial 1),
        linearly."""
        _check_share("dial", dial)

        def between(narrow: Range, wide: Range) -> Range:
            low, high = (a + dial * (b - a) for a, b in zip(narrow, wide, strict=True))
            return low, high

        found = {}
        for entry in fields(self):
            narrow, wide = getattr(NARROW, entry.name), getattr(self, entry.name)
            if entry.name in ("boxes", "ellipsoids"):
                found[entry.name] = wide
            elif isinstance(wide, tuple):
                found[entry.name] = between(narrow, wide)
            else:
                found[entry.name] = between((narrow, narrow), (wide, wide))[0]
        return FreeScenes(**found)


def _check_ranges(owner: object, names: tuple[str, ...]) -> None:
    for name in names:
        low, high = getattr(owner, name)
        if not 0 <= low <= high:
            raise ValueError(f"{name} is {(low, high)}; expected 0 <= low <= high")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected a number from 0 to 1")


NARROW = FreeScenes(
    relief_share=0.0,
    facade_share=0.0,
    half_range=(3.0, 15.0),
    arc_tilt=0.0,
    pitch=10.0,
    radius=(1.4, 2.6),
    radius_jitter=0.15,
    look_at_jitter=0.15,
    parallel_share=0.1,
    roll_sigma=4.0,
    field_of_view=(50.0, 80.0),
    focus_anywhere=0.0,
    wall_share=0.0,
    hidden_floor_share=0.0,
    object_size=(0.08, 0.3),
    floating_share=0.0,
    natural_textures=0.0,
)
"""What the dial starts from: almost the standard rooms, with turns of 3 to 15 degrees."""


@dataclass(frozen=True)
class SceneDistribution:
    """Lengths are metres, angles degrees, pairs (low, high); numbers are drawn uniformly unless
    said otherwise.

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
    movement: float = 1.0
    """Of rooms: how far the cameras are from each other, as a share of what the above makes of it;
    with next to nothing they hardly do more than turn."""
    field_of_view: Range = (50.0, 80.0)
    """Of the longer image side."""

    room_half_width: Range = (3.0, 4.8)
    room_height: Range = (2.6, 3.4)
    boxes: tuple[int, int] = (2, 6)
    spheres: tuple[int, int] = (1, 3)

    gain: Range = (0.85, 1.15)
    pixel_noise: Range = (0.0, 0.03)
    """Standard deviation of the pixel noise on the [0, 1] scale, one value a scene."""

    natural_textures: float = 0.0
    """Share of the surfaces with pictures that have the statistics of photographs instead of
    patterns."""
    free_share: float = 0.0
    """Share of the scenes that are drawn from `free` instead of all of the above (gain and noise
    stay)."""
    free: FreeScenes = field(default_factory=FreeScenes)

    def __post_init__(self) -> None:
        weights = (self.orbit_weight, self.dolly_weight, self.handheld_weight)
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"motion weights are {weights}; expected non-negative numbers, at least one above 0"
            )
        _check_ranges(
            self,
            (
                "half_range",
                "field_of_view",
                "room_half_width",
                "room_height",
                "boxes",
                "spheres",
                "gain",
                "pixel_noise",
            ),
        )
        _check_share("natural_textures", self.natural_textures)
        _check_share("free_share", self.free_share)
        _check_share("movement", self.movement)
        if self.half_range[1] > 180 or self.field_of_view[0] <= 0 or self.field_of_view[1] >= 180:
            raise ValueError(
                f"half_range {self.half_range} must end by 180 degrees and "
                f"field_of_view {self.field_of_view} lie inside (0, 180)"
            )
        if self.room_half_width[0] < 3.0 or self.room_height[0] < 2.6:
            raise ValueError(
                f"room_half_width {self.room_half_width} and room_height {self.room_height} must "
                "start at 3.0 m and "
                "2.6 m or more: smaller rooms leave no place for the camera paths"
            )

    @classmethod
    def at_dial(cls, dial: float, *, standard_share: float = 0.0) -> SceneDistribution:
        """From today's standard rooms (dial 0) to free cameras (dial 1).

        `standard_share` of the scenes stay standard rooms at any dial.
        """
        if dial == 0:
            return STANDARD
        return cls(free_share=1 - standard_share, free=FreeScenes().narrowed(dial))


STANDARD = SceneDistribution()

_ROOMS = FreeScenes(relief_share=0.0, facade_share=0.0)
TEST_SETS = {
    "std": STANDARD,
    "photo": replace(STANDARD, natural_textures=1.0),
    "free": SceneDistribution(free_share=1.0, free=replace(_ROOMS, natural_textures=0.0)),
    "free-photo": SceneDistribution(free_share=1.0, free=replace(_ROOMS, natural_textures=1.0)),
    "relief": SceneDistribution(
        free_share=1.0, free=replace(_ROOMS, relief_share=1.0, natural_textures=1.0)
    ),
    "facade": SceneDistribution(free_share=1.0, free=replace(_ROOMS, facade_share=1.0)),
}
"""What is scored apart: standard rooms, with the textures of photographs, free cameras, reliefs,
house fronts."""
