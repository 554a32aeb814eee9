"""COLMAP alone, untouched, on the same pictures: what a sceptic would compare with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from evaluation.refined.picture_sets import Array

_SOLVE = """
import json, sys
from pathlib import Path
import pycolmap
work, threads = Path(sys.argv[1]), int(sys.argv[2])
names = json.loads((work / "names.json").read_text())
database, folder = work / "database.db", work / "pictures"
options = pycolmap.FeatureExtractionOptions()
options.num_threads = threads
pycolmap.extract_features(
    database, folder, image_names=names, camera_mode=pycolmap.CameraMode.AUTO,
    extraction_options=options,
)
matching = pycolmap.FeatureMatchingOptions()
matching.num_threads = threads
pycolmap.match_exhaustive(database, matching_options=matching)
mapping = pycolmap.IncrementalPipelineOptions()
mapping.num_threads, mapping.random_seed = threads, 0
(work / "models").mkdir()
found = pycolmap.incremental_mapping(database, folder, work / "models", mapping)
best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
cameras = {} if best is None else {
    image.name: [
        image.cam_from_world().matrix().tolist(), image.camera.calibration_matrix().tolist()
    ]
    for image in best.images.values() if image.has_pose
}
(work / "cameras.json").write_text(json.dumps(cameras))
"""


@dataclass(frozen=True)
class Solved:
    """`extrinsics` [S,3,4] world-to-camera and `intrinsics` [S,3,3] in pixels, without distortion;
    NaN for pictures that COLMAP did not place."""

    extrinsics: Array
    intrinsics: Array
    seconds: float

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which pictures have a camera `[S]`."""
        return np.asarray(np.isfinite(self.extrinsics).all((1, 2)))


def solve(pictures: Sequence[Path], threads: int = 1) -> Solved:
    """Incremental mapping with COLMAP's default options, in a process of its own.

    One thread gives the same answer each time. Where COLMAP fails no picture is placed.
    """
    began = time.perf_counter()
    with TemporaryDirectory(prefix="colmap-") as folder:
        work = Path(folder)
        (work / "pictures").mkdir()
        names = [f"{i:04d}{path.suffix.lower()}" for i, path in enumerate(pictures)]
        for name, path in zip(names, pictures, strict=True):
            (work / "pictures" / name).symlink_to(path.resolve())
        (work / "names.json").write_text(json.dumps(names))
        subprocess.run(
            [sys.executable, "-c", _SOLVE, str(work), str(threads)],
            env=os.environ | {"GLOG_minloglevel": "3"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        answer = work / "cameras.json"
        cameras = json.loads(answer.read_text()) if answer.exists() else {}
    missing = [np.full((3, 4), np.nan), np.full((3, 3), np.nan)]
    extrinsics, intrinsics = zip(*(cameras.get(name, missing) for name in names), strict=True)
    return Solved(
        np.array(extrinsics, np.float64),
        np.array(intrinsics, np.float64),
        time.perf_counter() - began,
    )
