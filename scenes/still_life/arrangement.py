"""What stands on the table and around it: meshes and what they are made of.

The table's top is y = 0, the wall behind it z = WALL; x points right, z to whoever looks. Metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scenes.still_life import paint
from scenes.still_life.mesh import (
    Array,
    Mesh,
    Vector,
    blade,
    box,
    joined,
    rectangle,
    revolved,
    smooth_curve,
    surface,
    tube,
    turned,
)
from scenes.still_life.paint import Generator, Rgb, Texture

WALL = -0.74
FLOOR = -0.76


@dataclass(frozen=True)
class Finish:
    """How a surface looks: sRGB texture [h, w, 3], roughness and reflection of a glossy coat."""

    texture: Texture
    roughness: float = 0.6
    specular: float = 0.35
    metallic: float = 0.0


@dataclass(frozen=True)
class Thing:
    """One mesh of one finish."""

    name: str
    mesh: Mesh
    finish: Finish


def arrange(seed: int) -> list[Thing]:
    """Everything in the room. The same seed gives the same bits."""
    makers: Sequence[Callable[[Generator], Iterator[Thing]]] = (
        _room, _pictures, _table, _cloth, _bowl, _fruit, _vase, _bouquet, _books, _open_book,
        _tea, _back_row, _postcards,
    )  # fmt: skip
    things: list[Thing] = []
    for index, maker in enumerate(makers):
        things += maker(np.random.default_rng([seed, 1 + index]))
    return things


# the room


def _room(rng: Generator) -> Iterator[Thing]:
    paper = paint.wallpaper(
        (6200, 1900), rng, (52, 84, 88), [(98, 132, 116), (120, 142, 108), (84, 116, 118)],
        [(226, 196, 150), (214, 150, 116), (228, 214, 190)],
    )  # fmt: skip
    yield Thing("wall", rectangle(6.2, 1.9).moved((0, 0.98, WALL)), Finish(paper, 0.9, 0.1))
    cream = (222, 212, 192)
    boards = paint.planks((3100, 380), 1, rng, (226, 217, 198), (208, 196, 172))
    yield Thing("wainscot", rectangle(6.2, 0.76).moved((0, -0.38, WALL)), Finish(boards, 0.5))
    rail = box(6.2, 0.05, 0.04, 0.008)
    for side in ("front", "top", "bottom"):
        mesh = rail[side].moved((0, 0.01, WALL + 0.02))
        yield Thing(f"rail {side}", mesh, Finish(paint.flat(cream, rng), 0.45))
    floor = paint.planks((3600, 2400), 14, rng, (150, 104, 66), (84, 52, 32))
    ground = rectangle(6.2, 4.2).moved((0, FLOOR, 1.3), turned(pitch=-90))
    yield Thing("floor", ground, Finish(floor, 0.45, 0.4))
    for sign in (-1, 1):
        wall = rectangle(3.4, 2.7).moved((sign * 2.9, 0.58, 0.96), turned(yaw=-90 * sign))
        lime = paint.plaster((1700, 1350), rng, (226, 212, 190))
        yield Thing(f"side wall {sign}", wall, Finish(lime, 0.9, 0.1))


def _pictures(rng: Generator) -> Iterator[Thing]:
    walnut, gold, black = (92, 60, 38), (176, 136, 72), (48, 44, 42)
    lake = paint.landscape((1300, 950), rng)
    yield from _framed(rng, "lake", lake, 0.62, 0.455, (0.19, 0.70), gold, 0.0)
    fern = paint.botanical((620, 840), rng, (196, 92, 74), "Cosmos")
    yield from _framed(rng, "cosmos", fern, 0.24, 0.325, (-0.62, 0.58), walnut, 0.03)
    herb = paint.botanical((620, 840), rng, (96, 92, 168), "Salvia")
    yield from _framed(rng, "salvia", herb, 0.24, 0.325, (-1.04, 0.60), walnut, 0.03)
    inks = [(196, 90, 62), (226, 170, 84), (58, 92, 100), (32, 56, 70), (214, 196, 160)]
    arches = paint.abstract((760, 1000), rng, inks)
    yield from _framed(rng, "arches", arches, 0.34, 0.447, (0.94, 0.66), black, 0.035)
    shore = paint.landscape((1100, 800), rng)
    yield from _framed(rng, "shore", shore, 0.50, 0.364, (1.60, 0.62), walnut, 0.04)
    shapes = paint.abstract((1000, 760), rng, inks)
    yield from _framed(rng, "shapes", shapes, 0.46, 0.35, (-1.62, 0.62), black, 0.035)


def _framed(
    rng: Generator, name: str, picture: Texture, width: float, height: float,
    place: tuple[float, float], color: Rgb, mat: float,
) -> Iterator[Thing]:  # fmt: skip
    """A picture of this size in a wooden frame; `mat` is the width of the paper round it."""
    x, y = place
    z = WALL + 0.012
    yield Thing(name, rectangle(width, height).moved((x, y, z + 0.002)), Finish(picture, 0.7, 0.2))
    outer_w, outer_h, bar = width + 2 * mat, height + 2 * mat, 0.03
    if mat:
        paper = Finish(paint.flat((236, 230, 216), rng), 0.9, 0.1)
        yield Thing(f"{name} mat", rectangle(outer_w, outer_h).moved((x, y, z)), paper)
    red, green, blue = (int(c * 0.62) for c in color)
    wood = Finish(paint.planks((900, 64), 1, rng, color, (red, green, blue)), 0.35, 0.5)
    sides = []
    for sign in (-1, 1):
        flat = box(outer_w + 2 * bar, bar, 0.03, 0.006)
        upright = box(outer_h, bar, 0.03, 0.006)
        sides += [m.moved((x, y + sign * (outer_h + bar) / 2, WALL + 0.016)) for m in flat.values()]
        sides += [
            m.moved((x + sign * (outer_w + bar) / 2, y, WALL + 0.015), turned(roll=90))
            for m in upright.values()
        ]
    yield Thing(f"{name} frame", joined(sides), wood)


def _table(rng: Generator) -> Iterator[Thing]:
    top = paint.planks((4600, 2460), 8, rng, (212, 176, 130), (146, 102, 64))
    slab = box(2.5, 0.045, 1.36, 0.006)
    yield Thing("table", slab["top"].moved((0, -0.0225, -0.03)), Finish(top, 0.38, 0.45))
    rim = joined([slab[s].moved((0, -0.0225, -0.03)) for s in ("front", "right", "left", "back")])
    edge = paint.planks((2400, 64), 1, rng, (200, 160, 112), (138, 96, 60))
    yield Thing("table edge", rim, Finish(edge, 0.4, 0.4))
    legs = []
    for x in (-1.15, 1.15):
        for z in (-0.62, 0.56):
            legs += [m.moved((x, -0.4, z)) for m in box(0.07, 0.72, 0.07, 0.005).values()]
    yield Thing("legs", joined(legs), Finish(edge, 0.4, 0.4))


# on the table


def _cloth(rng: Generator) -> Iterator[Thing]:
    width, depth = 0.60, 0.42
    folds = [
        (rng.uniform(0, 2 * np.pi), rng.uniform(-0.9, 0.9), rng.uniform(0.03, 0.05), amount)
        for amount in (0.012, 0.010, 0.014, 0.009, 0.011)
    ]

    def shape(u: Array, v: Array) -> Array:
        x, z = (u - 0.5) * 2, (v - 0.5) * 2
        away = np.clip(np.hypot(x * 0.9, z * 0.8) - 0.42, 0, 1)
        height = 0.003 + 0 * u
        for angle, offset, sharp, amount in folds:
            across = x * np.cos(angle) + z * np.sin(angle) - offset * 0.6
            along = -x * np.sin(angle) + z * np.cos(angle)
            bent = across + 0.12 * np.sin(2.2 * along + angle)
            height = height + amount * away * np.exp(-((bent / (3 * sharp)) ** 2)) * 1.6
        pull = 0.012 * np.sin(5 * z + 1) * np.abs(x) ** 3, 0.012 * np.sin(4 * x) * np.abs(z) ** 3
        return np.stack([x * width / 2 + pull[0], height, z * depth / 2 + pull[1]], axis=-1)

    mesh = surface(shape, 181, 131, inside_out=True).moved((0.17, 0, 0.06), turned(yaw=17))
    inks = [(46, 72, 120), (84, 112, 150), (188, 92, 64)]
    printed = paint.print_cloth((1500, 1050), rng, (236, 228, 208), inks)
    printed[:38], printed[-38:], printed[:, :38], printed[:, -38:] = ((46, 72, 120),) * 4
    yield Thing("cloth", mesh, Finish(printed, 0.95, 0.05))


def _bowl(rng: Generator) -> Iterator[Thing]:
    mesh = revolved(
        [
            (0, 0.020), (0.05, 0.023), (0.10, 0.042), (0.133, 0.076), (0.147, 0.101),
            (0.150, 0.103), (0.152, 0.100), (0.141, 0.073), (0.110, 0.034), (0.066, 0.012),
            (0.058, 0.008), (0.056, 0.0), (0, 0.0),
        ],
        rows=140, columns=161,
    )  # fmt: skip
    inks = [(38, 74, 128), (190, 84, 52), (92, 124, 72)]
    glaze = paint.bowl_glaze((2200, 1000), rng, (240, 234, 220), inks)
    yield Thing("bowl", mesh.moved((0.16, 0.006, 0.03)), Finish(glaze, 0.12, 0.55))


_APPLE = [
    (0, 0.060), (0.006, 0.062), (0.018, 0.071), (0.033, 0.066), (0.0415, 0.046), (0.039, 0.022),
    (0.028, 0.005), (0.014, 0.001), (0, 0.006),
]  # fmt: skip
_PEAR = [
    (0, 0.106), (0.007, 0.105), (0.013, 0.096), (0.018, 0.080), (0.028, 0.054), (0.0375, 0.030),
    (0.035, 0.011), (0.020, 0.001), (0, 0.004),
]  # fmt: skip
_LEMON = [
    (0, 0.047), (0.005, 0.045), (0.011, 0.037), (0.024, 0.023), (0.0285, 0), (0.024, -0.023),
    (0.012, -0.035), (0.006, -0.040), (0, -0.042),
]  # fmt: skip
_ORANGE = [
    (0, 0.0705), (0.004, 0.072), (0.020, 0.0695), (0.034, 0.056), (0.039, 0.036), (0.034, 0.017),
    (0.020, 0.003), (0, 0.0),
]  # fmt: skip


def _fruit(rng: Generator) -> Iterator[Thing]:
    bowl = np.array([0.16, 0.006, 0.03])
    ring = 0.082
    kinds = ["apple", "orange", "apple", "pear", "orange", "apple"]
    count = 0
    for k, kind in enumerate(kinds[:5]):
        angle = 2 * np.pi * k / 5 + 0.5
        place = bowl + np.array([ring * np.sin(angle), 0.040, ring * np.cos(angle)])
        lean = turned(yaw=np.degrees(angle), pitch=rng.uniform(8, 26)) @ turned(rng.uniform(0, 360))
        yield from _one_fruit(rng, f"{kind} {count}", kind, place, lean)
        count += 1
    for kind, dx, dz, y, pitch, yaw in (
        ("apple", -0.035, 0.02, 0.098, 14, 40), ("orange", 0.045, 0.022, 0.094, 8, 100),
        ("pear", 0.012, -0.045, 0.096, -24, 150),
    ):  # fmt: skip
        yield from _one_fruit(
            rng, f"{kind} {count}", kind, bowl + np.array([dx, y, dz]), turned(yaw, pitch)
        )
        count += 1
    for kind, x, z, yaw, pitch in (
        ("lemon", 0.44, 0.20, 55, 90), ("lemon", 0.515, 0.155, 120, 90),
        ("apple", 0.365, 0.285, 20, 9), ("pear", -0.11, 0.10, 250, 8),
        ("apple", 0.62, -0.02, 60, -7),
    ):  # fmt: skip
        lift = 0.0285 if kind == "lemon" else 0.0
        yield from _one_fruit(
            rng, f"{kind} {count}", kind, np.array([x, lift, z]), turned(yaw, pitch)
        )
        count += 1
    yield from _grapes(rng)


def _one_fruit(rng: Generator, name: str, kind: str, place: Array, turn: Array) -> Iterator[Thing]:
    profile = {"apple": _APPLE, "pear": _PEAR, "lemon": _LEMON, "orange": _ORANGE}[kind]
    size = rng.uniform(0.93, 1.05)
    mesh = revolved([(r * size, y * size) for r, y in profile], rows=80, columns=97)
    # no fruit is quite round
    angle = np.arctan2(mesh.points[:, 0], mesh.points[:, 2])
    wobble = 1 + 0.02 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.012 * np.sin(5 * angle)
    mesh.points[:, [0, 2]] *= wobble[:, None]
    if kind == "apple":
        kinds = [((226, 196, 98), (176, 40, 36), 0.62), ((196, 200, 96), (190, 66, 44), 0.26)]
        skin = paint.apple_skin((900, 600), rng, *kinds[int(rng.random() < 0.35)])
        finish = Finish(skin, 0.26, 0.45)
    elif kind == "orange":
        finish = Finish(paint.citrus_skin((900, 600), rng, (238, 138, 32), (206, 104, 16)), 0.38)
    elif kind == "lemon":
        finish = Finish(paint.citrus_skin((900, 600), rng, (240, 204, 60), (216, 172, 34)), 0.36)
    else:
        finish = Finish(paint.pear_skin((900, 600), rng), 0.42)
    shift: Vector = tuple(place)
    yield Thing(name, mesh.moved(shift, turn), finish)
    if kind in ("apple", "pear"):
        top = profile[0][1] * size
        lean = rng.uniform(-0.008, 0.008, 2)
        path = np.array(
            [
                [0, top - 0.004, 0],
                [0.3 * lean[0], top + 0.008, 0.3 * lean[1]],
                [lean[0], top + 0.02, lean[1]],
            ]
        )
        stem = tube(smooth_curve(path, 9), np.linspace(0.0014, 0.0022, 9))
        yield Thing(f"{name} stem", stem.moved(shift, turn), Finish(paint.flat((92, 66, 40), rng)))


def _grapes(rng: Generator) -> Iterator[Thing]:
    """A bunch on the table: balls pushed apart until none overlap, and down."""
    count, radius = 46, 0.0118
    t = rng.beta(1.2, 1.7, count)
    centres = np.stack(
        [0.13 * t, rng.uniform(0.01, 0.06, count), rng.normal(0, 0.03, count) * (1.1 - t)], axis=1
    )
    for _ in range(300):
        apart = centres[:, None] - centres[None]
        distance = np.linalg.norm(apart, axis=-1) + np.eye(count)
        push = np.clip(2 * radius * 0.96 - distance, 0, None) / distance
        centres += 0.35 * (apart * push[..., None]).sum(axis=1)
        centres[:, 1] -= 0.0006
        centres[:, [0, 2]] += 0.004 * ([0.05, 0.0] - centres[:, [0, 2]])
        centres[:, 1] = np.maximum(centres[:, 1], radius)
    ball = revolved(
        [(radius * np.sin(a), radius * np.cos(a)) for a in np.linspace(0, np.pi, 9)], 17, 25
    )
    balls = []
    for centre in centres:
        cell = rng.integers(4, size=2) / 4
        own = ball.with_uv((cell[0], cell[1]), (cell[0] + 0.25, cell[1] + 0.25))
        balls.append(own.moved(tuple(centre), turned(*rng.uniform(0, 360, 3))))
    bloom = paint.cloud((1024, 1024), rng, 0.9)
    skin = paint.texture(paint.mixed(0.36 + 0.17 * bloom, (58, 26, 54), (126, 112, 146)))
    turn = turned(yaw=38)
    place = (0.20, 0.0, 0.335)
    yield Thing("grapes", joined(balls).moved(place, turn), Finish(skin, 0.32, 0.4))
    twig = smooth_curve(np.array([[0.05, 0.04, 0], [0, 0.045, 0.005], [-0.05, 0.028, -0.01]]), 14)
    yield Thing(
        "grapes stem", tube(twig, 0.0022).moved(place, turn), Finish(paint.flat((112, 98, 52), rng))
    )


_VASE = (-0.17, 0.0, -0.17)


def _vase(rng: Generator) -> Iterator[Thing]:
    outside = revolved(
        [
            (0.047, 0.268), (0.048, 0.264), (0.038, 0.240), (0.041, 0.214), (0.072, 0.178),
            (0.094, 0.130), (0.088, 0.075), (0.062, 0.024), (0.056, 0.008), (0.058, 0.0),
        ],
        rows=140, columns=161,
    )  # fmt: skip
    inside = revolved(
        [(0, 0.12), (0.032, 0.16), (0.034, 0.24), (0.043, 0.266), (0.047, 0.268)], 40, 81
    )
    glaze = paint.vase_glaze((2400, 1500), rng, (238, 238, 232), (30, 58, 126))
    yield Thing("vase", outside.moved(_VASE), Finish(glaze, 0.1, 0.55))
    plain = Finish(paint.flat((226, 226, 220), rng), 0.15, 0.5)
    yield Thing("vase inside", inside.moved(_VASE), plain)


def _upright(direction: Array, twist: float) -> Array:
    """A rotation that takes y to `direction`, after a turn about y by `twist` degrees."""
    up = direction / np.linalg.norm(direction)
    side = np.cross(up, [0.31, 0.2, 0.93])
    side /= np.linalg.norm(side)
    basis: Array = np.stack([side, up, np.cross(side, up)], axis=1)
    return basis @ turned(twist)


def _dahlia(rng: Generator, radius: float, layers: int = 6) -> Mesh:
    """Rings of petals, steeper and shorter to the middle; looks up, its middle the origin."""
    petals = []
    for layer in range(layers):
        share = layer / (layers - 1)
        count = round(15 - 7 * share)
        for k in range(count):
            length = radius * (1.0 - 0.62 * share) * rng.uniform(0.94, 1.05)
            leaf = blade(length, length * (0.38 + 0.08 * share), rng.uniform(-0.5, -0.2), 0.45, 1.5)
            yaw = 360 * (k + 0.5 * (layer % 2)) / count + rng.uniform(-3, 3)
            turn = turned(yaw, -8 - 66 * share + rng.uniform(-4, 4))
            petals.append(leaf.moved((0, 0.004 + 0.18 * radius * share, 0), turn))
    return joined(petals)


def _daisy(rng: Generator, radius: float) -> tuple[Mesh, Mesh]:
    """Petals and heart."""
    petals = []
    for k in range(17):
        leaf = blade(
            radius * rng.uniform(0.92, 1.06), radius * 0.32, rng.uniform(0.0, 0.5), 0.2, 1.7
        )
        petals.append(
            leaf.moved((0, 0.001 * (k % 2), 0), turned(360 * k / 17, rng.uniform(-16, -4)))
        )
    heart = revolved(
        [(0, 0.008), (0.15 * radius, 0.0075), (0.28 * radius, 0.003), (0.30 * radius, -0.002)],
        20,
        33,
    )
    return joined(petals), heart


def _bouquet(rng: Generator) -> Iterator[Thing]:
    mouth = np.array(_VASE) + np.array([0, 0.262, 0])
    blooms = (  # heading (degrees about y), lean, length, kind, radius
        (20, 0.20, 0.22, "coral", 0.062), (-60, 0.55, 0.20, "cream", 0.056),
        (80, 0.62, 0.19, "wine", 0.052), (150, 0.35, 0.27, "cream", 0.054),
        (-120, 0.42, 0.29, "coral", 0.056), (-15, 0.80, 0.15, "wine", 0.050),
        (45, 0.85, 0.17, "daisy", 0.040), (-95, 0.92, 0.19, "daisy", 0.040),
        (-35, 0.34, 0.29, "daisy", 0.042), (105, 0.28, 0.31, "daisy", 0.040),
        (190, 0.70, 0.22, "wine", 0.050), (0, 0.45, 0.17, "daisy", 0.038),
        (-150, 0.85, 0.18, "coral", 0.05), (60, 0.33, 0.25, "gold", 0.044),
        (-75, 0.25, 0.24, "gold", 0.042),
    )  # fmt: skip
    colors = {
        "coral": ((226, 112, 88), (176, 52, 50)), "cream": ((240, 222, 190), (226, 176, 120)),
        "wine": ((136, 34, 58), (74, 14, 34)), "daisy": ((240, 238, 230), (226, 220, 180)),
        "gold": ((232, 172, 60), (196, 110, 36)),
    }  # fmt: skip
    heads: dict[str, list[Mesh]] = {name: [] for name in colors}
    hearts, stems, leaves = [], [], []
    leaf_sides = 4

    def leafy(path: Array, start: int, size: float) -> None:
        for k in range(start, len(path) - 1, 2):
            along = path[k + 1] - path[k]
            for _ in range(2):
                outward = _upright(along, rng.uniform(0, 360))
                leaf = blade(size * rng.uniform(0.7, 1.15), size * 0.44, rng.uniform(0.2, 0.9), 0.3)
                cell = rng.integers(leaf_sides, size=2) / leaf_sides
                leaf = leaf.with_uv(tuple(cell), tuple(cell + 1 / leaf_sides))
                turn = outward @ turned(0, rng.uniform(-60, -15))
                leaves.append(leaf.moved(tuple(path[k]), turn))

    for heading, lean, length, kind, radius in blooms:
        a = np.radians(heading)
        out = np.array([np.sin(a), 0, np.cos(a)])
        tip_way = np.array([0, np.cos(lean), 0]) + np.sin(lean) * out
        knots = np.stack(
            [
                mouth - [0, 0.10, 0],
                mouth + 0.015 * out,
                mouth + 0.55 * length * (tip_way + np.array([0, 0.12, 0])),
                mouth + length * tip_way,
            ]
        )
        path = smooth_curve(knots, 16)
        stems.append(tube(path, 0.0026))
        leafy(path, 7, 0.052)
        facing = tip_way + 0.55 * out + [0, -0.1, 0.25]
        turn = _upright(facing, rng.uniform(0, 360))
        if kind == "daisy":
            petals, heart = _daisy(rng, radius)
            hearts.append(heart.moved(tuple(path[-1]), turn))
        else:
            petals = _dahlia(rng, radius)
        heads[kind].append(petals.moved(tuple(path[-1]), turn))
    for heading, lean, length in (
        (-80, 0.75, 0.30),
        (60, 0.60, 0.34),
        (120, 0.9, 0.28),
        (-150, 0.5, 0.38),
        (10, 0.95, 0.22),
        (-40, 1.05, 0.24),
        (170, 0.15, 0.36),
    ):
        a = np.radians(heading)
        out = np.array([np.sin(a), 0, np.cos(a)])
        end = mouth + length * (np.sin(lean) * out + [0, np.cos(lean), 0]) - [0, 0.05 * lean, 0]
        middle = mouth + 0.55 * length * (np.sin(lean * 0.7) * out + [0, np.cos(lean * 0.7), 0])
        path = smooth_curve(np.stack([mouth - [0, 0.1, 0], mouth + 0.02 * out, middle, end]), 26)
        stems.append(tube(path, np.linspace(0.003, 0.0014, 26)))
        leafy(path, 9, 0.046)
    for name, meshes in heads.items():
        base, heart_color = colors[name]
        skin = paint.petal((256, 256), rng, base, heart_color)
        yield Thing(f"{name} petals", joined(meshes), Finish(skin, 0.75, 0.2))
    seeds = paint.flat((208, 148, 34), rng, grain=34)
    yield Thing("daisy hearts", joined(hearts), Finish(seeds, 0.9, 0.1))
    yield Thing("stems", joined(stems), Finish(paint.flat((92, 116, 62), rng), 0.6))
    greens = [(74, 108, 62), (96, 128, 82), (112, 138, 104), (62, 96, 66)]
    yield Thing("leaves", joined(leaves), Finish(paint.leaf_sheet((1024, 1024), rng, greens), 0.5))
    fallen = [
        blade(0.045, 0.02, 0.5, 0.3, 1.5).moved((x, 0.004, z), turned(yaw, 6))
        for x, z, yaw in ((-0.30, 0.06, 20), (-0.05, -0.02, 130), (-0.34, -0.30, 250))
    ]
    yield Thing(
        "fallen petals",
        joined(fallen),
        Finish(paint.petal((256, 256), rng, *colors["coral"]), 0.75, 0.2),
    )


# books


def _book(
    rng: Generator, name: str, length: float, width: float, thick: float, cover: Texture,
    spine: Texture,
    color: Rgb, place: Vector, turn: Array,
) -> Iterator[Thing]:  # fmt: skip
    """A closed book that lies on its back: its spine, along x, in front; its lower side y = 0."""
    board = 0.003
    cloth = Finish(paint.linen((500, 400), rng, color, []), 0.8, 0.2)
    lids = []
    for y in (board / 2, thick - board / 2):
        lids.append({s: m.moved((0, y, 0)) for s, m in box(length, board, width, 0.001).items()})
    back = {
        s: m.moved((0, thick / 2, width / 2)) for s, m in box(length, thick, 0.006, 0.0025).items()
    }
    face = Finish(np.ascontiguousarray(np.rot90(cover)), 0.7, 0.25)
    yield Thing(f"{name} face", lids[1]["top"].moved(place, turn), face)
    yield Thing(f"{name} spine", back["front"].moved(place, turn), Finish(spine, 0.7, 0.25))
    rest = [m for s, m in lids[1].items() if s != "top"] + list(lids[0].values())
    rest += [m for s, m in back.items() if s != "front"]
    yield Thing(f"{name} boards", joined(rest).moved(place, turn), cloth)
    block = box(length - 0.008, thick - 2 * board, width - 0.006, 0.001)
    pages = joined(list(block.values())).moved((0, thick / 2, 0))
    yield Thing(
        f"{name} pages",
        pages.moved(place, turn),
        Finish(paint.page_edges((600, 120), rng), 0.9, 0.1),
    )


def _books(rng: Generator) -> Iterator[Thing]:
    gold = (222, 186, 112)
    stack = (
        ("Tides", "M. Holm", "waves", (36, 66, 84), gold, 0.265, 0.19, 0.046, -9),
        (
            "A Year of Herbs",
            "R. Lind",
            "sprig",
            (96, 110, 76),
            (236, 226, 196),
            0.235,
            0.168,
            0.034,
            7,
        ),
        ("Light", "A. Sol", "sun", (170, 72, 48), (240, 206, 140), 0.215, 0.15, 0.028, -15),
    )
    y = 0.0
    for title, author, motif, color, ink, length, width, thick, yaw in stack:
        cover = paint.book_cover(
            (700, int(700 * length / width)), rng, color, ink, title, author, motif
        )
        spine = paint.book_spine((1000, int(1000 * thick / length)), rng, color, ink, title)
        yield from _book(
            rng, title, length, width, thick, cover, spine, color, (0.50, y, -0.24), turned(yaw)
        )
        y += thick
    yield from _succulent(rng, (0.49, y, -0.25))


def _succulent(rng: Generator, place: Vector) -> Iterator[Thing]:
    pot = revolved(
        [
            (0, 0.06), (0.036, 0.061), (0.037, 0.066), (0.042, 0.067), (0.044, 0.064),
            (0.043, 0.053),
            (0.038, 0.051), (0.034, 0.02), (0.030, 0.002), (0.028, 0), (0, 0),
        ],
        rows=120, columns=97,
    )  # fmt: skip
    yield Thing("pot", pot.moved(place), Finish(paint.terracotta((900, 400), rng), 0.9, 0.1))
    x, y, z = place
    rosette = _dahlia(rng, 0.058, 7).moved((x, y + 0.064, z), turned(0, 8))
    skin = paint.petal((256, 256), rng, (112, 150, 124), (158, 186, 140))
    skin[-46:] = paint.texture(
        paint.mixed(
            np.linspace(0, 0.8, 46)[:, None] + np.zeros((1, 256)), (112, 150, 124), (178, 96, 96)
        )
    )
    yield Thing("succulent", rosette, Finish(skin, 0.45, 0.35))


_WORDS = [
    "The window faces east and so the room is bright before anyone is awake. Light falls on",
    "the table first, then on the wall, and by nine it has found the fruit. I have drawn the",
    "same jug for forty days. It is never the same jug. In rain it is grey and keeps to",
    "itself; when the sun comes it turns blue, throws a shadow twice its length and seems",
    "about to speak. What we see of a thing is mostly what shines on it. Walk round it",
    "slowly, look again from each side, and the shape comes out of the pictures by itself, as",
    "a coast comes out of fog.",
]


def _open_book(rng: Generator) -> Iterator[Thing]:
    width, length, thick = 0.150, 0.212, 0.020
    place, turn = (-0.27, 0.004, 0.27), turned(yaw=14)

    def rise(x: Array) -> Array:
        return thick * (1 - np.exp(-x / 0.011)) * (1 - 0.28 * (x / width) ** 1.5) + 0.001

    for side, heading, plate in ((-1, "On Looking", False), (1, "The Garden", True)):

        def sheet(u: Array, v: Array, side: int = side) -> Array:
            x = u * width if side > 0 else (1 - u) * width
            return np.stack([side * x, rise(x), (v - 0.5) * length], axis=-1)

        page = paint.printed_page((900, int(900 * length / width)), rng, heading, _WORDS, plate)
        mesh = surface(sheet, 61, 9, inside_out=True)
        yield Thing(f"page {heading}", mesh.moved(place, turn), Finish(page, 0.9, 0.1))
        walls = []
        for end in (-0.5, 0.5):

            def wall(u: Array, v: Array, side: int = side, end: float = end) -> Array:
                return np.stack(
                    [side * u * width, rise(u * width) * (1 - v), end * length + 0 * u], axis=-1
                )

            walls.append(surface(wall, 61, 3, inside_out=(end > 0) == (side > 0)))

        def fore(u: Array, v: Array, side: int = side) -> Array:
            edge = rise(np.full_like(u, width))
            return np.stack(
                [side * (width + 0.004 * v), edge * (1 - v), (u - 0.5) * length], axis=-1
            )

        walls.append(surface(fore, 9, 3, inside_out=side < 0))
        edges = Finish(paint.page_edges((600, 120), rng), 0.9, 0.1)
        yield Thing(f"page edges {side}", joined(walls).moved(place, turn), edges)
    boards = box(2 * width + 0.022, 0.003, length + 0.012, 0.001)
    cloth = Finish(paint.linen((600, 450), rng, (128, 44, 46), []), 0.8, 0.2)
    yield Thing(
        "open boards",
        joined(list(boards.values())).moved((place[0], 0.0025, place[2]), turn),
        cloth,
    )


# crockery


def _disc(radius: float, height: float) -> Mesh:
    return revolved([(0, height), (radius, height)], 3, 65, smooth=False)


def _tea(rng: Generator) -> Iterator[Thing]:
    glaze = paint.stoneware((1400, 1000), rng, (206, 190, 162), (78, 54, 38), (84, 122, 122))
    finish = Finish(glaze, 0.2, 0.5)
    place, turn = (-0.50, 0.0, -0.05), turned(yaw=-32)
    body = revolved(
        [
            (0, 0.152), (0.011, 0.150), (0.013, 0.141), (0.007, 0.133), (0.026, 0.128),
            (0.049, 0.116),
            (0.051, 0.113), (0.055, 0.112), (0.082, 0.090), (0.094, 0.058), (0.083, 0.022),
            (0.060, 0.005), (0.056, 0.0), (0, 0.0),
        ],
        rows=160, columns=129,
    )  # fmt: skip
    spout = tube(
        smooth_curve(np.array([[0.07, 0.035, 0], [0.115, 0.052, 0], [0.132, 0.092, 0],
        [0.158, 0.116, 0]]), 40),
        np.interp(np.linspace(0, 1, 40), [0, 0.5, 1], [0.026, 0.014, 0.010]), 33,
    )  # fmt: skip
    handle = tube(
        smooth_curve(np.array([[-0.070, 0.098, 0], [-0.115, 0.112, 0], [-0.142, 0.075, 0],
        [-0.118, 0.036, 0], [-0.082, 0.030, 0]]), 60),
        0.0075, 25,
    )  # fmt: skip
    pot = joined(
        [body, spout.with_uv((0.1, 0.3), (0.3, 0.7)), handle.with_uv((0.6, 0.3), (0.7, 0.45))]
    )
    yield Thing("teapot", pot.moved(place, turn), finish)
    cup_at, cup_turn = (-0.47, 0.0, 0.135), turned(yaw=-140)
    saucer = revolved(
        [(0, 0.008), (0.03, 0.008), (0.045, 0.010), (0.070, 0.019), (0.072, 0.018), (0.048, 0.005),
        (0.03, 0.0), (0, 0.0)],
        60, 97,
    )  # fmt: skip
    cup = revolved(
        [
            (0, 0.014), (0.020, 0.016), (0.034, 0.032), (0.038, 0.062), (0.0395, 0.0645),
            (0.041, 0.062),
            (0.038, 0.032), (0.024, 0.010), (0.021, 0.004), (0.0215, 0.0), (0, 0.0),
        ],
        100, 97,
    ).moved((0, 0.008, 0))  # fmt: skip
    ear = tube(
        smooth_curve(np.array([[0.036, 0.062, 0], [0.056, 0.063, 0], [0.058, 0.040, 0],
        [0.033, 0.030, 0]]), 40),
        0.004, 17,
    ).with_uv((0.2, 0.3), (0.3, 0.45))  # fmt: skip
    yield Thing(
        "saucer",
        saucer.moved(cup_at),
        Finish(paint.stoneware((900, 500), rng, (206, 190, 162), (78, 54, 38), None), 0.2, 0.5),
    )
    glaze = paint.stoneware((1000, 700), rng, (206, 190, 162), (78, 54, 38), (84, 122, 122))
    yield Thing("cup", joined([cup, ear]).moved(cup_at, cup_turn), Finish(glaze, 0.2, 0.5))
    tea = _disc(0.0365, 0.058).moved(cup_at)
    yield Thing("tea", tea, Finish(paint.flat((120, 58, 20), rng, grain=2), 0.05, 0.5))


def _back_row(rng: Generator) -> Iterator[Thing]:
    """What stands against the wall: a painted plate, a board, a candle, a row of books, a jar."""
    radius = 0.15
    plate = revolved(
        [(0, 0.010), (0.08, 0.010), (0.098, 0.014), (0.145, 0.026), (0.150, 0.027), (0.150, 0.024),
        (0.10, 0.008), (0.07, 0.0), (0, 0.0)],
        90, 129,
    )  # fmt: skip
    plate.uv[:] = 0.5 + plate.points[:, [0, 2]] / (2 * radius)
    inks = [(36, 70, 120), (196, 92, 58), (96, 128, 84)]
    glaze = paint.plate_glaze(1100, rng, (240, 234, 218), inks)
    yield Thing(
        "plate", plate.moved((0.80, 0.152, WALL + 0.055), turned(0, 77)), Finish(glaze, 0.14, 0.5)
    )
    board = box(0.18, 0.29, 0.018, 0.006)
    grain = paint.planks((900, 560), 5, rng, (226, 190, 142), (150, 96, 56))
    grain = np.ascontiguousarray(np.rot90(grain))
    slab = joined(list(board.values())).moved((-0.43, 0.143, WALL + 0.055), turned(0, -12, 2))
    yield Thing("cutting board", slab, Finish(grain, 0.5))
    stick = revolved(
        [
            (0, 0.20), (0.012, 0.201), (0.014, 0.196), (0.011, 0.18), (0.020, 0.176),
            (0.009, 0.168), (0.008, 0.12),
            (0.016, 0.108), (0.008, 0.096), (0.009, 0.04), (0.020, 0.022), (0.048, 0.012),
            (0.05, 0.004), (0.049, 0), (0, 0),
        ],
        200, 65,
    )  # fmt: skip
    brass = Finish(paint.flat((206, 164, 88), rng, grain=10), 0.28, 0.5, 1.0)
    at = (0.26, 0.0, -0.40)
    yield Thing("candlestick", stick.moved(at), brass)
    candle = revolved(
        [(0, 0.385), (0.006, 0.384), (0.0095, 0.380), (0.0105, 0.37), (0.011, 0.20), (0, 0.2)],
        80,
        49,
    )
    yield Thing("candle", candle.moved(at), Finish(paint.flat((238, 228, 204), rng), 0.5, 0.4))
    wick = tube(np.array([[0, 0.383, 0], [0.001, 0.390, 0], [0.003, 0.395, 0.001]]), 0.0008, 7)
    yield Thing("wick", wick.moved(at), Finish(paint.flat((30, 26, 24), rng)))
    x = -1.16
    for title, color, ink, thick, length in (
        ("Atlas", (46, 78, 74), (224, 196, 130), 0.042, 0.26),
        ("Rivers of the North", (150, 62, 50), (240, 214, 160), 0.034, 0.235),
        ("Baking", (222, 198, 150), (96, 56, 40), 0.028, 0.215), ("Winter", (62, 72, 110),
        (226, 220, 210), 0.038, 0.245),
        ("Moss & Fern", (86, 104, 66), (232, 220, 180), 0.026, 0.225), ("Letters", (196, 136, 62),
        (60, 36, 24), 0.036, 0.23),
        ("Clay", (128, 84, 66), (236, 214, 186), 0.03, 0.205), ("Birds", (58, 60, 64),
        (216, 176, 100), 0.044, 0.255),
    ):  # fmt: skip
        spine = paint.book_spine((1000, int(1000 * thick / length)), rng, color, ink, title)
        cover = paint.book_cover((360, 520), rng, color, ink, title, "", "sun")
        turn = turned(roll=-90)
        yield from _book(
            rng, title, length, 0.16, thick, cover, spine, color, (x, length / 2, WALL + 0.11), turn
        )
        x += thick + 0.002
    jar = revolved(
        [
            (0, 0.21), (0.045, 0.212), (0.052, 0.208), (0.050, 0.19), (0.075, 0.165),
            (0.092, 0.11), (0.082, 0.04),
            (0.062, 0.004), (0.058, 0), (0, 0),
        ],
        120, 129,
    )  # fmt: skip
    glaze = paint.stoneware((1500, 900), rng, (214, 186, 140), (96, 62, 40), (150, 78, 52))
    yield Thing("jar", jar.moved((1.06, 0, -0.42)), Finish(glaze, 0.22, 0.5))


def _postcards(rng: Generator) -> Iterator[Thing]:
    """Two on the table, one over the other."""
    cards = (
        ("lake card", paint.landscape((560, 400), rng), 0.148, 0.105, (0.60, 0.0015, 0.27), -24),
        ("flower card", paint.botanical((400, 560), rng, (214, 120, 60), "Calendula"),
        0.105, 0.148, (0.655, 0.003, 0.17), 31),
    )  # fmt: skip
    for name, picture, width, height, place, yaw in cards:
        card = rectangle(width, height).moved(place, turned(yaw, -90))
        yield Thing(name, card, Finish(picture, 0.5, 0.3))
