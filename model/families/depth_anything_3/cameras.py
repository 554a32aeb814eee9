"""Cameras as Depth Anything 3 encodes them, the head that predicts them, and the encoder that takes
known ones.

An encoding is VGGT's nine numbers (translation, quaternion x y z w, vertical and horizontal field
of view in radians), but of the *camera-to-world* motion. Axes are OpenCV's, the principal point is
the image centre.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.families.depth_anything_3.config import DepthAnything3Config
from model.families.vggt.cameras import cameras_to_pose_encoding
from model.network.transformer import MLP, Block
from model.rotations import invert_extrinsics, quaternion_to_matrix

POSE_DIM = 9
_TRUNK = 4  # blocks of the camera encoder
_LEAST_TANGENT = 1e-6
_LEAST_DISTANCE = 0.1  # that known cameras are scaled by


def encoding_to_cameras(encoding: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """World-to-camera extrinsics `[..., 3, 4]` and intrinsics `[..., 3, 3]` (pixels) for images of
    (height, width), from encodings `[..., 9]`."""
    height, width = image_size
    to_world = torch.cat((quaternion_to_matrix(encoding[..., 3:7]), encoding[..., :3, None]), -1)
    tangents = (encoding[..., 7:] / 2).tan().clamp(min=_LEAST_TANGENT)
    intrinsics = encoding.new_zeros(*encoding.shape[:-1], 3, 3)
    intrinsics[..., 0, 0] = (width / 2) / tangents[..., 1]
    intrinsics[..., 1, 1] = (height / 2) / tangents[..., 0]
    intrinsics[..., 0, 2] = width / 2
    intrinsics[..., 1, 2] = height / 2
    intrinsics[..., 2, 2] = 1
    return invert_extrinsics(to_world)[..., :3, :], intrinsics


def cameras_to_encoding(
    extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]
) -> Tensor:
    """Encodings `[..., 9]` of world-to-camera extrinsics `[..., 3, 4]` or `[..., 4, 4]`, principal
    point ignored; the inverse of `encoding_to_cameras`."""
    return cameras_to_pose_encoding(invert_extrinsics(extrinsics), intrinsics, image_size)


def normalised(extrinsics: Tensor) -> Tensor:
    """World-to-camera extrinsics `[B, S, 4, 4]` as the camera encoder was trained to see them.

    The world becomes the first camera's frame, and the median distance of the cameras from it the
    unit of length, unless they are all nearly at one place.
    """
    relative = extrinsics @ invert_extrinsics(extrinsics[:, :1])
    distance = invert_extrinsics(relative)[..., :3, 3].norm(dim=-1).median(dim=-1).values
    relative[..., :3, 3] /= distance.clamp(min=_LEAST_DISTANCE)[:, None, None]
    return relative


class CameraDecoder(nn.Module):
    """From the first token of every frame to its camera: encodings `[B, S, 9]` from `[B, S,
    2C]`."""

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__()
        width = config.layer_width
        self.backbone = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.fc_t = nn.Linear(width, 3)
        self.fc_qvec = nn.Linear(width, 4)
        self.fc_fov = nn.Sequential(nn.Linear(width, 2), nn.ReLU())

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.backbone(tokens)
        return torch.cat((self.fc_t(hidden), self.fc_qvec(hidden), self.fc_fov(hidden)), dim=-1)


class CameraEncoder(nn.Module):
    """From known cameras to camera tokens `[B, S, C]`, every camera seeing all others."""

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__()
        dim = config.embed_dim
        self.pose_branch = MLP(POSE_DIM, dim // 2, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.trunk = nn.ModuleList(
            Block(dim, config.camera_encoder_heads, config.mlp_ratio, 0.01) for _ in range(_TRUNK)
        )
        self.trunk_norm = nn.LayerNorm(dim)

    def forward(self, encodings: Tensor) -> Tensor:
        """`encodings` `[B, S, 9]` of `normalised` cameras."""
        tokens = self.token_norm(self.pose_branch(encodings))
        for block in self.trunk:
            tokens = block(tokens)
        return self.trunk_norm(tokens)
