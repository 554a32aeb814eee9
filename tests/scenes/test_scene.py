from __future__ import annotations

import math

import pytest
import torch

from model.scene.geometry import invert_extrinsics
from scenes.scene import Scene, SceneBatch


def turned(angle: float, translation: tuple[float, float, float]) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return torch.cat([rotation, torch.tensor(translation)[:, None]], dim=-1)


@pytest.fixture
def batch() -> SceneBatch:
    """Two scenes of three 4 x 6 frames; every frame's red channel says which frame it is."""
    random = torch.Generator().manual_seed(0)
    poses = [turned(0.3 * i, (0.5 * i, -0.2 * i, 1.0 + i)) for i in range(6)]
    images = torch.rand(2, 3, 3, 4, 6, generator=random)
    images[:, :, 0] = torch.arange(6.0).view(2, 3, 1, 1) / 10
    intrinsics = torch.tensor([[5.0, 0.0, 3.0], [0.0, 5.0, 2.0], [0.0, 0.0, 1.0]])
    return SceneBatch(
        images=images,
        extrinsics=torch.stack(poses).view(2, 3, 3, 4),
        intrinsics=intrinsics.expand(2, 3, 3, 3).clone(),
        depth=1 + 3 * torch.rand(2, 3, 4, 6, generator=random),
    )


def mean_distance(batch: SceneBatch) -> torch.Tensor:
    valid = batch.depth > 0
    return (batch.world_points.norm(dim=-1) * valid).sum((1, 2, 3)) / valid.sum((1, 2, 3))


def test_normalising_makes_the_first_camera_the_world_and_the_mean_distance_one(
    batch: SceneBatch,
) -> None:
    normalised = batch.normalised()
    assert torch.equal(normalised.extrinsics[:, 0], torch.eye(3, 4).expand(2, 3, 4))
    torch.testing.assert_close(mean_distance(normalised), torch.ones(2))


def test_normalising_is_one_similarity_for_all_points_of_a_scene(batch: SceneBatch) -> None:
    before, after = batch.world_points, batch.normalised().world_points
    in_first_camera = torch.einsum("bij,bshwj->bshwi", batch.extrinsics[:, 0, :, :3], before)
    in_first_camera = in_first_camera + batch.extrinsics[:, 0, :, 3].view(2, 1, 1, 1, 3)
    scale = in_first_camera.norm(dim=-1).mean(dim=(1, 2, 3)).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(after, in_first_camera / scale, rtol=1e-5, atol=1e-5)


def test_normalising_twice_changes_nothing(batch: SceneBatch) -> None:
    once = batch.normalised()
    twice = once.normalised()
    torch.testing.assert_close(twice.depth, once.depth)
    torch.testing.assert_close(twice.extrinsics, once.extrinsics)


def test_pixels_without_ground_truth_do_not_enter_the_scale(batch: SceneBatch) -> None:
    holes = batch.depth.clone()
    holes[:, 1, :, 3:] = 0
    normalised = SceneBatch(batch.images, batch.extrinsics, batch.intrinsics, holes).normalised()
    assert torch.equal(normalised.depth == 0, holes == 0)
    torch.testing.assert_close(mean_distance(normalised), torch.ones(2))


def test_a_scene_without_any_depth_value_keeps_its_scale(batch: SceneBatch) -> None:
    empty = SceneBatch(
        batch.images, batch.extrinsics, batch.intrinsics, torch.zeros_like(batch.depth)
    ).normalised()
    baseline = (
        invert_extrinsics(batch.extrinsics[:, 1]) - invert_extrinsics(batch.extrinsics[:, 0])
    )[:, :3, 3]
    torch.testing.assert_close(
        invert_extrinsics(empty.extrinsics[:, 1])[:, :3, 3].norm(dim=-1), baseline.norm(dim=-1)
    )


def test_selected_frames_stay_with_their_cameras_and_depth(batch: SceneBatch) -> None:
    frames = torch.tensor([[2, 0], [1, 2]])
    chosen = batch.select(frames)
    for scene in range(2):
        for place, frame in enumerate(frames[scene].tolist()):
            for name in ("images", "extrinsics", "intrinsics", "depth"):
                assert torch.equal(
                    getattr(chosen, name)[scene, place], getattr(batch, name)[scene, frame]
                ), name


def test_the_first_selected_frame_becomes_the_world(batch: SceneBatch) -> None:
    chosen = batch.select(torch.tensor([[2, 0], [1, 2]])).normalised()
    assert torch.equal(chosen.extrinsics[:, 0], torch.eye(3, 4).expand(2, 3, 4))
    assert not torch.equal(chosen.extrinsics[:, 1], torch.eye(3, 4).expand(2, 3, 4))


@pytest.mark.parametrize(
    "frames", [torch.tensor([0, 1]), torch.tensor([[0, 1]])], ids=["flat", "one row for two"]
)
def test_a_selection_that_does_not_fit_the_batch_is_refused(
    batch: SceneBatch, frames: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match=r"expected \[2, number of frames"):
        batch.select(frames)


def test_a_scene_of_a_batch_normalises_like_the_batch(batch: SceneBatch) -> None:
    scene = batch.scene(1, name="second", category="room", split="test")
    assert (scene.name, scene.category, scene.split) == ("second", "room", "test")
    alone, together = scene.normalised(), batch.normalised()
    assert alone.depth is not None
    torch.testing.assert_close(alone.depth, together.depth[1])
    torch.testing.assert_close(alone.extrinsics, together.extrinsics[1])
    torch.testing.assert_close(alone.world_points, together.world_points[1])


def test_a_scene_without_depth_names_itself_when_points_are_asked_for(batch: SceneBatch) -> None:
    scene = Scene(
        "attic", "room", "test", batch.images[0], batch.extrinsics[0], batch.intrinsics[0], None
    )
    with pytest.raises(ValueError, match="'attic' has no depth"):
        _ = scene.world_points
    with pytest.raises(ValueError, match="'attic' has no depth"):
        scene.normalised()


def test_moving_a_batch_keeps_its_values(batch: SceneBatch) -> None:
    assert batch.to("meta").images.device.type == "meta"
    assert torch.equal(batch.to("cpu").depth, batch.depth)
    assert len(batch) == 2
