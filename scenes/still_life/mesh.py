"""Triangle meshes of round, swept and bent things. Lengths are metres, y points up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Mesh:
    """`points` [N,3] with unit `normals` [N,3] and `uv` [N,2] in texture space (v grows
    downwards); `faces` [F,3] index them, wound so that a face looks where its normals point."""

    points: Array
    normals: Array
    uv: Array
    faces: NDArray[np.int64]

    def moved(self, shift: Vector = (0, 0, 0), turn: Array | None = None) -> Mesh:
        """Turned by the rotation `turn` [3,3] about the origin, then shifted."""
        turn = np.eye(3) if turn is None else turn
        return replace(
            self, points=self.points @ turn.T + np.array(shift), normals=self.normals @ turn.T
        )

    def with_uv(self, low: tuple[float, float], high: tuple[float, float]) -> Mesh:
        """Its texture is the rectangle from `low` to `high` of a larger one."""
        start, end = np.array(low), np.array(high)
        return replace(self, uv=start + self.uv * (end - start))

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest coordinates."""
        return self.points.min(axis=0), self.points.max(axis=0)


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0] + [len(mesh.points) for mesh in meshes])
    return Mesh(
        np.concatenate([mesh.points for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
    )


def turned(yaw: float = 0, pitch: float = 0, roll: float = 0) -> Array:
    """Rotation by `roll` about z, then `pitch` about x, then `yaw` about y; degrees."""
    (cy, cx, cz), (sy, sx, sz) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: Array = about_y @ about_x @ about_z
    return rotation


def surface(
    shape: Callable[[Array, Array], Array],
    columns: int,
    rows: int,
    closed: bool = False,
    inside_out: bool = False,
) -> Mesh:
    """The image of the unit square under `shape`: (u, v) of [rows, columns] to points [..., 3].

    `closed`: column 0 and the last are the same points. Normals are those of `shape` itself, by
    differences; they point along du x dv, or against it if `inside_out`.
    """
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    points = shape(u, v)
    if closed:
        points[:, -1] = points[:, 0]
        ring = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], axis=1)
        along_u = ring[:, 2:] - ring[:, :-2]
    else:
        along_u = np.gradient(points, axis=1)
    along_v = np.gradient(points, axis=0)
    # at a pole one direction vanishes: take it from the next row
    small = np.linalg.norm(along_u, axis=-1) < 1e-9
    for row, beside in ((0, 1), (-1, -2)):
        along_u[row][small[row]] = along_u[beside][small[row]]
    normals = np.cross(along_u, along_v) * (-1 if inside_out else 1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = normals / np.maximum(length, 1e-12)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + columns + 1, corner + columns], axis=1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return _wound(
        Mesh(
            points.reshape(-1, 3),
            normals.reshape(-1, 3),
            np.stack([u, v], axis=-1).reshape(-1, 2),
            faces,
        )
    )


def _wound(mesh: Mesh) -> Mesh:
    """Faces turned round where they look against their normals; those without area left out."""
    a, b, c = (mesh.points[mesh.faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    outward = (across * mesh.normals[mesh.faces].sum(axis=1)).sum(axis=1)
    faces = np.where((outward < 0)[:, None], mesh.faces[:, ::-1], mesh.faces)
    return replace(mesh, faces=faces[np.linalg.norm(across, axis=1) > 1e-14])


def smooth_curve(knots: Array, count: int) -> Array:
    """`count` points on a Catmull-Rom curve through `knots` [K,D], evenly spaced in length."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, 40)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(
            0.5
            * (
                2 * p1
                + (p2 - p0) * t
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            )
        )
    dense = np.concatenate(pieces)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))]
    at = np.linspace(0, length[-1], count)
    return np.stack([np.interp(at, length, column) for column in dense.T], axis=1)


def revolved(
    knots: Sequence[tuple[float, float]], rows: int = 96, columns: int = 129, smooth: bool = True
) -> Mesh:
    """The curve through `knots` (radius, height), from top to bottom outside, turned about the y
    axis. v is the length along the curve, u the angle."""
    profile = np.array(knots, dtype=np.float64)
    if smooth:
        curve = smooth_curve(profile, rows)
    else:
        step = np.linspace(0, len(profile) - 1, rows)
        index = np.arange(len(profile))
        curve = np.stack([np.interp(step, index, column) for column in profile.T], axis=1)
    curve[:, 0] = np.maximum(curve[:, 0], 0)

    def shape(u: Array, v: Array) -> Array:
        at = v * (rows - 1)
        radius, height = (np.interp(at, np.arange(rows), column) for column in curve.T)
        angle = 2 * np.pi * u
        return np.stack([radius * np.sin(angle), height, radius * np.cos(angle)], axis=-1)

    return surface(shape, columns, rows, closed=True, inside_out=True)


def tube(path: Array, radius: float | Array, columns: int = 13) -> Mesh:
    """A round rod along `path` [R,3]; `radius` one for all or [R]."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along[0], [0.3, 0.1, 1.0])
    sides = []
    for direction in along:  # carried along without a twist
        side = side - direction * (side @ direction)
        side = side / np.linalg.norm(side)
        sides.append(side)
    first = np.array(sides)
    second = np.cross(along, first)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(path))

    def shape(u: Array, v: Array) -> Array:
        row = np.rint(v * (len(path) - 1)).astype(int)
        angle = 2 * np.pi * u[..., None]
        return path[row] + radii[row][..., None] * (
            np.cos(angle) * first[row] + np.sin(angle) * second[row]
        )

    return surface(shape, columns, len(path), closed=True)


def rectangle(width: float, height: float, cells: int = 2) -> Mesh:
    """In the plane z = 0 about the origin, looking along z, its texture upright."""

    def shape(u: Array, v: Array) -> Array:
        return np.stack([(u - 0.5) * width, (0.5 - v) * height, 0 * u], axis=-1)

    return surface(shape, cells, cells, inside_out=True)


_FACING = {
    "front": turned(),
    "back": turned(yaw=180),
    "right": turned(yaw=90),
    "left": turned(yaw=-90),
    "top": turned(pitch=-90),
    "bottom": turned(pitch=90),
}


def box(width: float, height: float, depth: float, edge: float = 0.002) -> dict[str, Mesh]:
    """A box about the origin with rounded edges, one mesh a side: width along x, height along y,
    depth along z. Textures are upright seen from outside; that of the top has its lower edge in
    front."""
    half = np.array([width, height, depth]) / 2
    core = half - edge
    # closer together at the ends, so that there are points on the rounding
    ends = np.linspace(0, 1, 5)
    made = {}
    for side, turn in _FACING.items():
        a, b, c = np.abs(turn.T) @ half

        def spaced(length: float) -> Array:
            near = ends * 1.6 * edge / length
            return np.concatenate([near, 1 - near[::-1]])

        def shape(u: Array, v: Array, turn: Array = turn, a=a, b=b, c=c) -> Array:  # type: ignore[no-untyped-def]
            return np.stack([(u * 2 - 1) * a, (1 - v * 2) * b, c + 0 * u], axis=-1) @ turn.T

        u, v = np.meshgrid(spaced(2 * a), spaced(2 * b))
        raw = shape(u, v)
        inner = np.clip(raw, -core, core)
        normals = raw - inner
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        rows, columns = u.shape
        corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
        quads = np.stack([corner, corner + 1, corner + columns + 1, corner + columns], axis=1)
        made[side] = _wound(
            Mesh(
                (inner + edge * normals).reshape(-1, 3),
                normals.reshape(-1, 3),
                np.stack([u, v], axis=-1).reshape(-1, 2),
                np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]),
            )
        )
    return made


def blade(length: float, width: float, bend: float, fold: float, tip: float = 1.0) -> Mesh:
    """A leaf or petal: from the origin along z, looking up (y), widest in the middle.

    `bend`: how far the tip droops (radians), `fold`: how much the halves rise beside the midrib,
    `tip`: 1 pointed, larger is rounder.
    """

    def shape(u: Array, v: Array) -> Array:
        half = width / 2 * np.clip(np.sin(np.pi * v**0.8) ** (1 / tip), 0, None)
        across = (u - 0.5) * 2
        angle = bend * v
        lift = fold * np.abs(across) * half
        # an arc of the given bend, run at constant speed
        safe = bend if abs(bend) > 1e-3 else 1e-3
        forward = length * np.sin(safe * v) / safe
        down = length * (1 - np.cos(safe * v)) / safe
        return np.stack(
            [across * half, -down + lift * np.cos(angle), forward + lift * np.sin(angle)], axis=-1
        )

    return surface(shape, 7, 13, inside_out=True)
