"""The world and its unit: from a solution's to the first picture's camera and the network's scale.

In numpy, because loading torch takes longer than refining a small scene.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from refinement.camera_set import CameraSet
from refinement.cameras.solution import Solution, Tracks
from refinement.network import NetworkScene

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Similarity:
    """``x' = scale * rotation @ x + translation``."""

    scale: float
    rotation: Array  # [3, 3]
    translation: Array  # [3]

    def points(self, xyz: Array) -> Array:
        moved: Array = self.scale * (xyz @ self.rotation.T) + self.translation
        return moved

    def extrinsics(self, extrinsics: Array) -> Array:
        """The same cameras `[S, 3, 4]` in the new world."""
        rotation = extrinsics[:, :, :3] @ self.rotation.T
        translation = self.scale * extrinsics[:, :, 3] - rotation @ self.translation
        return np.concatenate((rotation, translation[:, :, None]), axis=2)


def placed(solution: Solution, network: NetworkScene) -> Solution:
    """The solution in the network's unit, with every picture: those that it lacks keep the
    network's pose, carried over by the similarity that fits the common ones. The world is the
    first picture's camera."""
    kept, tracks = solution.kept, solution.tracks
    scale = 1 / unit(solution, network)
    tracks = replace(tracks, xyz=tracks.xyz * scale)
    extrinsics = solution.cameras.extrinsics.copy()
    extrinsics[:, :, 3] *= scale
    if not kept.all():
        carried = _fit(network.cameras.extrinsics[kept], extrinsics[kept])
        extrinsics[~kept] = carried.extrinsics(network.cameras.extrinsics[~kept])

    first = extrinsics[0]
    to_first = _Similarity(1.0, first[:, :3], first[:, 3])
    return replace(
        solution,
        cameras=_chosen(
            kept, replace(solution.cameras, extrinsics=to_first.extrinsics(extrinsics)),
            network.cameras,
        ),
        tracks=replace(tracks, xyz=to_first.points(tracks.xyz)),
    )  # fmt: skip


def unit(solution: Solution, network: NetworkScene) -> float:
    """How many lengths of the solution one length of the network is: the median over all
    observations of point depth / network depth; 1 if there is none."""
    ratios = [
        point / seen
        for picture in np.flatnonzero(solution.kept)
        for point, seen in [depths(solution.cameras, solution.tracks, network, int(picture))]
    ]
    ratio = np.concatenate([np.zeros(0), *ratios])
    return float(np.median(ratio)) if len(ratio) else 1.0


def depths(
    cameras: CameraSet, tracks: Tracks, network: NetworkScene, picture: int
) -> tuple[Array, Array]:
    """Depths in one picture of the points that it sees, and what the network gave there: `[K]`
    each, both positive."""
    rows = tracks.picture == picture
    pose = cameras.extrinsics[picture]
    depth = tracks.xyz[tracks.point[rows]] @ pose[2, :3] + pose[2, 3]
    grid = network.depth[picture]
    scale = max(grid.shape) / cameras.longer_side[picture]
    x, y = (tracks.pixel[rows] * scale).astype(np.int64).T
    seen = grid[np.clip(y, 0, grid.shape[0] - 1), np.clip(x, 0, grid.shape[1] - 1)]
    with np.errstate(invalid="ignore"):
        usable = (depth > 0) & (seen > 0)
    return depth[usable], seen[usable].astype(np.float64)


def _fit(source: Array, target: Array) -> _Similarity:
    """The similarity that brings cameras `[S, 3, 4]` to the same cameras in another world, S >= 2.

    As `model.scene.similarity.fit_cameras`: the mean rotation, then least squares over the centres.
    """
    u, _, vt = np.linalg.svd(np.einsum("sji,sjk->ik", target[:, :, :3], source[:, :, :3]))
    u[:, 2] *= np.sign(np.linalg.det(u @ vt))
    rotation = u @ vt
    old, new = _centres(source) @ rotation.T, _centres(target)
    spread, wanted = old - old.mean(0), new - new.mean(0)
    extent = float((spread**2).sum())
    scale = float((spread * wanted).sum()) / extent if extent > 0 else 1.0
    if scale <= 0:  # mirrored centres: at least the extents agree
        scale = float(np.sqrt((wanted**2).sum() / extent)) or 1.0
    return _Similarity(scale, rotation, new.mean(0) - scale * old.mean(0))


def _centres(extrinsics: Array) -> Array:
    centres: Array = -np.einsum("sji,sj->si", extrinsics[:, :, :3], extrinsics[:, :, 3])
    return centres


def _chosen(kept: NDArray[np.bool_], refined: CameraSet, network: CameraSet) -> CameraSet:
    """The refined poses for all, the refined lenses for the kept pictures."""
    return replace(
        refined,
        focal=np.where(kept, refined.focal, network.focal),
        centre=np.where(kept[:, None], refined.centre, network.centre),
        distortion=np.where(kept, refined.distortion, 0),
    )
