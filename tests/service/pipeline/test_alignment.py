from __future__ import annotations

import numpy as np
import pytest
import torch

from model.families.vggt.cameras import pose_encoding_to_cameras
from model.scene.distortion import undistort
from model.scene.geometry import unproject_depth
from model.scene.preprocess import ImageTransform
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity, camera_centres
from refinement.result import DenseMap, RefinedPicture, Refinement
from service.errors import InvalidOption
from service.inputs.options import KnownCamera, KnownDistance, Options, PicturePoint
from service.pipeline.alignment import (
    Aligned,
    apply_knowledge,
    known_cameras,
    measure,
    with_known_intrinsics,
)
from service.result.document import Unit, world_frame

NETWORK, ORIGINAL = (12, 16), (120, 160)


def scene(frames: int = 3) -> Reconstruction:
    """Cameras in a row before a wall two units away."""
    encoding = torch.zeros(frames, 9)
    encoding[:, 0] = -torch.arange(frames)
    encoding[:, 6] = 1
    encoding[:, 7:] = 1.0
    extrinsics, intrinsics = pose_encoding_to_cameras(encoding, NETWORK)
    depth = torch.full((frames, *NETWORK), 2.0)
    transform = ImageTransform(ORIGINAL, NETWORK, (0.1, 0.1), (0.0, 0.0))
    return Reconstruction(
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=transform.intrinsics_to_original(intrinsics),
        depth=depth,
        depth_conf=torch.ones_like(depth),
        world_points=unproject_depth(depth, extrinsics, intrinsics),
        colors=torch.zeros(frames, *NETWORK, 3, dtype=torch.uint8),
        mask=torch.ones(frames, *NETWORK, dtype=torch.bool),
        transforms=(transform,) * frames,
    )


def found(
    scene: Reconstruction,
    options: Options,
    unit: Unit = "arbitrary",
    refinement: Refinement | None = None,
) -> Aligned:
    return apply_knowledge(lambda: scene.extrinsics, scene.frame, options, unit, refinement)


def known(extrinsics: torch.Tensor, *given: int) -> list[KnownCamera | None]:
    return [
        KnownCamera(extrinsic=extrinsic.tolist()) if index in given else None
        for index, extrinsic in enumerate(extrinsics)
    ]


def test_nothing_known_changes_nothing() -> None:
    before = scene()
    aligned = found(before, Options(), "arbitrary")
    assert aligned.moved(before) is before
    scale = aligned.scale
    assert (scale.unit, scale.factor, scale.provenance) == ("arbitrary", 1.0, "network")


def test_a_network_that_predicts_metres_says_so() -> None:
    before = scene()
    scale = found(before, Options(), "metre").scale
    assert (scale.unit, scale.factor, scale.provenance) == ("metre", 1.0, "network")
    assert "The unit is the metre, as the network predicts it." in world_frame(scale)
    scale = found(before, Options(), "arbitrary").scale
    assert "The scale is arbitrary" in world_frame(scale)


def test_known_poses_of_some_pictures_move_and_scale_the_whole_scene() -> None:
    before = scene()
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    truth = Similarity(0.5, turn, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    target = truth.move_extrinsics(before.extrinsics)
    options = Options.model_construct(cameras=known(target, 0, 2), known_distance=None)
    aligned = found(before, options, "arbitrary")
    after, scale = aligned.moved(before), aligned.scale
    torch.testing.assert_close(aligned.similarity.rotation, turn, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.extrinsics.double(), target, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.depth, 0.5 * before.depth)
    torch.testing.assert_close(
        after.world_points.double(), truth.move_points(before.world_points), atol=1e-5, rtol=0
    )
    assert (scale.unit, scale.provenance) == ("metre", "known cameras")
    assert scale.factor == pytest.approx(0.5)
    assert scale.position_residual == pytest.approx(0, abs=1e-5)
    assert scale.rotation_residual_degrees == pytest.approx(0, abs=0.1)


def test_the_residual_says_how_badly_known_poses_fit() -> None:
    before = scene()
    target = before.extrinsics.double().clone()
    target[1, 1, 3] += 0.3
    scale = found(
        before,
        Options.model_construct(cameras=known(target, 0, 1, 2), known_distance=None),
        "arbitrary",
    ).scale
    assert scale.position_residual is not None
    assert 0.05 < scale.position_residual < 0.3


def distance(metres: float) -> KnownDistance:
    """Between two places of the wall: 60 original pixels apart."""
    a, b = PicturePoint(picture=0, x=50.0, y=60.0), PicturePoint(picture=0, x=110.0, y=60.0)
    return KnownDistance(a=a, b=b, metres=metres)


def test_a_known_distance_gives_metres() -> None:
    before = scene()
    expected = 2.0 * 60 / float(before.original_intrinsics[0, 0, 0])
    assert measure(before.frame, distance(1)) == pytest.approx(expected, rel=1e-5)
    aligned = found(
        before, Options.model_construct(cameras=None, known_distance=distance(3)), "arbitrary"
    )
    after, scale = aligned.moved(before), aligned.scale
    assert (scale.unit, scale.provenance) == ("metre", "known distance")
    assert scale.factor == pytest.approx(3 / expected, rel=1e-5)
    assert measure(after.frame, distance(3)) == pytest.approx(3, rel=1e-5)
    torch.testing.assert_close(
        camera_centres(after.extrinsics),
        scale.factor * camera_centres(before.extrinsics),
        atol=1e-5,
        rtol=1e-5,
    )


def test_with_poses_the_distance_is_only_checked() -> None:
    before = scene()
    cameras = known(before.extrinsics, 0, 1, 2)
    aligned = found(
        before, Options.model_construct(cameras=cameras, known_distance=distance(1)), "arbitrary"
    )
    after, scale = aligned.moved(before), aligned.scale
    assert scale.provenance == "known cameras"
    assert scale.distance_residual == pytest.approx(measure(after.frame, distance(1)) - 1)


def test_a_distance_between_a_place_and_itself_is_refused() -> None:
    place = PicturePoint(picture=0, x=1, y=1)
    with pytest.raises(InvalidOption, match="same place"):
        measure(scene().frame, KnownDistance(a=place, b=place, metres=1))


def test_known_intrinsics_replace_the_networks_on_both_grids_and_leave_depth() -> None:
    before = scene()
    intrinsic = [[200.0, 0, 81], [0, 210.0, 59], [0, 0, 1]]
    options = Options.model_construct(
        cameras=[None, KnownCamera(intrinsic=intrinsic), None], known_distance=None
    )
    after = with_known_intrinsics(before, options)
    torch.testing.assert_close(after.original_intrinsics[1], torch.tensor(intrinsic))
    torch.testing.assert_close(
        after.intrinsics[1], torch.tensor([[20.0, 0, 8.1], [0, 21.0, 5.9], [0, 0, 1]])
    )
    torch.testing.assert_close(after.intrinsics[0], before.intrinsics[0])
    torch.testing.assert_close(after.depth, before.depth)
    assert not torch.allclose(after.world_points[1], before.world_points[1])
    assert with_known_intrinsics(before, Options()) is before


def test_a_known_distance_is_measured_on_dense_depth_through_the_lens() -> None:
    before = scene(1)
    intrinsic = before.original_intrinsics[0]
    focal, (cx, cy) = float(intrinsic[0, 0]), (float(intrinsic[0, 2]), float(intrinsic[1, 2]))
    depth = np.full((60, 80), np.nan, np.float32)  # half the picture's resolution
    depth[30, 25], depth[30, 55] = 4.0, 5.0
    picture = RefinedPicture(
        "refined", before.extrinsics[0].numpy(), focal, cx, cy, 0.1, 0.9, 99, 9.0, None
    )
    refinement = Refinement(
        (picture,), "seeded", 0.9, 0.1, None, dense=(DenseMap(depth, np.zeros((60, 80), np.uint8)),)
    )
    ends = []
    for x, z in ((50.0, 4.0), (110.0, 5.0)):
        place = undistort(np.array([(x - cx) / focal, (60.0 - cy) / focal]), 0.1)
        ends.append(z * np.array([*place, 1.0]))
    expected = float(np.linalg.norm(ends[0] - ends[1]))
    assert measure(before.frame, distance(1), refinement) == pytest.approx(expected, rel=1e-5)
    nowhere = PicturePoint(picture=0, x=10.0, y=10.0)  # no dense depth: the network's
    both = KnownDistance(a=nowhere, b=PicturePoint(picture=0, x=50.0, y=60.0), metres=1)
    assert 2.0 < measure(before.frame, both, refinement) < 3.0


def test_cameras_are_known_where_all_pictures_have_pose_and_intrinsics() -> None:
    pose, lens = [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0]], [[9, 0, 8], [0, 9, 6], [0, 0, 1]]
    whole = KnownCamera(extrinsic=pose, intrinsic=lens)
    options = Options.model_construct(cameras=[KnownCamera(extrinsic=pose), whole, whole, None])
    extrinsics, intrinsics = known_cameras(options, range(1, 3))
    assert extrinsics.tolist() == [pose] * 2
    assert intrinsics.tolist() == [lens] * 2
    assert known_cameras(options, range(2)) is None
    assert known_cameras(options, range(2, 4)) is None
    assert known_cameras(Options(), range(2)) is None
