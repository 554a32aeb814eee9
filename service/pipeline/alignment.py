"""What the client knew put to use: its intrinsics, its camera poses, one distance. Lengths become
metres."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import torch

from model.rotations import rotation_angle
from model.scene.geometry import unproject_depth
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity, camera_centres, fit_cameras
from service.errors import InvalidOption
from service.inputs.options import KnownCamera, KnownDistance, Options, PicturePoint
from service.result.document import ScaleDocument, Unit


def apply_knowledge(
    scene: Reconstruction, options: Options, unit: Unit
) -> tuple[Reconstruction, ScaleDocument]:
    """The scene with known intrinsics, in the world of known poses or scaled by a known distance.

    `unit` is the one that the network predicts lengths in; what is known of the scene makes it
    metres.

    Known intrinsics replace the network's; its depth stays. Known poses do not replace the
    network's: the whole scene is moved and scaled onto them, and the residual says how well the two
    agree. With both, poses set the scale. Raises InvalidOption if the scale can't be found.
    """
    if options.cameras is not None:
        scene = _with_intrinsics(scene, options.cameras)
    scale = ScaleDocument(unit=unit)
    posed = [
        (index, camera.extrinsic)
        for index, camera in enumerate(options.cameras or ())
        if camera is not None and camera.extrinsic is not None
    ]
    if posed:
        indices = [index for index, _ in posed]
        known = torch.tensor([extrinsic for _, extrinsic in posed], dtype=torch.float64)
        similarity = fit_cameras(scene.extrinsics[indices], known)
        scene = _moved(scene, similarity)
        moved = scene.extrinsics[indices].double()
        distances = (camera_centres(moved) - camera_centres(known)).square().sum(-1)
        scale = ScaleDocument(
            unit="metre",
            provenance="known cameras",
            factor=similarity.scale,
            position_residual=float(distances.mean().sqrt()),
            rotation_residual_degrees=median(
                rotation_angle(moved[:, :, :3], known[:, :, :3]).tolist()
            ),
        )
    if options.known_distance is not None:
        measured = measure(scene, options.known_distance)
        if posed:
            return scene, scale.model_copy(
                update={"distance_residual": measured - options.known_distance.metres}
            )
        factor = options.known_distance.metres / measured
        scene = _moved(scene, replace(Similarity.identity(), scale=factor))
        scale = ScaleDocument(
            unit="metre", provenance="known distance", factor=factor, distance_residual=0.0
        )
    return scene, scale


def measure(scene: Reconstruction, distance: KnownDistance) -> float:
    """The distance between two places in the scene's unit. Raises InvalidOption if there is
    none."""
    a, b = (_locate(scene, point) for point in (distance.a, distance.b))
    length = float((a - b).norm())
    if not length > 0:
        raise InvalidOption(
            "The two ends of known_distance are the same place, or lie where the network did not "
            "look; "
            "choose two places well inside the pictures.",
            option="known_distance",
        )
    return length


def _locate(scene: Reconstruction, point: PicturePoint) -> torch.Tensor:
    index = point.picture
    depth = scene.original_depth(index)[int(point.y), int(point.x)].double()
    intrinsic, extrinsic = (
        scene.original_intrinsics[index].double(),
        scene.extrinsics[index].double(),
    )
    ray = torch.linalg.solve(intrinsic, torch.tensor([point.x, point.y, 1.0], dtype=torch.float64))
    return extrinsic[:, :3].T @ (depth * ray - extrinsic[:, 3])


def _with_intrinsics(scene: Reconstruction, cameras: list[KnownCamera | None]) -> Reconstruction:
    network, original = scene.intrinsics.clone(), scene.original_intrinsics.clone()
    for index, camera in enumerate(cameras):
        if camera is not None and camera.intrinsic is not None:
            (sx, sy), (ox, oy) = scene.transforms[index].scale, scene.transforms[index].offset
            original[index] = torch.tensor(camera.intrinsic)
            network[index] = torch.tensor([[sx, 0, ox], [0, sy, oy], [0, 0, 1]]) @ original[index]
    return _unprojected(replace(scene, intrinsics=network, original_intrinsics=original))


def _moved(scene: Reconstruction, similarity: Similarity) -> Reconstruction:
    return _unprojected(
        replace(
            scene,
            extrinsics=similarity.move_extrinsics(scene.extrinsics).float(),
            depth=similarity.scale * scene.depth,
        )
    )


def _unprojected(scene: Reconstruction) -> Reconstruction:
    return replace(
        scene, world_points=unproject_depth(scene.depth, scene.extrinsics, scene.intrinsics)
    )
