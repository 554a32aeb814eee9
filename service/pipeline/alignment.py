"""What the client knew put to use: its intrinsics, its camera poses, one distance. Lengths become
metres.

Intrinsics come before the refinement, which begins with them; poses and a distance after it, for
they move the scene as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from model.reconstruct import Cameras
from model.rotations import rotation_angle
from model.scene.geometry import unproject_depth
from model.scene.preprocess import ImageTransform
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity, camera_centres, fit_cameras
from refinement.result import DenseMap, Refinement
from service.errors import InvalidOption
from service.inputs.options import KnownCamera, KnownDistance, Options, PicturePoint
from service.result.document import ScaleDocument, Unit
from service.result.scene import rays

Frame = Callable[[int], Reconstruction]
"""Gives one frame of a scene by its number."""


@dataclass(frozen=True)
class Aligned:
    """Where what is known puts a scene: the similarity that leads there, None if nothing is
    known."""

    scale: ScaleDocument
    similarity: Similarity | None = None

    def moved(self, scene: Reconstruction) -> Reconstruction:
        """The scene, or a part of it, there."""
        if self.similarity is None:
            return scene
        return _unprojected(
            replace(
                scene,
                extrinsics=self.similarity.move_extrinsics(scene.extrinsics).float(),
                depth=self.similarity.scale * scene.depth,
            )
        )


def known_cameras(options: Options, frames: Sequence[int]) -> Cameras | None:
    """The cameras of these pictures, float64; None unless pose and intrinsics of all are known."""
    if options.cameras is None:
        return None
    known = [
        (camera.extrinsic, camera.intrinsic)
        for camera in (options.cameras[frame] for frame in frames)
        if camera is not None and camera.extrinsic is not None and camera.intrinsic is not None
    ]
    if len(known) < len(frames):
        return None
    extrinsics, intrinsics = zip(*known, strict=True)
    return (
        torch.tensor(extrinsics, dtype=torch.float64),
        torch.tensor(intrinsics, dtype=torch.float64),
    )


def with_known_intrinsics(
    scene: Reconstruction, options: Options, first: int = 0, single_pictures: bool = False
) -> Reconstruction:
    """The scene, whose first picture has the number `first`, with known intrinsics in place of the
    network's; its depth stays.

    That of a network for `single_pictures`, which assumed a focal length, changes in proportion to
    it.
    """
    if options.cameras is None:
        return scene
    found = _with_intrinsics(scene, options.cameras[first : first + len(scene.transforms)])
    if not single_pictures:
        return found
    assumed, true = (
        each.intrinsics.diagonal(dim1=1, dim2=2)[:, :2].mean(1) for each in (scene, found)
    )
    return _unprojected(replace(found, depth=scene.depth * (true / assumed)[:, None, None]))


def apply_knowledge(
    extrinsics: Callable[[], torch.Tensor],
    frame: Frame,
    options: Options,
    unit: Unit,
    refinement: Refinement | None = None,
) -> Aligned:
    """Where a scene lies in the world of known poses, or scaled by a known distance.

    `extrinsics` gives those of all its pictures [S, 3, 4], `frame` one of them; neither is asked
    unless something is known.
    `unit` is the one that the network predicts lengths in; what is known of the scene makes it
    metres. The scene has the cameras of `refinement`, if there is one, which also knows lenses and
    dense depth.

    Known poses do not replace the scene's: the whole scene is moved and scaled onto them, and the
    residual says how well the two agree. With both, poses set the scale. Raises InvalidOption if
    the scale can't be found.
    """
    scale = ScaleDocument(unit=unit)
    similarity: Similarity | None = None
    posed = [
        (index, camera.extrinsic)
        for index, camera in enumerate(options.cameras or ())
        if camera is not None and camera.extrinsic is not None
    ]
    if posed:
        indices = [index for index, _ in posed]
        known = torch.tensor([extrinsic for _, extrinsic in posed], dtype=torch.float64)
        found = extrinsics()[indices]
        similarity = fit_cameras(found, known)
        fitted = similarity.move_extrinsics(found).float().double()
        distances = (camera_centres(fitted) - camera_centres(known)).square().sum(-1)
        scale = ScaleDocument(
            unit="metre",
            provenance="known cameras",
            factor=similarity.scale,
            position_residual=float(distances.mean().sqrt()),
            rotation_residual_degrees=median(
                rotation_angle(fitted[:, :, :3], known[:, :, :3]).tolist()
            ),
        )
    if options.known_distance is not None:
        measured = measure(frame, options.known_distance, refinement)
        if similarity is not None:
            residual = similarity.scale * measured - options.known_distance.metres
            return Aligned(scale.model_copy(update={"distance_residual": residual}), similarity)
        factor = options.known_distance.metres / measured
        similarity = replace(Similarity.identity(), scale=factor)
        scale = ScaleDocument(
            unit="metre", provenance="known distance", factor=factor, distance_residual=0.0
        )
    return Aligned(scale, similarity)


def measure(frame: Frame, distance: KnownDistance, refinement: Refinement | None = None) -> float:
    """The distance between two places in the scene's unit, by dense depth where there is some.
    Raises InvalidOption if there is none."""
    a, b = (_locate(frame(point.picture), point, refinement) for point in (distance.a, distance.b))
    length = float((a - b).norm())
    if not length > 0:
        raise InvalidOption(
            "The two ends of known_distance are the same place, or lie where the network did not "
            "look; "
            "choose two places well inside the pictures.",
            option="known_distance",
        )
    return length


def _locate(
    frame: Reconstruction, point: PicturePoint, refinement: Refinement | None
) -> torch.Tensor:
    index = point.picture
    depth = float(frame.original_depth(0)[int(point.y), int(point.x)])
    distortion = 0.0
    if refinement is not None:
        distortion = refinement.pictures[index].distortion
        if refinement.dense is not None:
            found = _dense_depth(refinement.dense[index], point, frame.transforms[0])
            depth = found if math.isfinite(found) else depth
    intrinsic, extrinsic = frame.original_intrinsics[0], frame.extrinsics[0].double()
    place = rays(intrinsic, distortion, np.array(point.x), np.array(point.y))
    ray = torch.tensor([*place, 1.0], dtype=torch.float64)
    return extrinsic[:, :3].T @ (depth * ray - extrinsic[:, 3])


def _dense_depth(dense: DenseMap, point: PicturePoint, transform: ImageTransform) -> float:
    (rows, columns), (height, width) = dense.depth.shape, transform.original_size
    return float(dense.depth[int(point.y * rows / height), int(point.x * columns / width)])


def _with_intrinsics(
    scene: Reconstruction, cameras: Sequence[KnownCamera | None]
) -> Reconstruction:
    network, original = scene.intrinsics.clone(), scene.original_intrinsics.clone()
    for index, camera in enumerate(cameras):
        if camera is not None and camera.intrinsic is not None:
            original[index] = torch.tensor(camera.intrinsic)
            network[index] = scene.transforms[index].intrinsics_to_network(original[index])
    return _unprojected(replace(scene, intrinsics=network, original_intrinsics=original))


def _unprojected(scene: Reconstruction) -> Reconstruction:
    return replace(
        scene, world_points=unproject_depth(scene.depth, scene.extrinsics, scene.intrinsics)
    )
