from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from service.errors import InvalidOption
from service.exports import points
from service.exports.options import PointOptions
from service.exports.points import Block, Cloud, depth_edges, looks_like_sky, select_points
from service.result.scene import Scene


def whole(cloud: Cloud) -> Block:
    """All of a cloud's points together."""
    blocks = list(cloud.blocks())
    fields = ("points", "colors", "confidence", "pixels")
    return Block(-1, *(np.concatenate([getattr(b, name) for b in blocks]) for name in fields))


def network_pixels(cloud: Cloud) -> np.ndarray:
    """Picture, column and row of each point on the network's grid."""
    found = []
    for index in range(len(cloud.counts)):
        _, rows, columns = cloud.places(index)
        found.append(np.stack([np.full(len(rows), index), columns, rows], 1))
    return np.concatenate(found)


EVERYTHING = PointOptions(confidence=0)
CONTENT = 2 * 96 * 72


def test_every_pixel_that_is_no_padding_becomes_a_point(scene: Scene) -> None:
    cloud = select_points(scene, EVERYTHING)
    assert len(cloud) == CONTENT
    picture, x, y = network_pixels(cloud).T
    np.testing.assert_array_equal(whole(cloud).colors, scene.colors[picture, y, x])
    expected = np.stack([scene.world_points(index) for index in (0, 1)])[picture, y, x]
    np.testing.assert_allclose(whole(cloud).points, expected, atol=1e-5)


def test_the_least_confident_share_is_left_out(scene: Scene) -> None:
    cloud = select_points(scene, PointOptions(confidence=40))
    assert len(cloud) == pytest.approx(0.6 * CONTENT, rel=0.01)
    assert whole(cloud).confidence.min() >= np.percentile(scene.confidence[scene.mask], 40)


def test_equal_confidences_keep_every_point(scene: Scene) -> None:
    flat = dataclasses.replace(scene, confidence=np.ones_like(scene.confidence))
    assert len(select_points(flat, PointOptions(confidence=90))) == CONTENT


def test_a_users_mask_and_a_subset_of_pictures_are_kept_to(scene: Scene) -> None:
    keep = np.ones_like(scene.keep)
    keep[:, :, :48] = False
    cloud = select_points(dataclasses.replace(scene, keep=keep), EVERYTHING)
    assert network_pixels(cloud)[:, 1].min() == 48
    assert select_points(scene, PointOptions(confidence=0, frames="1")).counts[0] == 0
    with pytest.raises(InvalidOption, match="picture 2; the last is 1"):
        select_points(scene, PointOptions(frames="0,2"))


def test_black_and_white_pixels_are_left_out_when_asked(scene: Scene) -> None:
    colors = np.full_like(scene.colors, 128)
    colors[:, :, :10], colors[:, :, 80:] = 3, 250
    painted = dataclasses.replace(scene, colors=colors)
    options = PointOptions(confidence=0, mask_black=True, mask_white=True)
    columns = network_pixels(select_points(painted, options))[:, 1]
    assert (columns.min(), columns.max()) == (10, 79)


def test_depth_edges_are_where_depth_jumps() -> None:
    depth = np.ones((1, 4, 6), np.float32)
    depth[:, :, 3:] = 2
    np.testing.assert_array_equal(
        depth_edges(depth, 0.5)[0], [[False, False, True, True, False, False]] * 4
    )
    assert not depth_edges(depth, 1.5).any()
    np.testing.assert_array_equal(
        depth_edges(depth.transpose(0, 2, 1), 0.5)[0].T, depth_edges(depth, 0.5)[0]
    )


def test_a_smooth_blue_top_is_sky_and_blue_below_a_wall_is_not() -> None:
    picture = np.full((30, 20, 3), (90, 80, 70), np.uint8)
    picture[:10] = (110, 150, 220)
    picture[20:] = (110, 150, 220)
    sky = looks_like_sky(picture, np.ones((30, 20), bool))
    assert sky[:10].all()
    assert not sky[10:].any()


def test_padding_above_does_not_hide_the_sky() -> None:
    picture = np.full((30, 20, 3), (110, 150, 220), np.uint8)
    mask = np.ones((30, 20), bool)
    picture[:5], mask[:5] = 0, False
    sky = looks_like_sky(picture, mask)
    assert not sky[:5].any()
    assert sky[6:].all()


def test_a_voxel_keeps_its_most_confident_point(scene: Scene) -> None:
    everything, thinned = (
        select_points(scene, EVERYTHING),
        select_points(scene, PointOptions(confidence=0, voxel_size=0.2)),
    )
    assert 10 < len(thinned) < len(everything) / 5

    def best(cloud: Cloud) -> dict[tuple, float]:
        found: dict[tuple, float] = {}
        together = whole(cloud)
        cells = np.floor(together.points.astype(float) / 0.2).tolist()
        for cell, confidence in zip(cells, together.confidence, strict=True):
            found[tuple(cell)] = max(found.get(tuple(cell), 0), confidence)
        return found

    assert best(everything) == best(thinned)
    assert len(best(thinned)) == len(thinned)


@pytest.mark.parametrize("size", [1e-300, 1e-9, 1e9])
def test_absurd_voxels_do_no_harm(scene: Scene, size: float) -> None:
    assert 1 <= len(select_points(scene, PointOptions(confidence=0, voxel_size=size))) <= CONTENT


def test_a_sample_is_the_same_every_time(scene: Scene) -> None:
    first, second = (select_points(scene, PointOptions(max_points=50)) for _ in range(2))
    assert len(first) == 50
    np.testing.assert_array_equal(whole(first).points, whole(second).points)


def test_points_are_sampled_of_more_than_the_generator_can_draw_from() -> None:
    counts = [600_000_000, 0, 300_000_000, 200_000_001]
    shares = points._shares(np.random.default_rng(0), counts, 1_000_001)
    assert shares.sum() == 1_000_001
    np.testing.assert_allclose(shares, np.array(counts) / sum(counts) * 1_000_001, atol=1)


def test_a_cloud_whose_size_nobody_asks_for_is_bounded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MOST_POINTS", 100)
    assert len(select_points(scene, EVERYTHING)) == 100
    assert len(select_points(scene, PointOptions(confidence=0, max_points=300))) == 300


def test_how_many_pictures_are_compared_at_a_time_changes_no_voxel(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PointOptions(confidence=0, voxel_size=0.2)
    together = select_points(scene, options)
    monkeypatch.setattr(points, "_MERGED", 0)
    for a, b in zip(together.bits, select_points(scene, options).bits, strict=True):
        np.testing.assert_array_equal(a, b)
