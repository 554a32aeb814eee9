"""Pictures of textured surfaces with exact depth, taken by cameras with radial distortion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refinement.dense.views import Camera, Floats
from refinement.photograph import Photograph
from refinement.result import RefinedPicture, SparsePoints

Array = NDArray[np.float64]
Cast = Callable[[Array, Array], Array]
"""Rays (origin [3], directions [h, w, 3]) to distances along them, inf where nothing is hit."""


@dataclass(frozen=True)
class Taken:
    photographs: list[Photograph]
    pictures: list[RefinedPicture]
    depths: list[Floats]
    sparse: SparsePoints


def plane(normal: Sequence[float], offset: float) -> Cast:
    """Points with normal . X = offset."""

    def cast(origin: Array, directions: Array) -> Array:
        along = directions @ np.array(normal)
        distance = (offset - origin @ np.array(normal)) / along
        return np.where(distance > 0, distance, np.inf)

    return cast


def step(near: float, far: float, edge: float) -> Cast:
    """A wall at z = `far`, before it one at z = `near` for x < `edge`."""

    def cast(origin: Array, directions: Array) -> Array:
        front = (near - origin[2]) / directions[..., 2]
        left = origin[0] + front * directions[..., 0] < edge
        return np.where(left, front, (far - origin[2]) / directions[..., 2])

    return cast


def texture(points: Array, seed: int = 0) -> Array:
    """Grey values from 0 to 1, waves of many directions and lengths."""
    rng = np.random.default_rng(seed)
    value = np.zeros(points.shape[:-1])
    for length in (0.5, 0.25, 0.14, 0.09, 0.07):
        for _ in range(4):
            wave = rng.normal(size=3)
            wave *= 2 * np.pi / length / np.linalg.norm(wave)
            value += np.sin(points @ wave + rng.uniform(0, 6))
    return 0.5 + value / 14


def take(
    folder: Path,
    cast: Cast,
    centres: Sequence[Sequence[float]],
    *,
    size: tuple[int, int] = (72, 96),
    focal: float = 90.0,
    distortion: float = 0.0,
    look_at: Sequence[float] = (0.0, 0.0, 3.0),
    shade: Callable[[Array], Array] = texture,
) -> Taken:
    photographs, pictures, depths = [], [], []
    height, width = size
    for index, centre in enumerate(np.array(centres, float)):
        ahead = np.array(look_at) - centre
        ahead /= np.linalg.norm(ahead)
        right = np.cross((0.0, 1.0, 0.0), ahead)
        right /= np.linalg.norm(right)
        rotation = np.stack((right, np.cross(ahead, right), ahead))
        extrinsic = np.concatenate((rotation, -(rotation @ centre)[:, None]), 1)
        photograph = Photograph(folder / f"{index}.png", height, width)
        picture = RefinedPicture(
            "refined", extrinsic, focal, width / 2, height / 2, distortion, 1.0, 100, 10.0, None
        )
        fine = 3  # each pixel is the mean of 3 x 3 rays
        grey = np.zeros((height * fine, width * fine))
        for rows, columns, target in ((height * fine, width * fine, grey), (height, width, None)):
            x, y = Camera.of(photograph, picture, rows, columns).rays
            local = np.stack((x, y, np.ones_like(x)), -1).astype(float)
            directions = local @ rotation
            distance = cast(centre, directions)
            if target is None:
                depths.append(distance.astype(np.float32))
            else:
                target[:] = shade(centre + distance[..., None] * directions)
        grey = grey.reshape(height, fine, width, fine).mean((1, 3))
        values = np.clip(grey * 255 + 0.5, 0, 255).astype(np.uint8)
        Image.fromarray(values).convert("RGB").save(photograph.path)
        photographs.append(photograph)
        pictures.append(picture)
    return Taken(photographs, pictures, depths, _sparse(photographs, pictures, depths))


def _sparse(
    photographs: list[Photograph], pictures: list[RefinedPicture], depths: list[Floats]
) -> SparsePoints:
    """Every eighth pixel's point, observed by all pictures that it is not hidden from."""
    xyz, start, seen_by, pixel = [], [0], [], []
    cameras = [
        Camera.of(photograph, picture, photograph.height, photograph.width)
        for photograph, picture in zip(photographs, pictures, strict=True)
    ]
    for camera, depth in zip(cameras, depths, strict=True):
        points = _world_points(camera, depth)[4::8, 4::8].reshape(-1, 3)
        for point in points.astype(float):
            found = []
            for index, (other, truth) in enumerate(zip(cameras, depths, strict=True)):
                column, row, z = (float(value) for value in other.project(point))
                if z > 0 and 0 <= column < other.width and 0 <= row < other.height:
                    there = truth[int(row), int(column)]
                    if abs(there - z) < 0.03 * z:
                        found.append((index, column, row))
            if len(found) >= 2:
                xyz.append(point)
                seen_by += [index for index, _, _ in found]
                pixel += [(column, row) for _, column, row in found]
                start.append(len(seen_by))
    return SparsePoints(
        np.array(xyz).reshape(-1, 3),
        np.zeros((len(xyz), 3), np.uint8),
        np.ones(len(xyz)),
        np.array(start),
        np.array(seen_by, np.int64),
        np.array(pixel).reshape(-1, 2),
    )


def _world_points(camera: Camera, depth: Floats) -> Floats:
    """The world points of a depth map, [height, width, 3]."""
    x, y = camera.rays
    local = np.stack((x * depth, y * depth, depth), -1) - camera.translation.astype(np.float32)
    return local @ camera.rotation.astype(np.float32)
