"""Camera lists in other programs' conventions: plain JSON, nerfstudio's transforms.json, a TUM
trajectory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.rotations import matrix_to_quaternion
from model.scene.geometry import invert_extrinsics
from model.scene.preprocess import ImageTransform
from service.exports.names import exported_names
from service.exports.undistort import undistorted_intrinsic
from service.result.scene import Scene

_TRACKS = (
    "frames[i] is picture i. points are [x, y] in pixels of the original picture after EXIF "
    "rotation, pixel edges at "
    "integers; a point may leave the picture. visibility and confidence lie in [0, 1]: the "
    "probabilities that the "
    "point can be seen, and that its place is right; confidence is null if the model does not "
    "tell. In a scene of "
    "several passes points are handed from one to the next, and both are multiplied by those at "
    "the handover."
)
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # camera axes x right, y up, z backward


def camera_to_world(scene: Scene) -> NDArray[np.float64]:
    """Camera-to-world matrices [S,4,4], OpenCV camera axes."""
    return invert_extrinsics(torch.from_numpy(scene.extrinsics())).numpy()


def cameras_json(scene: Scene) -> dict[str, Any]:
    """Every picture's camera and size, in this service's own conventions."""
    document = scene.document
    return {
        "world_frame": document.world_frame,
        "conventions": document.conventions,
        "scale": document.scale.model_dump(),
        "cameras": [
            {
                "file": name,
                "width": picture.original_size.width,
                "height": picture.original_size.height,
                "extrinsic": picture.extrinsic,
                "intrinsic": picture.intrinsic,
                "distortion": picture.distortion,
            }
            for name, picture in zip(exported_names(scene), document.pictures, strict=True)
        ],
    }


def transforms_json(scene: Scene, *, undistorted: bool = False) -> dict[str, Any]:
    """nerfstudio's data format: camera-to-world with OpenGL camera axes, intrinsics per frame.

    It tells of the pictures whose cameras were refined, or of all if none was, as files in
    ``images/`` with the cloud beside it; `undistorted` for the undistorted pictures.
    """
    matrices, names = camera_to_world(scene), exported_names(scene)
    frames = []
    for index in scene.document.used_pictures:
        picture = scene.document.pictures[index]
        matrix = undistorted_intrinsic(picture) if undistorted else np.array(picture.intrinsic)
        (fx, _, cx), (_, fy, cy), _ = matrix.tolist()
        frames.append(
            {
                "file_path": f"images/{names[index]}",
                "transform_matrix": (matrices[index] @ _OPENGL).tolist(),
                "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
                "w": picture.original_size.width, "h": picture.original_size.height,
                "k1": 0.0 if undistorted else picture.distortion,
                "k2": 0.0, "p1": 0.0, "p2": 0.0,
            }
        )  # fmt: skip
    return {"camera_model": "OPENCV", "ply_file_path": "points.ply", "frames": frames}


def trajectory_tum(scene: Scene) -> str:
    """TUM RGB-D format: ``index tx ty tz qx qy qz qw`` per picture, camera-to-world, the index for
    want of a time."""
    matrices = camera_to_world(scene)
    quaternions = matrix_to_quaternion(torch.from_numpy(matrices[:, :3, :3])).numpy()
    lines = ["# index tx ty tz qx qy qz qw"]
    for index, (matrix, quaternion) in enumerate(zip(matrices, quaternions, strict=True)):
        lines.append(" ".join(f"{value:.9g}" for value in (index, *matrix[:3, 3], *quaternion)))
    return "\n".join(lines) + "\n"


def tracks_json(scene: Scene) -> dict[str, Any]:
    """The query points in every picture, in the order in which they were asked for."""
    points, visibility = scene.tracks["track_points"], scene.tracks["track_visibility"]
    confidence = scene.tracks.get("track_confidence")
    frames = []
    for picture in scene.document.pictures:
        network = torch.from_numpy(np.array(points[picture.index]))
        frames.append(
            {
                "points": ImageTransform.from_dict(picture.transform).to_original(network).tolist(),
                "visibility": visibility[picture.index].tolist(),
                "confidence": None if confidence is None else confidence[picture.index].tolist(),
            }
        )
    return {"conventions": _TRACKS, "frames": frames}
