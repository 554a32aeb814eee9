"""Structure from motion without the network's poses: COLMAP's incremental and global mapper."""

from __future__ import annotations

import pycolmap

from refinement.camera_set import CameraSet
from refinement.cameras.features import Workspace
from refinement.cameras.solution import Solution, solution_of
from refinement.result import Method


def mapped(
    workspace: Workspace, start: CameraSet, method: Method, distortion: bool, seconds: float
) -> list[Solution]:
    """Incremental mapping, one solution for every group of pictures that it joins.

    COLMAP's own thresholds (16 degrees, 100 and 30 matches) lose pictures of small sets. One
    thread: with more the answer is another one in every run.
    """
    options = pycolmap.IncrementalPipelineOptions(
        extract_colors=False,
        min_model_size=2,
        num_threads=1,
        random_seed=0,
        ba_refine_extra_params=distortion,
        max_runtime_seconds=max(1, int(seconds)),
    )
    options.mapper.init_min_num_inliers = 50
    options.mapper.init_min_tri_angle = 4
    options.mapper.abs_pose_min_num_inliers = 20
    options.mapper.abs_pose_refine_extra_params = distortion
    options.mapper.num_threads = 1
    options.mapper.random_seed = 0
    options.triangulation.ignore_two_view_tracks = False
    options.triangulation.random_seed = 0
    output = workspace.folder / method.replace(" ", "-")
    output.mkdir(exist_ok=True)
    found = pycolmap.incremental_mapping(
        workspace.database, workspace.pictures, output, options=options
    )
    return [solution_of(found[number], method, start) for number in sorted(found)]


def globally_mapped(workspace: Workspace, start: CameraSet, seed: int) -> list[Solution]:
    """Global mapping (GLOMAP: Pan et al., "Global Structure-from-Motion Revisited", 2024), one
    solution for every group of pictures that it joins. It starts from random places: `seed`."""
    options = pycolmap.GlobalPipelineOptions(min_model_size=2, num_threads=1, random_seed=seed)
    mapper = options.mapper
    mapper.num_threads = 1
    mapper.random_seed = seed
    mapper.track_min_num_views_per_track = 2
    mapper.global_positioning.min_num_view_per_track = 2
    mapper.global_positioning.use_gpu = False
    mapper.global_positioning.random_seed = seed
    mapper.bundle_adjustment.min_track_length = 2
    mapper.bundle_adjustment.ceres.use_gpu = False
    mapper.retriangulation.ignore_two_view_tracks = False
    mapper.retriangulation.random_seed = seed
    mapper.rotation_averaging.random_seed = seed
    output = workspace.folder / "global"
    output.mkdir(exist_ok=True)
    found = pycolmap.global_mapping(workspace.database, workspace.pictures, output, options=options)
    return [solution_of(found[number], "global", start) for number in sorted(found)]
