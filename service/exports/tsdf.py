"""One surface from the depth maps of many pictures.

Verified depth is fused into a truncated signed distance on sparse blocks of voxels (Curless and
Levoy, "A volumetric method for building complex models from range images", 1996); marching cubes
gives the surface. Distances are positive in front of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.scene.distortion import distort
from refinement.result import VERIFIED
from service.exports.points import PixelGrid, first_by_cube
from service.result.scene import Scene

_SIDE = 16
"""Voxels along a block's edge."""
_MOST_BLOCKS = 3000
VOLUME_BYTES = 2 * _MOST_BLOCKS * _SIDE**3 * 24
"""What fusing takes at most beside the maps: 24 bytes a voxel, and as much for the surface."""
_VOXEL = 1.5
"""Side of a voxel over the median width of a depth map's pixel where it lies."""
_BAND = 4
"""Voxels before and behind a surface in which distances are kept."""
_BLOCKS_AT_ONCE = 128
_SMALLEST_SHARE = 0.002
"""Pieces with fewer of all triangles than this are left out."""
_MERGE = 1024
"""Vertices of neighbouring blocks are one where they agree to this fraction of a voxel."""


@dataclass(frozen=True)
class Mesh:
    """A surface in the world frame; triangles run counter-clockwise as seen from the cameras."""

    vertices: NDArray[np.float32]  # [N, 3]
    colors: NDArray[np.uint8]  # [N, 3], sRGB
    faces: NDArray[np.int64]  # [F, 3]


@dataclass(frozen=True)
class _View:
    """One picture's verified depth [h, w], NaN elsewhere, and its camera on that grid."""

    depth: NDArray[np.float32]
    colors: NDArray[np.uint8]
    extrinsic: NDArray[np.float64]
    focal: NDArray[np.float64]  # [2]
    centre: NDArray[np.float64]  # [2]
    distortion: float


class _Volume:
    """Sparse blocks of voxels: distance over the band's width, colour, and both one's weights."""

    def __init__(self, blocks: NDArray[np.int64], voxel: float) -> None:
        self.blocks, self.voxel = blocks, voxel  # [B, 3]
        self.numbers = {tuple(block): number for number, block in enumerate(blocks.tolist())}
        shape = (len(blocks), _SIDE, _SIDE, _SIDE)
        self.distance, self.weight = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        self.color = np.zeros((*shape, 3), np.float32)
        self.color_weight = np.zeros(shape, np.float32)
        self._corners = np.stack(np.meshgrid(*[np.arange(_SIDE)] * 3, indexing="ij"), -1)

    def add(self, view: _View) -> None:
        """Bring in what one picture sees."""
        for some in self._in_sight(view):
            corners = self.blocks[some][:, None, None, None] * _SIDE + self._corners
            points = (corners * self.voxel).reshape(-1, 3)
            z, row, column, inside = _project(view, points)
            found = np.flatnonzero(inside)
            distance = view.depth[row[found], column[found]] - z[found]
            band = np.float32(_BAND * self.voxel)
            kept = distance > -band  # False for NaN
            found, distance = found[kept], distance[kept]
            if not len(found):
                continue
            # the error of depth grows with its square
            weight = (1 / np.square(z[found])).astype(np.float32)
            place = some[found // _SIDE**3], found % _SIDE**3
            flat = (len(self.blocks), _SIDE**3)
            total, mean = self.weight.reshape(flat), self.distance.reshape(flat)
            before = total[place]
            value = np.minimum(distance / band, 1)
            mean[place] = (mean[place] * before + value * weight) / (before + weight)
            total[place] = before + weight
            near = distance < band
            place = place[0][near], place[1][near]
            color = view.colors[row[found[near]], column[found[near]]]
            self.color.reshape(*flat, 3)[place] += color * weight[near, None]
            self.color_weight.reshape(flat)[place] += weight[near]

    def _in_sight(self, view: _View) -> Iterator[NDArray[np.int64]]:
        """Numbers of blocks that a picture may see, some at a time."""
        centres = (self.blocks + 0.5) * _SIDE * self.voxel
        seen = centres @ view.extrinsic[:, :3].T + view.extrinsic[:, 3]
        radius = _SIDE * self.voxel * math.sqrt(3) / 2
        depth = np.maximum(seen[:, 2], 1e-9)
        places = distort(seen[:, :2] / depth[:, None], view.distortion)
        pixels = places * view.focal + view.centre
        margin = radius / np.maximum(depth - radius, 1e-9)[:, None] * view.focal * 1.5
        size = np.array(view.depth.shape[::-1])
        visible = ((pixels > -margin) & (pixels < size + margin)).all(1)
        visible |= np.linalg.norm(seen, axis=1) < 2 * radius
        numbers = np.flatnonzero(visible & (seen[:, 2] > -radius))
        for start in range(0, len(numbers), _BLOCKS_AT_ONCE):
            yield numbers[start : start + _BLOCKS_AT_ONCE]

    def with_neighbours(self, values: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """The values of a block and of the next voxels beyond, [17, 17, 17, ...]; 0 where there
        are none."""
        whole = np.zeros((*[_SIDE + 1] * 3, *values.shape[4:]), np.float32)
        block = self.blocks[number]
        for step in np.ndindex(2, 2, 2):
            other = self.numbers.get(tuple((block + step).tolist()))
            if other is not None:
                to = tuple(slice(_SIDE, None) if far else slice(_SIDE) for far in step)
                of = tuple(slice(1) if far else slice(None) for far in step)
                whole[to] = values[other][of]
        return whole


def fuse(scene: Scene) -> Mesh:
    """The surface that the verified pixels of a scene with dense depth lie on; without any, a mesh
    without triangles.

    The voxel follows from the maps' own resolution, and grows until the blocks fit in memory.
    """
    voxel = _voxel(scene)
    if voxel is None:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), _no_faces())
    blocks = _blocks(scene, voxel)
    while len(blocks) > _MOST_BLOCKS:  # a surface's blocks go with the square of their side
        voxel *= max(1.05, math.sqrt(len(blocks) / _MOST_BLOCKS))
        blocks = _blocks(scene, voxel)
    volume = _Volume(blocks, voxel)
    for index in range(len(scene.document.pictures)):
        view = _view(scene, index)
        if view is not None:
            volume.add(view)
    return _without_crumbs(_surface(volume))


def _view(scene: Scene, index: int) -> _View | None:
    """None for a picture without verified depth."""
    grid, picture = PixelGrid(scene, index), scene.document.pictures[index]
    assert scene.dense is not None
    verified = (np.asarray(scene.dense[index].source) == VERIFIED) & grid.kept
    if not verified.any():
        return None
    matrix, (rows, columns) = np.array(picture.intrinsic), verified.shape
    share = np.array([columns, rows]) / [picture.original_size.width, picture.original_size.height]
    return _View(
        depth=np.where(verified, grid.depth, np.float32(np.nan)),
        colors=grid.colors,
        extrinsic=np.array(picture.extrinsic),
        focal=np.diag(matrix)[:2] * share,
        centre=matrix[:2, 2] * share,
        distortion=picture.distortion,
    )


def _verified(scene: Scene) -> Iterator[tuple[PixelGrid, NDArray[np.int64], NDArray[np.int64]]]:
    """Each picture's grid, and rows and columns of its verified pixels."""
    for index in range(len(scene.document.pictures)):
        grid = PixelGrid(scene, index)
        rows, columns = np.nonzero(grid.verified & grid.kept)
        if len(rows):
            yield grid, rows, columns


def _voxel(scene: Scene) -> float | None:
    widths = [
        float(np.median(grid.depth[rows, columns])) * grid.pixel_width
        for grid, rows, columns in _verified(scene)
    ]
    return _VOXEL * float(np.median(widths)) if widths else None


def _blocks(scene: Scene, voxel: float) -> NDArray[np.int64]:
    """Blocks [B, 3] that the bands around all verified pixels touch."""
    found = np.empty((0, 3), np.int64)
    extrinsics = scene.extrinsics()
    for grid, rows, columns in _verified(scene):
        points = grid.points(rows, columns).astype(np.float64)
        extrinsic = extrinsics[grid.index]
        rays = points + extrinsic[:, :3].T @ extrinsic[:, 3]  # from the camera's centre
        rays *= _BAND * voxel / np.linalg.norm(rays, axis=1, keepdims=True)
        for shift in (-1, 0, 1):
            places = points + shift * rays
            places = places[first_by_cube(places, _SIDE * voxel)]
            blocks = np.floor(places / (_SIDE * voxel)).astype(np.int64)
            found = np.concatenate([found, blocks])
        found = np.unique(found, axis=0)
    return found


def _project(
    view: _View, points: NDArray[np.floating]
) -> tuple[NDArray, NDArray, NDArray, NDArray[np.bool_]]:
    """Depths, rows and columns [N] of world points [N, 3], and whether they are in the picture."""
    seen = points @ view.extrinsic[:, :3].T + view.extrinsic[:, 3]
    z = seen[:, 2]
    ahead = z > 1e-9
    places = distort(seen[:, :2] / np.where(ahead, z, 1)[:, None], view.distortion)
    column, row = np.floor(places * view.focal + view.centre).T
    inside = ahead & (row >= 0) & (row < view.depth.shape[0])
    inside &= (column >= 0) & (column < view.depth.shape[1])
    return z, np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int), inside


def _surface(volume: _Volume) -> Mesh:
    from skimage.measure import marching_cubes  # of the extra `refinement`

    vertices, faces = [np.empty((0, 3))], [_no_faces()]
    colors = [np.empty((0, 3), np.float32)]
    count = 0
    for number, block in enumerate(volume.blocks):
        known = volume.with_neighbours(volume.weight, number) > 0
        cells = np.ones((_SIDE, _SIDE, _SIDE), bool)  # those whose eight corners are known
        for step in np.ndindex(2, 2, 2):
            cells &= known[tuple(slice(far, _SIDE + far) for far in step)]
        distance = volume.with_neighbours(volume.distance, number)
        distance[~known] = 1
        if not cells.any() or not distance.min() < 0 < distance.max():
            continue
        mask = np.zeros(known.shape, bool)
        mask[1:, 1:, 1:] = cells  # it is asked at the far corner
        try:
            found, triangles, _, _ = marching_cubes(distance, 0.0, mask=mask)
        except RuntimeError:  # no surface in these cells
            continue
        vertices.append(found.astype(np.float64) + block * _SIDE)
        colors.append(_colors_at(volume, number, found))
        faces.append(triangles.astype(np.int64) + count)
        count += len(found)
    places = np.concatenate(vertices)
    first, new = _merged(np.round(places * _MERGE).astype(np.int64))
    triangles = new[np.concatenate(faces)]
    a, b, c = triangles.T
    return Mesh(
        (places[first] * volume.voxel).astype(np.float32),
        np.concatenate(colors)[first].round().clip(0, 255).astype(np.uint8),
        triangles[(a != b) & (b != c) & (c != a)],
    )


def _merged(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the distinct rows of `places` [N, 3], and which of them each row is [N]."""
    order = np.lexsort(places.T)
    new = np.ones(len(places), bool)
    new[1:] = (places[order[1:]] != places[order[:-1]]).any(1)
    which = np.empty(len(places), np.int64)
    which[order] = np.cumsum(new) - 1
    return order[new], which


def _colors_at(volume: _Volume, number: int, places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours [N, 3] at places [N, 3] of a block, each on a line between two voxels."""
    color = volume.with_neighbours(volume.color, number)
    weight = volume.with_neighbours(volume.color_weight, number)
    before, after = np.floor(places).astype(int), np.ceil(places).astype(int)
    share = (places - before).sum(1)
    total, parts = np.zeros((len(places), 3), np.float32), np.full(len(places), 1e-12, np.float32)
    for corner, near in ((before, 1 - share), (after, share)):
        place = tuple(corner.T)
        known = weight[place] > 0
        mean = color[place] / np.where(known, weight[place], 1)[:, None]
        total += mean * (near * known + 1e-6 * known)[:, None]
        parts += near * known + 1e-6 * known
    return total / parts[:, None]


def _without_crumbs(mesh: Mesh) -> Mesh:
    """The mesh without its smallest pieces, and without vertices that no triangle uses."""
    label = np.arange(len(mesh.vertices))
    while True:  # each vertex takes the least label near it, until none changes
        least = label[mesh.faces].min(1)
        new = label.copy()
        for corner in mesh.faces.T:
            np.minimum.at(new, corner, least)
            np.minimum.at(new, label[corner], least)
        new = new[new]
        if np.array_equal(new, label):
            break
        label = new
    of_face = label[mesh.faces[:, 0]]
    sizes = np.bincount(of_face, minlength=len(label))
    faces = mesh.faces[sizes[of_face] >= _SMALLEST_SHARE * len(mesh.faces)]
    used, new = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices[used], mesh.colors[used], new.reshape(-1, 3))


def _no_faces() -> NDArray[np.int64]:
    return np.empty((0, 3), np.int64)
