"""Multi-view scenes with ground truth: what every dataset reader yields and what training and
evaluation take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.scene.geometry import invert_extrinsics, unproject_depth


@dataclass(frozen=True)
class Scene:
    """S frames of one scene.

    `images` [S,3,H,W] float32 in [0, 1]; `extrinsics` [S,3,4] world-to-camera, OpenCV axes;
    `intrinsics` [S,3,3] in pixels; `depth` [S,H,W] along the optical axis in the unit of the
    translations, 0 where there is no ground truth, or None.
    """

    name: str
    category: str
    split: str
    images: Tensor
    extrinsics: Tensor
    intrinsics: Tensor
    depth: Tensor | None

    @property
    def world_points(self) -> Tensor:
        """Unprojected depth [S,H,W,3]; meaningless where the depth is 0. Needs depth."""
        return unproject_depth(_required(self.depth, self.name), self.extrinsics, self.intrinsics)

    def normalised(self) -> Scene:
        """The same scene seen from its first camera, at a scale where valid points are 1 from it on
        average."""
        depth = _required(self.depth, self.name)
        extrinsics, depth = _normalise(self.extrinsics[None], self.intrinsics[None], depth[None])
        return replace(self, extrinsics=extrinsics[0], depth=depth[0])


@dataclass(frozen=True)
class SceneBatch:
    """B scenes of S frames each.

    `images` [B,S,3,H,W] float32 in [0, 1]; `extrinsics` [B,S,3,4] world-to-camera, OpenCV axes;
    `intrinsics` [B,S,3,3] in pixels; `depth` [B,S,H,W] in the unit of the translations, 0 where
    there is no ground truth.
    """

    images: Tensor
    extrinsics: Tensor
    intrinsics: Tensor
    depth: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def world_points(self) -> Tensor:
        """Unprojected depth [B,S,H,W,3]; meaningless where the depth is 0."""
        return unproject_depth(self.depth, self.extrinsics, self.intrinsics)

    def normalised(self) -> SceneBatch:
        """Each scene seen from its first camera, at a scale where its valid points are 1 from it on
        average."""
        extrinsics, depth = _normalise(self.extrinsics, self.intrinsics, self.depth)
        return replace(self, extrinsics=extrinsics, depth=depth)

    def to(self, device: torch.device | str) -> SceneBatch:
        return SceneBatch(*(tensor.to(device) for tensor in self._tensors))

    def select(self, frames: Tensor) -> SceneBatch:
        """Frames `frames` [B,S'] (int64) of each scene, in that order; the first becomes
        `normalised`'s origin."""
        if frames.dim() != 2 or frames.shape[0] != len(self):
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}; expected [{len(self)}, number of frames "
                "to keep]"
            )
        scenes = torch.arange(len(self), device=frames.device)[:, None]
        return SceneBatch(*(tensor[scenes, frames] for tensor in self._tensors))

    def scene(self, index: int, *, name: str, category: str, split: str) -> Scene:
        """Scene `index` of the batch (a view, not a copy)."""
        return Scene(name, category, split, *(tensor[index] for tensor in self._tensors))

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images, self.extrinsics, self.intrinsics, self.depth


def _required(depth: Tensor | None, name: str) -> Tensor:
    if depth is None:
        raise ValueError(f"scene {name!r} has no depth; its world points and scale are unknown")
    return depth


def _normalise(extrinsics: Tensor, intrinsics: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """`extrinsics` [B,S,3,4], `intrinsics` [B,S,3,3], `depth` [B,S,H,W]; without valid depth the
    scale stays."""
    relative = extrinsics @ invert_extrinsics(extrinsics[:, :1])
    # exact, where the product of a rotation with its inverse is only nearly so
    relative[:, 0] = torch.eye(3, 4, dtype=relative.dtype, device=relative.device)
    valid = depth > 0
    distance = unproject_depth(depth, relative, intrinsics).norm(dim=-1) * valid
    count = valid.sum(dim=(1, 2, 3))
    mean = distance.sum(dim=(1, 2, 3)) / count.clamp(min=1)
    scale = torch.where(count > 0, mean, torch.ones_like(mean))[:, None, None, None]
    relative[..., 3:] /= scale
    return relative, depth / scale
