"""Scenes with exact ground truth, and networks that know the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from evaluation.pose_metrics import relative_to_first
from evaluation.report import SceneRecord
from model.families.family import Geometry
from model.rotations import quaternion_to_matrix
from scenes.scene import Scene

HEIGHT, WIDTH, FOCAL = 12, 16, 14.0


def build_scene(
    name: str, *, views: int = 4, category: str = "chair", split: str = "test", depth: bool = True
) -> Scene:
    """A wavy surface seen by cameras whose rotations and centres are drawn from the scene's
    name."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    quaternion = torch.cat(
        (0.3 * torch.randn(views, 3, generator=generator), torch.ones(views, 1)), dim=1
    )
    translation = torch.randn(views, 3, 1, generator=generator)
    intrinsics = (
        torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
        .expand(views, 3, 3)
        .clone()
    )
    return Scene(
        name=name,
        category=category,
        split=split,
        images=torch.rand(views, 3, HEIGHT, WIDTH, generator=generator),
        extrinsics=torch.cat((quaternion_to_matrix(quaternion), translation), dim=-1),
        intrinsics=intrinsics,
        depth=1.0 + 3.0 * torch.rand(views, HEIGHT, WIDTH, generator=generator) if depth else None,
    )


class Oracle:
    """Answers with the truth in the first camera's frame, at another scale, each camera turned by
    `turn_deg`."""

    def __init__(
        self, scenes: Sequence[Scene], *, turn_deg: float = 0.0, depth_noise: float = 0.0
    ) -> None:
        self.scenes, self.turn_deg, self.depth_noise = scenes, turn_deg, depth_noise

    def __call__(self, images: Tensor) -> Geometry:
        scene = next(s for s in self.scenes if torch.equal(s.images, images))
        generator = torch.Generator().manual_seed(0)
        extrinsics = relative_to_first(scene.extrinsics)
        axis = torch.nn.functional.normalize(
            torch.randn(len(extrinsics), 3, generator=generator), dim=1
        )
        half = torch.deg2rad(torch.tensor(self.turn_deg / 2))
        turn = quaternion_to_matrix(
            torch.cat((axis * half.sin(), half.cos().expand(len(extrinsics), 1)), dim=1)
        )
        turned = turn.double() @ extrinsics  # about the camera's own centre
        extrinsics = torch.cat((turned[..., :3], 0.5 * turned[..., 3:]), dim=-1)
        intrinsics = scene.intrinsics.double()
        if scene.depth is None:
            return Geometry(extrinsics, intrinsics, None, None, None)
        noise = 1.0 + self.depth_noise * torch.randn(scene.depth.shape, generator=generator)
        camera = scene.extrinsics[0]
        points = scene.world_points @ camera[:, :3].T + camera[:, 3]
        return Geometry(
            extrinsics,
            intrinsics,
            (0.5 * scene.depth * noise).double(),
            None,
            0.5 * points.double(),
        )


def build_record(
    name: str, error_deg: float, *, category: str = "chair", pairs: int = 1, **figures: float
) -> SceneRecord:
    """A scene whose cameras are all turned by `error_deg`; of other figures only those given."""
    optional = ("abs_rel", "delta", "constant_abs_rel", "point_error", "point_head_error")
    missing = dict.fromkeys((*optional, "focal_error", "surface"))
    return SceneRecord(
        name=name,
        category=category,
        split="test",
        views=2,
        rotation_deg=(error_deg,) * pairs,
        translation_deg=(0.0,) * pairs,
        failure=None,
        **{**missing, **figures},
    )


@pytest.fixture
def record() -> Callable[..., SceneRecord]:
    return build_record


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    return build_scene


@pytest.fixture
def oracle() -> type[Oracle]:
    return Oracle


@pytest.fixture
def scenes() -> list[Scene]:
    """Six scenes of two categories, with different numbers of views."""
    return [
        build_scene(f"scene-{i}", views=2 + i % 3, category=("chair", "vase")[i % 2])
        for i in range(6)
    ]
