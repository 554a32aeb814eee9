from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from model.families.vggt.cameras import cameras_to_pose_encoding, pose_encoding_to_cameras
from model.rotations import rotation_angle
from model.scene.geometry import invert_extrinsics
from scenes.scene import SceneBatch
from scenes.synthetic.distribution import TEST_SETS
from scenes.synthetic.generator import (
    SPLITS,
    SceneDistribution,
    SceneRequest,
    SyntheticScenes,
    draw_scenes,
    join_drawn,
    render_batch,
)
from scenes.synthetic.generator import render as render_drawn
from training.correspondence import patch_matches, patch_points

ORBIT = SceneDistribution(orbit_weight=1, dolly_weight=0, handheld_weight=0)
DOLLY = SceneDistribution(orbit_weight=0, dolly_weight=1, handheld_weight=0)
HANDHELD = SceneDistribution(orbit_weight=0, dolly_weight=0, handheld_weight=1)
MOTIONS = pytest.mark.parametrize(
    "distribution", [ORBIT, DOLLY, HANDHELD], ids=["orbit", "dolly", "handheld"]
)
KINDS = {name: TEST_SETS[name] for name in ("photo", "free", "free-photo", "relief", "facade")}
EVERY_KIND = pytest.mark.parametrize("distribution", KINDS.values(), ids=KINDS)
NAMES = ("images", "extrinsics", "intrinsics", "depth")


def render(seeds: list[int], **changes: Any) -> SceneBatch:
    settings = {"split": "train", "num_views": 3, "height": 40, "width": 56, **changes}
    return render_batch(seeds, **settings)


def same_bits(a: SceneBatch, b: SceneBatch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in NAMES)


def test_the_same_seeds_give_the_same_bits() -> None:
    assert same_bits(render([3, 11]), render([3, 11]))


def test_standard_scenes_are_those_that_the_bundled_network_was_trained_on() -> None:
    batch = render(
        [5], split="test", height=60, width=96, distribution=SceneDistribution.at_dial(0.0)
    )
    pose = [0.6965862512588501, -0.028828220441937447, -0.7168936729431152, -0.010316441766917706]
    assert batch.extrinsics[0, 1, 0].tolist() == pytest.approx(pose, abs=1e-6)
    assert batch.intrinsics[0, 0, 0, 0].item() == pytest.approx(70.66659545898438, rel=1e-6)
    depth = [2.1633405685424805, 6.315837383270264, 6.024382591247559]
    assert batch.depth[0, :, 17, 40].tolist() == pytest.approx(depth, rel=1e-5)
    colour = [0.16633287072181702, 0.16882078349590302, 0.16327764093875885]
    assert batch.images[0, 2, :, 30, 50].tolist() == pytest.approx(colour, abs=1e-5)
    assert batch.images.double().mean().item() == pytest.approx(0.3793251045852949, abs=1e-6)
    assert batch.depth.double().mean().item() == pytest.approx(3.2349787365990106, rel=1e-6)


def test_standard_rooms_stay_what_they_are_among_free_scenes() -> None:
    standard = render(list(range(12)))
    mixed = render(list(range(12)), distribution=SceneDistribution.at_dial(0.7, standard_share=0.5))
    same = [torch.equal(standard.extrinsics[k], mixed.extrinsics[k]) for k in range(12)]
    assert 2 < sum(same) < 10
    for k in range(12):
        if same[k]:  # balls are met by another formula
            assert torch.equal(standard.intrinsics[k], mixed.intrinsics[k])
            torch.testing.assert_close(standard.depth[k], mixed.depth[k], rtol=1e-4, atol=1e-4)
            assert ((standard.images[k] - mixed.images[k]).abs() < 1e-3).float().mean() > 0.999


def test_natural_textures_change_the_pictures_of_a_scene_and_nothing_else() -> None:
    standard, photo = render([0, 1]), render([0, 1], distribution=TEST_SETS["photo"])
    assert not torch.equal(standard.images, photo.images)
    for name in ("extrinsics", "intrinsics", "depth"):
        assert torch.equal(getattr(standard, name), getattr(photo, name))


@EVERY_KIND
def test_free_scenes_do_not_depend_on_the_scenes_they_are_rendered_with(
    distribution: SceneDistribution,
) -> None:
    together = render([0, 1, 2, 3, 4], height=96, width=120, distribution=distribution)
    for place in (0, 4):
        alone = render([place], height=96, width=120, distribution=distribution)
        for name in NAMES:
            assert torch.equal(getattr(together, name)[place], getattr(alone, name)[0]), (
                name,
                place,
            )


@EVERY_KIND
def test_depth_is_positive_and_bounded_or_unknown(distribution: SceneDistribution) -> None:
    batch = render(list(range(40)), num_views=4, height=24, width=24, distribution=distribution)
    known = batch.depth > 0
    assert batch.depth.isfinite().all()
    assert batch.depth.min() >= 0
    assert batch.depth[known].min() > 0.05
    assert batch.depth.max() <= 15.0
    assert known.float().mean() > 0.7
    assert known.all() == (distribution is not KINDS["facade"])
    assert (known.flatten(1).sum(1) > 0).all()


@EVERY_KIND
def test_neighbouring_frames_of_free_scenes_show_the_same_things(
    distribution: SceneDistribution,
) -> None:
    batch = render(
        list(range(24)), num_views=2, height=96, width=96, distribution=distribution
    ).normalised()
    points = patch_points(batch, 12)
    matches = patch_matches(points, batch, torch.tensor([1]), torch.tensor([0]), 12)
    assert matches.visible.float().mean() > 0.4


def test_the_dial_turns_cameras_more_and_more() -> None:
    def turn(dial: float) -> float:
        batch = render(
            list(range(60)),
            num_views=2,
            height=2,
            width=2,
            distribution=SceneDistribution.at_dial(dial),
        )
        return float(
            rotation_angle(batch.extrinsics[:, 0, :, :3], batch.extrinsics[:, 1, :, :3]).median()
        )

    assert 3 < turn(0.01) < turn(0.5) < turn(1.0) < 45


def test_drawn_scenes_can_be_put_together_from_parts() -> None:
    request = SceneRequest(range(5), "train", 2, 24, 24, SceneDistribution.at_dial(1.0))
    parts = [part for part in (request.part(k, 3) for k in range(3)) if part is not None]
    together = join_drawn([draw_scenes(part) for part in parts])
    assert same_bits(render_drawn(together), render_drawn(draw_scenes(request)))
    assert SceneRequest([0], "train", 2, 24, 24).part(0, 3) is None


def test_a_scene_does_not_depend_on_the_scenes_it_is_rendered_with() -> None:
    together = render([0, 1, 2, 3, 4], height=96, width=120)  # several chunks of frames
    backwards = render([4, 3, 2, 1, 0], height=96, width=120)
    for place in range(5):
        alone = render([place], height=96, width=120)
        for name in NAMES:
            expected = getattr(alone, name)[0]
            assert torch.equal(getattr(together, name)[place], expected), (name, place)
            assert torch.equal(getattr(backwards, name)[4 - place], expected), (name, place)


def test_no_two_splits_or_seeds_share_a_scene() -> None:
    depths = [
        render([seed], split=split).depth
        for split in SPLITS
        for seed in (0, 1, 2, 2**32, 2**32 + 1)
    ]
    for i, one in enumerate(depths):
        assert not any(torch.equal(one, other) for other in depths[:i])


def test_the_size_of_the_picture_does_not_change_the_scene() -> None:
    small, large = render([7], height=32, width=48), render([7], height=64, width=96)
    assert torch.equal(small.extrinsics, large.extrinsics)
    # the same rays: pixel (2u, 2v) of twice the size looks where pixel (u, v) does
    torch.testing.assert_close(small.depth, large.depth[..., ::2, ::2], rtol=1e-5, atol=1e-5)


def test_pictures_are_float32_within_zero_and_one_and_full_of_contrast() -> None:
    images = render(list(range(16))).images
    assert images.shape == (16, 3, 3, 40, 56)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.flatten(2).std(dim=2) > 0.05).all()
    clipped = ((images == 0) | (images == 1)).float().mean()
    assert clipped < 0.15


@MOTIONS
def test_depth_is_positive_and_within_the_room(distribution: SceneDistribution) -> None:
    depth = render(
        list(range(40)), num_views=6, height=24, width=24, distribution=distribution
    ).depth
    diagonal = (
        4 * 2 * distribution.room_half_width[1] ** 2 + distribution.room_height[1] ** 2
    ) ** 0.5
    assert depth.isfinite().all()
    assert depth.min() > 0.1
    assert depth.max() < diagonal


@MOTIONS
def test_every_visible_point_lies_in_the_room(distribution: SceneDistribution) -> None:
    points = render(
        list(range(24)), num_views=4, height=24, width=24, distribution=distribution
    ).world_points
    x, y, z = points.unbind(-1)
    widest, highest = distribution.room_half_width[1], distribution.room_height[1]
    assert x.abs().max() < widest + 1e-3
    assert z.abs().max() < widest + 1e-3
    assert y.max() < 1e-3
    assert y.min() > -highest - 1e-3


@MOTIONS
@pytest.mark.parametrize("num_views", [2, 4, 12])
def test_no_two_cameras_of_a_scene_share_a_place(
    distribution: SceneDistribution, num_views: int
) -> None:
    batch = render(
        list(range(60)), num_views=num_views, height=2, width=2, distribution=distribution
    )
    centres = invert_extrinsics(batch.extrinsics)[..., :3, 3]
    apart = torch.cdist(centres, centres) + 1e3 * torch.eye(num_views)
    assert apart.min() > {2: 0.2, 4: 0.12, 12: 0.05}[num_views]


def test_cameras_are_rigid_and_look_into_the_room() -> None:
    batch = render(list(range(20)), num_views=5, height=2, width=2)
    rotation = batch.extrinsics[..., :3]
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20, 5))
    down = rotation[..., 1, :]  # the camera's y axis in the room, whose y points down
    assert (down[..., 1] > 0.5).all()


def in_view(batch: SceneBatch, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where frame `source`'s points fall in frame `target` of scene 0: u, v and depth, each
    [H,W]."""
    pose = batch.extrinsics[0, target]
    camera = batch.world_points[0, source] @ pose[:, :3].T + pose[:, 3]
    u, v, w = (camera @ batch.intrinsics[0, target].T).unbind(-1)
    return u / w, v / w, camera[..., 2]


def sample(picture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Bilinear values of `picture` [C,H,W] at pixel coordinates [H,W] -> [C,H,W]."""
    height, width = picture.shape[-2:]
    grid = torch.stack([2 * u / (width - 1) - 1, 2 * v / (height - 1) - 1], dim=-1)
    return grid_sample(picture[None], grid[None], align_corners=True)[0]


@pytest.mark.parametrize(
    "distribution",
    [ORBIT, DOLLY, HANDHELD, *KINDS.values()],
    ids=["orbit", "dolly", "handheld", *KINDS],
)
def test_a_point_seen_in_two_views_has_one_place_and_one_colour(
    distribution: SceneDistribution,
) -> None:
    plain = replace(distribution, gain=(1.0, 1.0), pixel_noise=(0.0, 0.0))
    matched, differences, shuffled = 0.0, [], []
    for seed in range(8):
        batch = render([seed], num_views=3, height=96, width=96, distribution=plain)
        for source, target in ((0, 1), (1, 2), (2, 0)):
            u, v, depth = in_view(batch, source, target)
            # 1 / depth is linear over a flat face; where its neighbours disagree there is an edge
            # between them
            inverse = 1 / batch.depth[0, target].where(batch.depth[0, target] > 0, 1e6)
            spread = torch.nn.functional.max_pool2d(
                torch.stack([inverse, -inverse])[None], 3, 1, 1
            )[0].sum(0)
            flat = sample((spread / inverse)[None], u, v)[0] < 0.04
            inside = (
                (batch.depth[0, source] > 0)
                & (depth > 0.1)
                & (u > 2)
                & (u < 93)
                & (v > 2)
                & (v < 93)
                & flat
            )
            seen = 1 / sample(inverse[None], u, v)[0]
            # something may stand before the point, but nothing is seen through it
            assert (seen[inside] <= depth[inside] * 1.02).all(), (seed, source, target)
            visible = inside & ((seen - depth).abs() < 0.005 * depth)
            matched += visible.float().mean().item() / 24
            colours = sample(batch.images[0, target], u, v)[:, visible]
            differences.append((colours - batch.images[0, source][:, visible]).abs().flatten())
            shuffled.append(
                (colours.roll(101, 1) - batch.images[0, source][:, visible]).abs().flatten()
            )
    assert matched > 0.3
    assert torch.cat(differences).mean() < 0.4 * torch.cat(shuffled).mean()


@pytest.mark.parametrize(("height", "width"), [(48, 48), (30, 60), (60, 30), (1, 7)])
def test_the_field_of_view_is_that_of_the_longer_side(height: int, width: int) -> None:
    batch = render([0, 1, 2], height=height, width=width)
    assert batch.images.shape == (3, 3, 3, height, width)
    assert batch.depth.shape == (3, 3, height, width)
    fx, fy = batch.intrinsics[..., 0, 0], batch.intrinsics[..., 1, 1]
    assert torch.equal(fx, fy)
    angle = torch.rad2deg(2 * torch.atan(max(height, width) / 2 / fx))
    assert (angle > 50 - 1e-3).all()
    assert (angle < 80 + 1e-3).all()
    assert (batch.intrinsics[..., 0, 2] == width / 2).all()
    assert (batch.intrinsics[..., 1, 2] == height / 2).all()


def test_cameras_survive_the_pose_encoding() -> None:
    batch = render([0, 1], height=30, width=60)
    encoding = cameras_to_pose_encoding(batch.extrinsics, batch.intrinsics, (30, 60))
    extrinsics, intrinsics = pose_encoding_to_cameras(encoding, (30, 60))
    torch.testing.assert_close(extrinsics, batch.extrinsics, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(intrinsics, batch.intrinsics, atol=1e-4, rtol=1e-5)


def test_a_narrower_orbit_turns_the_cameras_less() -> None:
    easy = render(
        list(range(30)), height=2, width=2, distribution=replace(ORBIT, half_range=(8.0, 10.0))
    )
    hard = render(
        list(range(30)), height=2, width=2, distribution=replace(ORBIT, half_range=(50.0, 60.0))
    )

    def turn(batch: SceneBatch) -> Tensor:
        relative = batch.extrinsics[:, 0, :, :3] @ batch.extrinsics[:, 1, :, :3].mT
        return torch.rad2deg(
            torch.acos(((relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
        ).median()

    assert turn(easy) < 20 < turn(hard)


def test_a_list_of_scenes_yields_what_the_batch_holds() -> None:
    scenes = SyntheticScenes("test", 3, 2, 24, 36, seed=5)
    batch = render([5, 6, 7], split="test", num_views=2, height=24, width=36)
    assert len(scenes) == 3
    for place, scene in enumerate(scenes):
        assert scene.split == "test"
        assert scene.name == f"test-{5 + place:06d}"
        assert torch.equal(scene.images, batch.images[place])
        assert scene.depth is not None
        assert torch.equal(scene.depth, batch.depth[place])
    assert scenes[-1].name == "test-000007"
    assert [scene.name for scene in scenes[1:]] == ["test-000006", "test-000007"]
    with pytest.raises(IndexError):
        scenes[3]


@pytest.mark.parametrize(
    ("seeds", "changes", "message"),
    [
        (
            [0],
            {"split": "validation"},
            "split is 'validation'; expected one of train, calibration, test",
        ),
        ([], {}, "expected at least one"),
        ([1, -1], {}, "none negative"),
        ([0], {"num_views": 0}, "num_views 0"),
        ([0], {"height": 0}, "height 0"),
    ],
    ids=["unknown split", "no seed", "negative seed", "no view", "no pixel"],
)
def test_what_cannot_be_rendered_is_refused(
    seeds: list[int], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        render(seeds, **changes)


@pytest.mark.parametrize(("split", "count"), [("dev", 1), ("train", 0)])
def test_a_list_of_scenes_needs_a_known_split_and_a_scene(split: str, count: int) -> None:
    with pytest.raises(ValueError, match=r"split is 'dev'|count is 0"):
        SyntheticScenes(split, count, 2, 24, 24)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_renders_the_same_scene() -> None:
    on_cpu, on_cuda = render([0, 1]), render([0, 1], device="cuda").to("cpu")
    assert torch.equal(on_cuda.extrinsics, on_cpu.extrinsics)
    torch.testing.assert_close(on_cuda.depth.median(), on_cpu.depth.median(), rtol=1e-4, atol=1e-4)
    assert ((on_cuda.depth - on_cpu.depth).abs() < 1e-3).float().mean() > 0.999
    assert ((on_cuda.images - on_cpu.images).abs() < 1e-2).float().mean() > 0.99
