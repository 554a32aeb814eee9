"""Bundle adjustment that starts from given cameras: the network's, or another method's."""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray

from refinement.camera_set import CameraSet
from refinement.cameras.features import Workspace
from refinement.cameras.solution import Solution, solution_of
from refinement.result import Method

_ROUNDS = ((8, 24, 1e-4), (3, 8, 1e-4), (2, 3, 1e-6))
"""Angle between rays that may make a point, degrees; reprojection error that it may keep, in pixels
of a picture of 1000 pixels; relative change of the cost that ends the adjustment. First what mends
coarse cameras, then what is exact."""
_MOST_STEPS = 50
_LEAST_ANGLE = 1  # degrees between the rays of a point


def seeded(
    workspace: Workspace,
    start: CameraSet,
    placed: NDArray[np.bool_],
    method: Method,
    threads: int,
    distortion: bool,
) -> Solution:
    """Points from all matches under the cameras of `start`, then both adjusted, three times
    stricter each; for the pictures that are `placed` `[S]`."""
    with pycolmap.Database.open(workspace.database) as database:
        cache = pycolmap.DatabaseCache.create(
            database, pycolmap.DatabaseCacheOptions(load_all_images=True)
        )
    reconstruction = pycolmap.Reconstruction()
    reconstruction.load(cache)
    for index in np.flatnonzero(placed).tolist():
        image = reconstruction.image(index + 1)
        reconstruction.camera(image.camera_id).params = [
            start.focal[index],
            *start.centre[index],
            start.distortion[index],
        ]
        pose = pycolmap.Rigid3d(start.extrinsics[index])
        reconstruction.frame(index + 1).set_cam_from_world(image.camera_id, pose)
        reconstruction.register_frame(index + 1)

    side = float(np.median(start.longer_side)) / 1000
    output = workspace.folder / "seeded"
    output.mkdir(exist_ok=True)
    for number, (angle, error, tolerance) in enumerate(_ROUNDS):
        last = number == len(_ROUNDS) - 1
        reconstruction = pycolmap.triangulate_points(
            reconstruction,
            workspace.database,
            workspace.pictures,
            output,
            True,
            _triangulation(angle, error * side, threads),
            False,
        )
        pycolmap.bundle_adjustment(
            reconstruction,
            _adjustment(1 if last else error / 4 * side, tolerance, threads, distortion and last),
        )
        pycolmap.ObservationManager(reconstruction).filter_all_points3D(error * side, _LEAST_ANGLE)
    return solution_of(reconstruction, method, start)


def _triangulation(angle: float, error: float, threads: int) -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions(
        extract_colors=False, num_threads=threads, random_seed=0
    )
    triangulation = options.triangulation
    triangulation.create_max_angle_error = triangulation.continue_max_angle_error = angle
    triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = error
    triangulation.min_angle = options.mapper.filter_min_tri_angle = _LEAST_ANGLE
    options.mapper.filter_max_reproj_error = error
    triangulation.ignore_two_view_tracks = False
    # the points alone are adjusted here; together with the cameras they are right afterwards
    options.ba_global_max_refinements = options.ba_global_max_num_iterations = 1
    return options


def _adjustment(
    loss_pixels: float, tolerance: float, threads: int, distortion: bool
) -> pycolmap.BundleAdjustmentOptions:
    options = pycolmap.BundleAdjustmentOptions(
        refine_focal_length=True, refine_extra_params=distortion, print_summary=False
    )
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = loss_pixels
    solver = options.ceres.solver_options
    solver.num_threads = threads
    solver.function_tolerance = tolerance
    solver.max_num_iterations = _MOST_STEPS
    return options
