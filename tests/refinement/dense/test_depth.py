from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refinement.dense import dense_depth
from refinement.dense.library import built_if_possible
from refinement.options import RefineOptions
from refinement.result import NETWORK, NO_DATA, VERIFIED, DenseMap
from tests.refinement.dense.surfaces import Taken, plane, step, take, texture

OPTIONS = RefineOptions(threads=1)
SIDE_BY_SIDE = ((-0.3, 0, 0), (0.3, 0, 0), (0, -0.3, 0), (0, 0.3, 0.1))


def _maps(taken: Taken, options: RefineOptions = OPTIONS, nothing: bool = True) -> list[DenseMap]:
    """With no depth of the network, so that what is not verified is not there."""
    networks = [
        np.full_like(depth, np.nan) if nothing else depth**1.1 * 2 for depth in taken.depths
    ]
    return list(
        dense_depth(
            taken.photographs, taken.pictures, taken.sparse, networks, options, built_if_possible()
        )
    )


def _errors(taken: Taken, maps: list[DenseMap]) -> tuple[float, np.ndarray]:
    """The share of pixels that are verified, and their relative errors."""
    verified = np.concatenate([(m.source == VERIFIED).ravel() for m in maps])
    depth = np.concatenate([m.depth.ravel() for m in maps])[verified]
    truth = np.concatenate([d.ravel() for d in taken.depths])[verified]
    return float(verified.mean()), np.abs(depth / truth - 1)


@pytest.mark.parametrize("distortion", [0.0, -0.15, 0.1])
def test_a_slanted_plane_is_recovered_through_any_lens(tmp_path: Path, distortion: float) -> None:
    taken = take(tmp_path, plane((0.6, 0.2, 1.0), 3.0), SIDE_BY_SIDE, distortion=distortion)
    share, errors = _errors(taken, _maps(taken))
    assert share > 0.7
    # a pixel between two of these pictures is 3 to 5 % of depth
    assert np.median(errors) < 0.003
    assert np.quantile(errors, 0.95) < 0.01


def test_ignoring_the_distortion_would_show(tmp_path: Path) -> None:
    taken = take(tmp_path, plane((0.6, 0.2, 1.0), 3.0), SIDE_BY_SIDE, distortion=-0.15)
    pinhole = replace(
        taken, pictures=[replace(picture, distortion=0.0) for picture in taken.pictures]
    )
    share, errors = _errors(taken, _maps(taken))
    pinhole_share, pinhole_errors = _errors(pinhole, _maps(pinhole))
    assert pinhole_share < share or np.median(pinhole_errors) > 2 * np.median(errors)


def test_a_step_keeps_its_edge_and_what_is_hidden_is_not_verified(tmp_path: Path) -> None:
    near, far = 2.0, 3.0
    taken = take(tmp_path, step(near, far, 0.0), SIDE_BY_SIDE)
    maps = _maps(taken)
    share, errors = _errors(taken, maps)
    assert share > 0.6
    assert np.median(errors) < 0.003
    assert (errors > 0.05).mean() < 0.02
    # the first picture stands left: right of the edge it sees what the others do not
    first = maps[0].source[20:52, 20:76] == VERIFIED
    truth = taken.depths[0][20:52, 20:76]
    assert first[truth < 2.2].mean() > 0.7
    assert first[truth > 2.8].mean() > 0.5


def test_pictures_without_texture_verify_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    taken = take(
        tmp_path,
        plane((0.0, 0.0, 1.0), 3.0),
        SIDE_BY_SIDE,
        shade=lambda points: 0.5 + rng.normal(0, 0.01, points.shape[:-1]),
    )
    share, _ = _errors(taken, _maps(taken))
    assert share < 0.01


def test_what_is_not_verified_is_the_networks_depth_fitted(tmp_path: Path) -> None:
    def half_textured(points: np.ndarray) -> np.ndarray:
        return np.where(points[..., 0] < 0, texture(points), 0.5)

    taken = take(tmp_path, plane((0.6, 0.2, 1.0), 3.0), SIDE_BY_SIDE, shade=half_textured)
    maps = _maps(taken, nothing=False)
    for dense, truth in zip(maps, taken.depths, strict=True):
        assert set(np.unique(dense.source)) == {NETWORK, VERIFIED}
        fitted = dense.source == NETWORK
        assert 0.3 < fitted.mean() < 0.8
        assert np.median(np.abs(dense.depth / truth - 1)[fitted]) < 0.01


def test_the_same_bits_on_any_number_of_threads(tmp_path: Path) -> None:
    taken = take(tmp_path, step(2.0, 3.0, 0.0), SIDE_BY_SIDE)
    one, two = (_maps(taken, RefineOptions(threads=n), nothing=False) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.source, b.source)


def test_a_picture_with_the_networks_camera_keeps_the_networks_depth(tmp_path: Path) -> None:
    taken = take(tmp_path, plane((0.0, 0.0, 1.0), 3.0), SIDE_BY_SIDE)
    taken.pictures[1] = replace(taken.pictures[1], source="network", depth_fit=None)
    taken.pictures[2] = replace(taken.pictures[2], source="network", depth_fit=(0.5, 1.0))
    maps = _maps(taken, nothing=False)
    assert {int(maps[i].source.max()) for i in (1, 2)} == {NETWORK}
    np.testing.assert_allclose(maps[1].depth, taken.depths[1] ** 1.1 * 2, rtol=1e-5)
    np.testing.assert_allclose(maps[2].depth, np.exp(0.5) * taken.depths[2] ** 1.1 * 2, rtol=1e-5)


def test_two_refined_pictures_of_three_verify_each_other(tmp_path: Path) -> None:
    taken = take(tmp_path, plane((0.6, 0.2, 1.0), 3.0), SIDE_BY_SIDE[:3])
    taken.pictures[2] = replace(taken.pictures[2], source="network", depth_fit=None)
    maps = _maps(taken)
    assert all((maps[i].source == VERIFIED).mean() > 0.5 for i in (0, 1))
    assert not (maps[2].source == VERIFIED).any()


def test_without_sparse_points_and_network_there_is_no_data(tmp_path: Path) -> None:
    taken = take(tmp_path, plane((0.0, 0.0, 1.0), 3.0), SIDE_BY_SIDE[:2])
    empty = replace(
        taken.sparse,
        xyz=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error=np.zeros(0),
        start=np.zeros(1, np.int64),
        picture=np.zeros(0, np.int64),
        pixel=np.zeros((0, 2)),
    )
    for dense in _maps(replace(taken, sparse=empty)):
        assert (dense.source == NO_DATA).all()
        assert np.isnan(dense.depth).all()


def test_maps_are_no_larger_than_asked_for_and_no_larger_than_memory(tmp_path: Path) -> None:
    taken = take(tmp_path, plane((0.0, 0.0, 1.0), 3.0), SIDE_BY_SIDE)
    assert _maps(taken, RefineOptions(pixels=64))[0].depth.shape == (48, 64)
    assert max(_maps(taken, RefineOptions(memory_bytes=2_000_000))[0].depth.shape) < 96


def test_progress_rises_to_one(tmp_path: Path) -> None:
    taken = take(tmp_path, plane((0.0, 0.0, 1.0), 3.0), SIDE_BY_SIDE[:2], size=(36, 48), focal=45.0)
    shares: list[float] = []
    dense_depth(
        taken.photographs,
        taken.pictures,
        taken.sparse,
        taken.depths,
        OPTIONS,
        built_if_possible(),
        lambda stage, share: shares.append(share),
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
