"""The points of a solution, where other cameras see them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refinement.camera_set import CameraSet
from refinement.cameras.evidence import TOLERANCE
from refinement.cameras.solution import Solution, Tracks

_TOLERANCES = 2  # as far may a point be seen from where it is observed


def with_cameras(solution: Solution, cameras: CameraSet) -> Solution:
    """The solution with `cameras` and every point where their rays meet best. Points that these
    cameras don't see where they are observed are left out.

    A point is the one with the least sum of squared distances from its rays.
    """
    tracks = solution.tracks
    count = len(tracks.xyz)
    rays = np.concatenate(
        (cameras.rays(tracks.picture, tracks.pixel), np.ones((len(tracks.picture), 1))), 1
    )
    pose = cameras.extrinsics[tracks.picture]
    direction = np.einsum("mji,mj->mi", pose[:, :, :3], rays)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    across = np.eye(3) - direction[:, :, None] * direction[:, None]  # projects onto the ray's plane
    sums = np.zeros((count, 3, 3))
    np.add.at(sums, tracks.point, across)
    wanted = np.zeros((count, 3))
    centre = cameras.centres()[tracks.picture]
    np.add.at(wanted, tracks.point, np.einsum("mij,mj->mi", across, centre))
    with np.errstate(all="ignore"):
        usable = np.isfinite(sums).all((1, 2)) & (np.linalg.cond(sums) < 1e12)
    xyz = np.full((count, 3), np.nan)
    xyz[usable] = np.linalg.solve(sums[usable], wanted[usable][..., None])[..., 0]
    moved = replace(tracks, xyz=xyz)
    most = _TOLERANCES * TOLERANCE * cameras.longer_side[tracks.picture]
    seen = _error(moved, cameras) <= most
    lost = np.zeros(count, bool)
    lost[tracks.point[~seen]] = True
    return replace(solution, cameras=cameras, tracks=_without(moved, lost))


def _error(tracks: Tracks, cameras: CameraSet) -> NDArray[np.float64]:
    """Pixels between where each observation is and where its point is seen `[M]`; NaN behind the
    camera."""
    pose = cameras.extrinsics[tracks.picture]
    local = np.einsum("mij,mj->mi", pose[:, :, :3], tracks.xyz[tracks.point]) + pose[:, :, 3]
    with np.errstate(all="ignore"):
        ray = local[:, :2] / np.where(local[:, 2:] > 0, local[:, 2:], np.nan)
        radial = 1 + cameras.distortion[tracks.picture] * (ray**2).sum(1)
        zoom = (cameras.focal[tracks.picture] * radial)[:, None]
        error = ray * zoom + cameras.centre[tracks.picture] - tracks.pixel
        return np.asarray(np.linalg.norm(error, axis=1))


def _without(tracks: Tracks, lost: NDArray[np.bool_]) -> Tracks:
    kept = ~lost[tracks.point]
    number = np.cumsum(~lost) - 1
    return Tracks(
        tracks.xyz[~lost], number[tracks.point[kept]], tracks.picture[kept], tracks.pixel[kept]
    )
