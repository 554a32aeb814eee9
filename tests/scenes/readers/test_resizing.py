from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.preprocess import preprocess_images
from model.scene.preprocess import ImageTransform
from scenes.readers.resizing import (
    check_principal_point,
    check_shape,
    resize_depth,
    resize_intrinsic,
    upright_size,
)

INTRINSIC = np.array([[50.0, 0, 30], [0, 52.0, 20], [0, 0, 1]])


def transform(width: int, height: int) -> ImageTransform:
    return preprocess_images([Image.new("RGB", (width, height))], "fit", 24, 12).transforms[0]


def test_a_world_point_lands_on_the_same_spot_of_the_resized_picture() -> None:
    to_grid = transform(60, 40)
    resized = resize_intrinsic(INTRINSIC, (40, 60), (40, 60), to_grid).numpy()
    point = np.array([0.2, -0.1, 1.0])
    before, after = INTRINSIC @ point, resized @ point
    (sx, sy), (ox, oy) = to_grid.scale, to_grid.offset
    np.testing.assert_allclose(after[:2], [sx * before[0] + ox, sy * before[1] + oy])
    assert to_grid.network_size == (12, 24)
    np.testing.assert_allclose(resized[:2, 2], [12, 20 * 12 / 40])


def test_an_intrinsic_follows_a_picture_that_is_stored_at_half_the_size() -> None:
    half = resize_intrinsic(INTRINSIC, (40, 60), (20, 30), transform(30, 20))
    full = resize_intrinsic(INTRINSIC, (40, 60), (40, 60), transform(60, 40))
    torch.testing.assert_close(half, full)


def test_depth_is_taken_under_the_centre_of_each_pixel_and_never_mixed() -> None:
    depth = np.arange(40 * 60, dtype=np.float32).reshape(40, 60) + 1
    resized = resize_depth(depth, (40, 60), transform(60, 40))
    assert resized.shape == (12, 24)
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in ((12, 40), (24, 60)))
    np.testing.assert_array_equal(resized, depth[np.ix_(rows.astype(int), columns.astype(int))])


def test_depth_of_a_lower_resolution_than_its_picture_is_enlarged() -> None:
    depth = np.arange(2 * 3, dtype=np.float32).reshape(2, 3) + 1
    resized = resize_depth(depth, (40, 60), transform(60, 40))
    np.testing.assert_array_equal(resized, np.kron(depth, np.ones((6, 8), dtype=np.float32)))


def test_padding_and_what_was_not_measured_are_zero() -> None:
    padded = preprocess_images(
        [Image.new("RGB", (48, 24)), Image.new("RGB", (24, 24))], "fit", 24, 12
    ).transforms[0]
    depth = np.full((24, 48), 2.0, dtype=np.float32)
    depth[0:4, 0:4] = [np.nan, np.inf, -1.0, 0.0]
    resized = resize_depth(depth, (24, 48), padded)
    assert resized.shape == (24, 24)
    assert (resized[:6] == 0).all()
    assert (resized[18:] == 0).all()
    assert (resized[6:8, :2] == 0).all()
    assert (resized[6:18, 2:] == 2).all()


def test_a_picture_that_exif_would_turn_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "upright.jpg")
    assert upright_size(tmp_path / "upright.jpg") == (20, 30)
    with pytest.raises(ValueError, match=r"turned\.jpg: EXIF orientation 6"):
        upright_size(tmp_path / "turned.jpg")


def test_a_missing_or_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none\.jpg: no such picture"):
        upright_size(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match=r"broken\.jpg: this picture cannot be decoded"):
        upright_size(tmp_path / "broken.jpg")


def test_shapes_may_differ_by_rounding_only() -> None:
    check_shape("a.png", (333, 500), (1365, 2048))
    with pytest.raises(ValueError, match=r"a\.png is 480x640 pixels; expected 640x480"):
        check_shape("a.png", (640, 480), (480, 640))


def test_a_camera_made_for_another_resolution_is_refused() -> None:
    check_principal_point(Path("a.png"), INTRINSIC, (40, 60))
    with pytest.raises(ValueError, match="made for another resolution"):
        check_principal_point(Path("a.png"), INTRINSIC, (160, 240))
