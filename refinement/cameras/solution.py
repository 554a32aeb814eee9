"""Cameras and points as one of COLMAP's methods finds them, in arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray

from refinement.camera_set import CameraSet
from refinement.result import Method


@dataclass(frozen=True)
class Tracks:
    """N triangulated points and their M observations, those of a point side by side."""

    xyz: NDArray[np.float64]  # [N, 3]
    point: NDArray[np.int64]  # [M], index of the point, ascending
    picture: NDArray[np.int64]  # [M]
    pixel: NDArray[np.float64]  # [M, 2]

    def among(self, kept: NDArray[np.bool_]) -> Tracks:
        """The points that two or more of the kept pictures `[S]` see, and these observations."""
        chosen = kept[self.picture]
        views = np.bincount(self.point[chosen], minlength=len(self.xyz))
        lasting = views >= 2
        chosen &= lasting[self.point]
        number = np.cumsum(lasting) - 1
        return Tracks(
            self.xyz[lasting],
            number[self.point[chosen]],
            self.picture[chosen],
            self.pixel[chosen],
        )

    def observations(self, pictures: int) -> NDArray[np.int64]:
        """How many points every picture sees `[S]`."""
        return np.bincount(self.picture, minlength=pictures)

    def ray_angles(self, cameras: CameraSet) -> NDArray[np.float64]:
        """For every picture the median over its points of the widest angle between two of the
        point's rays, degrees `[S]`; NaN without points."""
        towards = cameras.centres()[self.picture] - self.xyz[self.point]
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        start = np.searchsorted(self.point, np.arange(len(self.xyz) + 1))
        smallest = np.ones(len(self.xyz))
        longest = int(np.diff(start).max(initial=0))
        for step in range(1, longest):  # observations that lie `step` apart in the list
            other = np.arange(len(self.point)) + step
            rows = np.flatnonzero(other < start[self.point + 1])
            cosine = (towards[rows] * towards[rows + step]).sum(1)
            np.minimum.at(smallest, self.point[rows], cosine)
        widest = np.degrees(np.arccos(np.clip(smallest, -1, 1)))[self.point]
        count = len(cameras.focal)
        return np.array(
            [
                np.median(widest[self.picture == picture])
                if (self.picture == picture).any()
                else np.nan
                for picture in range(count)
            ]
        )


@dataclass(frozen=True)
class Solution:
    """What a method found. Pictures that are not `kept` have cameras without meaning."""

    method: Method
    cameras: CameraSet
    kept: NDArray[np.bool_]  # [S]
    tracks: Tracks

    def without(self, picture: int) -> Solution:
        """The same without one picture and the points that only it and one other saw."""
        kept = self.kept.copy()
        kept[picture] = False
        return replace(self, kept=kept, tracks=self.tracks.among(kept))


def solution_of(
    reconstruction: pycolmap.Reconstruction, method: Method, start: CameraSet
) -> Solution:
    """A reconstruction whose image ids are index + 1; pictures that it lacks keep the cameras of
    `start`."""
    kept = np.zeros(len(start.focal), dtype=bool)
    extrinsics, focal = start.extrinsics.copy(), start.focal.copy()
    centre, distortion = start.centre.copy(), start.distortion.copy()
    for image_id in reconstruction.reg_image_ids():
        image = reconstruction.image(image_id)
        index = image_id - 1
        kept[index] = True
        extrinsics[index] = image.cam_from_world().matrix()
        params = reconstruction.camera(image.camera_id).params
        focal[index], centre[index], distortion[index] = params[0], params[1:3], params[3]
    points = sorted(reconstruction.points3D.items())
    lists = [
        sorted((element.image_id, element.point2D_idx) for element in point.track.elements)
        for _, point in points
    ]
    pictures = np.array([pair[0] - 1 for track in lists for pair in track], dtype=np.int64)
    pixels = {
        image_id: np.array([point.xy for point in reconstruction.image(image_id).points2D])
        for image_id in reconstruction.reg_image_ids()
    }
    return Solution(
        method,
        replace(start, extrinsics=extrinsics, focal=focal, centre=centre, distortion=distortion),
        kept,
        Tracks(
            np.array([point.xyz for _, point in points]).reshape(-1, 3),
            np.repeat(np.arange(len(points)), [len(track) for track in lists]),
            pictures,
            np.array([pixels[i][k] for track in lists for i, k in track]).reshape(-1, 2),
        ),
    )
