"""Which pictures share a lens, and the key points of each, in a COLMAP database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from refinement.camera_set import CameraSet
from refinement.options import CameraChoice
from refinement.photograph import Photograph

MAX_SIDE, MAX_FEATURES = 1024, 8192
"""SIFT works on pictures made smaller to this longer side, at twice that size first, and keeps
about as many key points. Without the doubling 2 of 8 wide-baseline pictures were lost; 1600 pixels
take twice as long."""

LEAST_SIDE = 16
"""A picture whose shorter side is below this at that size has no key points: COLMAP's search for
affine ones ends the process there."""


def lens_groups(photographs: Sequence[Photograph], choice: CameraChoice) -> list[int]:
    """For each picture the index of its lens, counted from 0 in the order of first use."""
    keys: list[object] = []
    for index, photograph in enumerate(photographs):
        size = (photograph.height, photograph.width)
        lens = photograph.lens if choice == "auto" else None
        keys.append(index if choice == "each" else (size, lens))
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [order[key] for key in keys]


def _wide_enough(photograph: Photograph) -> bool:
    shorter, longer = sorted((photograph.height, photograph.width))
    return shorter * min(1, MAX_SIDE / longer) >= LEAST_SIDE


class Workspace:
    """Links to the pictures under names by their index, and a database whose ids are index + 1."""

    def __init__(self, folder: Path, photographs: Sequence[Photograph], groups: list[int]) -> None:
        self.pictures, self.database, self.folder = folder / "pictures", folder / "matches", folder
        self.groups, self.count = groups, len(photographs)
        self.names = [
            f"{index:06d}{photograph.path.suffix}" for index, photograph in enumerate(photographs)
        ]
        self.searched = [
            name
            for name, photograph in zip(self.names, photographs, strict=True)
            if _wide_enough(photograph)
        ]
        self.pictures.mkdir()
        for name, photograph in zip(self.names, photographs, strict=True):
            (self.pictures / name).symlink_to(photograph.path.absolute())

    def write_pictures(self, cameras: CameraSet, sizes: Sequence[tuple[int, int]]) -> None:
        """Every lens starts from the median focal length that its pictures' cameras have; `sizes`
        are (height, width)."""
        focal = self.group_focal(cameras)
        with pycolmap.Database.open(self.database) as database:
            for group in sorted(set(self.groups)):
                height, width = sizes[self.groups.index(group)]
                camera = pycolmap.Camera.create_from_model_name(
                    group + 1, "SIMPLE_RADIAL", focal[group], width, height
                )
                database.write_camera(camera, True)
                rig = pycolmap.Rig(rig_id=group + 1)
                rig.add_ref_sensor(camera.sensor_id)
                database.write_rig(rig, True)
            for index, (name, group) in enumerate(zip(self.names, self.groups, strict=True)):
                image = pycolmap.Image(name=name, camera_id=group + 1, image_id=index + 1)
                database.write_image(image, True)
                frame = pycolmap.Frame(frame_id=index + 1, rig_id=group + 1)
                frame.add_data_id(image.data_id)
                database.write_frame(frame, True)

    def set_focal(self, focal: Sequence[float]) -> None:
        """Let every lens start from another focal length, in pixels."""
        with pycolmap.Database.open(self.database) as database:
            for camera in database.read_all_cameras():
                camera.focal_length = focal[camera.camera_id - 1]
                database.update_camera(camera)

    def group_focal(self, cameras: CameraSet) -> list[float]:
        """The median focal length of every lens."""
        groups = np.array(self.groups)
        return [float(np.median(cameras.focal[groups == g])) for g in range(groups.max() + 1)]


def extract(
    workspace: Workspace, threads: int, report: Callable[[float], None], affine: bool = False
) -> None:
    """SIFT key points and descriptors of every picture.

    `affine`: of patches that are undone of slant (Mikolajczyk and Schmid, "Scale and affine
    invariant interest point detectors", 2004) and stay upright. They match where a surface is seen
    from the side, and not where the camera was turned about its axis.
    """
    options = pycolmap.FeatureExtractionOptions(max_image_size=MAX_SIDE, num_threads=threads)
    options.sift.max_num_features = MAX_FEATURES
    options.sift.estimate_affine_shape = affine
    names, step = workspace.searched, 2 * threads
    for start in range(0, len(names), step):
        report(start / len(names))
        pycolmap.extract_features(
            workspace.database,
            workspace.pictures,
            names[start : start + step],
            extraction_options=options,
        )
