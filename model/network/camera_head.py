"""Camera head: iterative refinement of one pose encoding per frame (VGGT, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import CameraHeadConfig
from model.network.transformer import MLP, Block

POSE_DIM = 9


def activate_pose(pose: Tensor) -> Tensor:
    """Translation and quaternion stay linear, the two fields of view are rectified. `[..., 9]` to
    `[..., 9]`."""
    return torch.cat((pose[..., :7], F.relu(pose[..., 7:])), dim=-1)


class CameraHead(nn.Module):
    """Full attention across the camera tokens of a scene, modulated by the pose estimated so
    far."""

    def __init__(self, dim: int, config: CameraHeadConfig) -> None:
        super().__init__()
        self.num_iterations = config.num_iterations
        self.trunk = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.init_values)
            for _ in range(config.trunk_depth)
        )
        self.token_norm = nn.LayerNorm(dim)
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_DIM))
        self.embed_pose = nn.Linear(POSE_DIM, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.adaln_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.pose_branch = MLP(dim, dim // 2, POSE_DIM)

    def forward(self, camera_tokens: Tensor, num_iterations: int | None = None) -> list[Tensor]:
        """Activated pose encodings `[B, S, 9]`, one per iteration, from camera tokens `[B, S,
        2C]`."""
        tokens = self.token_norm(camera_tokens)
        normalised = self.adaln_norm(tokens)
        pose: Tensor | None = None
        encodings = []
        for _ in range(self.num_iterations if num_iterations is None else num_iterations):
            known = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if pose is None else pose
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(known)).chunk(3, dim=-1)
            state = gate * (normalised * (1 + scale) + shift) + tokens
            for block in self.trunk:
                state = block(state)
            delta = self.pose_branch(self.trunk_norm(state))
            # the pose fed back is the one before activation
            pose = delta if pose is None else pose + delta
            encodings.append(activate_pose(pose))
        return encodings
