"""A network's reconstruction and what refinement found, brought together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from model.scene.distortion import undistort
from model.scene.geometry import invert_extrinsics
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity
from refinement.result import Refinement


def refined(network: Reconstruction, refinement: Refinement) -> Reconstruction:
    """The network's reconstruction with the cameras of `refinement` and with depth fitted to its
    points, on the network's grid. Pictures that were not refined have their own cameras and
    depth there as `refinement` gives them."""
    pictures = refinement.pictures
    original = torch.tensor(np.stack([picture.intrinsic() for picture in pictures])).float()
    intrinsics = []
    for transform, matrix in zip(network.transforms, original, strict=True):
        (sx, sy), (ox, oy) = transform.scale, transform.offset
        intrinsics.append(torch.tensor([[sx, 0, ox], [0, sy, oy], [0, 0, 1]]) @ matrix)
    depth = []
    for values, picture in zip(network.depth, pictures, strict=True):
        a, b = picture.depth_fit or (0.0, 1.0)
        depth.append(math.exp(a) * values.clamp(min=torch.finfo(values.dtype).tiny) ** b)
    scene = replace(
        network,
        extrinsics=torch.tensor(np.stack([picture.extrinsic for picture in pictures])).float(),
        intrinsics=torch.stack(intrinsics),
        original_intrinsics=original,
        depth=torch.stack(depth),
    )
    distortions = [picture.distortion for picture in pictures]
    return replace(scene, world_points=_world_points(scene, distortions))


def moved(refinement: Refinement, similarity: Similarity) -> Refinement:
    """The same refinement in another world: cameras, points, depth and the fits to it."""
    cameras = similarity.move_extrinsics(
        torch.tensor(np.stack([picture.extrinsic for picture in refinement.pictures]))
    ).numpy()
    pictures = []
    for picture, extrinsic in zip(refinement.pictures, cameras, strict=True):
        a, b = picture.depth_fit or (0.0, 1.0)
        fit = (a + math.log(similarity.scale), b)
        pictures.append(replace(picture, extrinsic=extrinsic, depth_fit=fit))
    sparse, dense = refinement.sparse, refinement.dense
    if sparse is not None:
        xyz = similarity.move_points(torch.tensor(sparse.xyz)).numpy()
        sparse = replace(sparse, xyz=xyz)
    if dense is not None:
        scale = np.float32(similarity.scale)
        dense = tuple(replace(each, depth=each.depth * scale) for each in dense)
    return replace(refinement, pictures=tuple(pictures), sparse=sparse, dense=dense)


def _world_points(scene: Reconstruction, distortions: list[float]) -> torch.Tensor:
    """Unprojected depth [S, H, W, 3]; pixels count from 0, as in `Reconstruction`."""
    row, column = np.mgrid[: scene.depth.shape[1], : scene.depth.shape[2]]
    points = []
    to_world = invert_extrinsics(scene.extrinsics)
    for depth, matrix, pose, k in zip(
        scene.depth, scene.intrinsics.double().numpy(), to_world, distortions, strict=True
    ):
        x, y = (column - matrix[0, 2]) / matrix[0, 0], (row - matrix[1, 2]) / matrix[1, 1]
        places = torch.from_numpy(undistort(np.stack([x, y], -1), k)).float()
        seen = torch.cat((places, torch.ones_like(places[..., :1])), -1) * depth[..., None]
        points.append(seen @ pose[:3, :3].T + pose[:3, 3])
    return torch.stack(points)
