from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation.pose_metrics import pose_auc, relative_pose_errors
from refinement.options import RefineOptions
from refinement.photograph import photograph_of
from refinement.result import Refinement
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


def test_black_pictures_keep_the_networks_cameras(room: Room, tmp_path) -> None:
    black = torch.zeros_like(room.scene.images[0])
    photographs = tuple(photograph_of(save_picture(black, tmp_path / f"{i}.png")) for i in range(4))
    answer = refine(photographs, room.network)
    assert network_unchanged(answer, room)
    assert answer.reason is not None
    assert answer.reason.code == "too-few-matches"


def test_a_picture_of_another_room_keeps_the_networks_camera(room: Room, tmp_path) -> None:
    other = make_room(tmp_path / "other", seed=7, views=1)
    photographs = (*room.photographs[:3], other.photographs[0])
    answer = refine(photographs, room.network, "cameras", RefineOptions(threads=1))
    assert [picture.source for picture in answer.pictures] == ["refined"] * 3 + ["network"]
    assert answer.reason is not None
    assert answer.reason.code == "partly-supported"
    errors = relative_pose_errors(extrinsics_of(answer.pictures[:3]), room.scene.extrinsics[:3])
    assert pose_auc(*errors, 5) > 90


def test_a_picture_more_or_less_is_refused(room: Room) -> None:
    with pytest.raises(ValueError, match="3 pictures for a reconstruction of 4"):
        refine(room.photographs[:3], room.network)
    wrong = replace(room.photographs[0], height=100)
    with pytest.raises(ValueError, match="picture 0 has 100 x 256 pixels"):
        refine((wrong, *room.photographs[1:]), room.network)
