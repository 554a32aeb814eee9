"""Synthetic rooms as picture files, with a network that is as wrong as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.scene.geometry import unproject_depth
from model.scene.preprocess import ImageTransform
from model.scene.reconstruction import Reconstruction
from refinement.photograph import Photograph, photograph_of
from scenes.scene import Scene
from scenes.synthetic.generator import render_batch


@dataclass(frozen=True)
class Room:
    """A scene with its pictures on disk, and what a network says of it."""

    scene: Scene
    photographs: tuple[Photograph, ...]
    network: Reconstruction

    def of(self, *pictures: int) -> Room:
        """Only these pictures, in this order."""
        chosen = list(pictures)
        scene, network = self.scene, self.network
        return Room(
            replace(
                scene,
                images=scene.images[chosen],
                extrinsics=scene.extrinsics[chosen],
                intrinsics=scene.intrinsics[chosen],
                depth=None if scene.depth is None else scene.depth[chosen],
            ),
            tuple(self.photographs[i] for i in chosen),
            reconstruction_of(
                network.extrinsics[chosen],
                network.original_intrinsics[chosen],
                network.depth[chosen],
            ),
        )


def make_room(
    folder: Path, seed: int, views: int = 4, size: tuple[int, int] = (256, 256), wrong: float = 1.0
) -> Room:
    """A room of the test split. The network's cameras are off by `wrong` times 1.4 degrees, 4 % of
    the distance of the cameras and 4 % of the focal length."""
    height, width = size
    scene = render_batch([seed], split="test", num_views=views, height=height, width=width).scene(
        0, name=f"room{seed}", category="room", split="test"
    )
    folder.mkdir(exist_ok=True)
    photographs = tuple(
        photograph_of(save_picture(image, folder / f"{seed}-{i}.png"))
        for i, image in enumerate(scene.images)
    )
    assert scene.depth is not None
    extrinsics, intrinsics = disturbed(scene.extrinsics, scene.intrinsics, wrong, seed)
    return Room(scene, photographs, reconstruction_of(extrinsics, intrinsics, scene.depth))


def save_picture(image: Tensor, path: Path) -> Path:
    """A picture `[3, H, W]` in [0, 1] as a file."""
    Image.fromarray((image.movedim(0, -1) * 255).round().byte().numpy()).save(path)
    return path


def disturbed(
    extrinsics: Tensor, intrinsics: Tensor, wrong: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Cameras as a good network sees them; see `make_room`."""
    random = np.random.default_rng(seed)
    extrinsics, intrinsics = extrinsics.double().clone(), intrinsics.double().clone()
    rotation = extrinsics[:, :, :3]
    centres = -(rotation.mT @ extrinsics[:, :, 3:])[..., 0]
    reach = float(torch.cdist(centres, centres).max())
    for i in range(len(extrinsics)):
        x, y, z = random.normal(size=3) * np.radians(1.4 * wrong) / 3**0.5
        skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        centre = centres[i] + torch.from_numpy(random.normal(size=3)) * 0.04 * wrong * reach / 3
        turned = torch.linalg.matrix_exp(skew) @ rotation[i]
        extrinsics[i] = torch.cat((turned, -(turned @ centre)[:, None]), dim=1)
        intrinsics[i, 0, 0] = intrinsics[i, 1, 1] = intrinsics[i, 0, 0] * np.exp(
            0.04 * wrong * random.normal()
        )
    return extrinsics, intrinsics


def reconstruction_of(extrinsics: Tensor, intrinsics: Tensor, depth: Tensor) -> Reconstruction:
    """What a network whose grid is that of the pictures would give."""
    frames, height, width = depth.shape
    transform = ImageTransform((height, width), (height, width), (1.0, 1.0), (0.0, 0.0))
    depth, extrinsics, intrinsics = depth.float(), extrinsics.float(), intrinsics.float()
    return Reconstruction(
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=intrinsics,
        depth=depth,
        depth_conf=torch.full_like(depth, 2.0),
        world_points=unproject_depth(depth, extrinsics, intrinsics),
        colors=torch.zeros(frames, height, width, 3, dtype=torch.uint8),
        mask=torch.ones(frames, height, width, dtype=torch.bool),
        transforms=(transform,) * frames,
    )


def extrinsics_of(pictures: Sequence) -> Tensor:
    """The answer's cameras `[S, 3, 4]`."""
    return torch.from_numpy(np.stack([picture.extrinsic for picture in pictures]))
