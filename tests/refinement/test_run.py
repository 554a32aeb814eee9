from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.pose_metrics import pose_auc, relative_pose_errors
from refinement.options import RefineOptions
from refinement.photograph import photograph_of
from refinement.result import VERIFIED, Refinement
from refinement.run import refine
from tests.refinement.rooms import Room, extrinsics_of, make_room, save_picture

pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def refined(room: Room) -> Refinement:
    return refine(room.photographs, room.network, "cameras", RefineOptions(threads=1))


def auc_at_5(answer: Refinement, room: Room) -> float:
    errors = relative_pose_errors(extrinsics_of(answer.pictures), room.scene.extrinsics)
    return pose_auc(*errors, 5)


def network_unchanged(answer: Refinement, room: Room) -> bool:
    same = np.array_equal(
        np.stack([picture.extrinsic for picture in answer.pictures]),
        room.network.extrinsics.double().numpy(),
    )
    return same and answer.method == "none" and answer.kept == 0


def test_a_room_seen_by_a_good_network_is_refined_exactly(room: Room, refined: Refinement) -> None:
    assert refined.reason is None
    assert refined.kept == 4
    assert auc_at_5(refined, room) > 90
    assert refined.support is not None
    assert refined.network_support is not None
    assert refined.support > refined.network_support


def test_the_world_is_the_first_picture_and_the_unit_is_the_networks(
    room: Room, refined: Refinement
) -> None:
    first = refined.pictures[0].extrinsic
    np.testing.assert_allclose(first, np.eye(4)[:3], atol=1e-9)
    assert refined.sparse is not None
    sparse, depth = refined.sparse, room.network.depth.numpy()
    rows = np.flatnonzero(sparse.picture == 0)
    points = np.repeat(np.arange(len(sparse.xyz)), np.diff(sparse.start))[rows]
    x, y = sparse.pixel[rows].astype(int).T
    ratio = np.median(sparse.xyz[points, 2] / depth[0, y, x])
    assert 0.8 < ratio < 1.2


def test_sparse_points_lie_where_the_pictures_see_them(refined: Refinement) -> None:
    sparse = refined.sparse
    assert sparse is not None
    point = np.repeat(np.arange(len(sparse.xyz)), np.diff(sparse.start))
    for index, picture in enumerate(refined.pictures):
        rows = sparse.picture == index
        local = sparse.xyz[point[rows]] @ picture.extrinsic[:, :3].T + picture.extrinsic[:, 3]
        ray = local[:, :2] / local[:, 2:]
        radial = 1 + picture.distortion * (ray**2).sum(1, keepdims=True)
        pixel = picture.focal * radial * ray + (picture.cx, picture.cy)
        assert np.linalg.norm(pixel - sparse.pixel[rows], axis=1).mean() < 1
    assert sparse.error.max() < 10
    assert len(sparse.rgb) == len(sparse.xyz)


def test_the_same_pictures_give_the_same_bits(room: Room, refined: Refinement) -> None:
    again = refine(room.photographs, room.network, "cameras", RefineOptions(threads=1))
    for one, other in zip(refined.pictures, again.pictures, strict=True):
        assert np.array_equal(one.extrinsic, other.extrinsic)
        assert (one.focal, one.distortion) == (other.focal, other.distortion)
    assert refined.sparse is not None
    assert again.sparse is not None
    assert np.array_equal(refined.sparse.xyz, again.sparse.xyz)


def test_black_pictures_keep_the_networks_cameras(room: Room, tmp_path: Path) -> None:
    black = torch.zeros_like(room.scene.images[0])
    photographs = tuple(photograph_of(save_picture(black, tmp_path / f"{i}.png")) for i in range(4))
    answer = refine(photographs, room.network)
    assert network_unchanged(answer, room)
    assert answer.reason is not None
    assert answer.reason.code == "too-few-matches"


def test_a_picture_of_another_room_keeps_the_networks_camera(room: Room, tmp_path: Path) -> None:
    other = make_room(tmp_path / "other", seed=7, views=1)
    photographs = (*room.photographs[:3], other.photographs[0])
    answer = refine(photographs, room.network, "cameras", RefineOptions(threads=1))
    assert [picture.source for picture in answer.pictures] == ["refined"] * 3 + ["network"]
    assert answer.reason is not None
    assert answer.reason.code == "partly-supported"
    errors = relative_pose_errors(extrinsics_of(answer.pictures[:3]), room.scene.extrinsics[:3])
    assert pose_auc(*errors, 5) > 90


def test_the_world_is_the_first_picture_even_if_that_one_is_not_refined(
    room: Room, tmp_path: Path
) -> None:
    other = make_room(tmp_path / "other", seed=7, views=1)
    photographs = (other.photographs[0], *room.photographs[1:])
    answer = refine(photographs, room.network, "cameras", RefineOptions(threads=1))
    assert [picture.source for picture in answer.pictures] == ["network"] + ["refined"] * 3
    np.testing.assert_allclose(answer.pictures[0].extrinsic, np.eye(4)[:3], atol=1e-6)
    refined = extrinsics_of(answer.pictures[1:])
    assert pose_auc(*relative_pose_errors(refined, room.scene.extrinsics[1:]), 5) > 90
    carried = relative_pose_errors(extrinsics_of(answer.pictures), room.scene.extrinsics)
    assert max(float(errors.max()) for errors in carried) < 10  # the network is that good


def test_a_camera_that_only_turns_keeps_the_networks_cameras(tmp_path: Path) -> None:
    room = make_room(tmp_path / "still", seed=0, shrink=0.03)
    answer = refine(room.photographs, room.network, "cameras", RefineOptions(threads=1))
    assert network_unchanged(answer, room)
    assert answer.reason is not None
    assert answer.reason.code in ("no-parallax", "not-supported")


def test_two_pictures_of_one_wall_are_not_said_to_stand_at_one_place(room: Room) -> None:
    wall = room.of(1, 2)
    answer = refine(wall.photographs, wall.network, "cameras", RefineOptions(threads=1))
    assert network_unchanged(answer, wall)
    assert answer.reason is not None
    assert answer.reason.code == "no-parallax"
    assert "or all that matches lies on one plane" in answer.reason.message


@pytest.mark.parametrize("size", [(1, 256), (256, 1), (5, 12)])
def test_pictures_of_a_few_pixels_keep_the_networks_cameras(
    room: Room, tmp_path: Path, size: tuple[int, int]
) -> None:
    height, width = size
    photographs = tuple(
        photograph_of(save_picture(image[:, :height, :width], tmp_path / f"{i}.png"))
        for i, image in enumerate(room.scene.images)
    )
    transforms = tuple(replace(one, original_size=size) for one in room.network.transforms)
    thin = replace(room, network=replace(room.network, transforms=transforms))
    answer = refine(photographs, thin.network, "cameras", RefineOptions(threads=1))
    assert network_unchanged(answer, thin)
    assert answer.reason is not None
    assert answer.reason.code == "too-few-matches"


def test_one_picture_many_times_keeps_the_networks_cameras(room: Room) -> None:
    photographs = (room.photographs[0],) * 4
    answer = refine(photographs, room.network, "cameras", RefineOptions(threads=1))
    assert network_unchanged(answer, room)
    assert answer.reason is not None


def test_pictures_of_several_sizes_and_lenses_are_refined(room: Room, tmp_path: Path) -> None:
    """The last two pictures are cut to the square of 200 pixels in their middle."""
    pictures, network = list(room.photographs), room.network
    transforms = list(network.transforms)
    intrinsics = network.original_intrinsics.clone()
    for i in (2, 3):
        path = save_picture(room.scene.images[i, :, 28:228, 28:228], tmp_path / f"{i}.png")
        pictures[i] = photograph_of(path)
        transforms[i] = replace(transforms[i], original_size=(200, 200), offset=(28.0, 28.0))
        intrinsics[i, 0, 2] = intrinsics[i, 1, 2] = 100
    changed = replace(network, transforms=tuple(transforms), original_intrinsics=intrinsics)
    answer = refine(pictures, changed, "cameras", RefineOptions(threads=1))
    assert answer.kept == 4
    assert answer.pictures[0].focal == answer.pictures[1].focal
    assert answer.pictures[0].focal != answer.pictures[2].focal
    assert answer.pictures[2].cx == 100
    assert auc_at_5(answer, room) > 70


def test_a_picture_more_or_less_is_refused(room: Room) -> None:
    with pytest.raises(ValueError, match="3 pictures for a reconstruction of 4"):
        refine(room.photographs[:3], room.network)
    wrong = replace(room.photographs[0], height=100)
    with pytest.raises(ValueError, match="picture 0 has 100 x 256 pixels"):
        refine((wrong, *room.photographs[1:]), room.network)


def test_where_the_networks_cameras_are_right_dense_depth_is_made_with_them(
    tmp_path: Path,
) -> None:
    right = make_room(tmp_path / "right", seed=0, wrong=0.0)
    answer = refine(right.photographs, right.network, "dense", RefineOptions(threads=1))
    assert answer.reason is not None
    assert answer.reason.code == "already-supported"
    assert network_unchanged(answer, right)
    assert answer.dense is not None
    assert answer.dense_reason is None
    assert right.scene.depth is not None
    true = right.scene.depth.numpy()
    verified = np.stack([found.source for found in answer.dense]) == VERIFIED
    error = np.abs(np.stack([found.depth for found in answer.dense]) / true - 1)[verified]
    assert verified.mean() > 0.2
    assert np.median(error) < 0.01
