from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.errors import ImageError
from model.preprocess import preprocess_images
from model.scene.preprocess import MODES

ORIENTATION = 0x0112
# how a camera held in each of the eight ways stores an upright picture
STORED_AS = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}


def _gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, linearly with the continuous pixel position."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = (255 * (np.arange(width) + 0.5) / width)[None]
    pixels[..., 1] = (255 * (np.arange(height) + 0.5) / height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("orientation", STORED_AS)
def test_a_rotated_file_is_read_upright(orientation: int) -> None:
    upright = _gradient(80, 40)
    stored = upright
    for step in STORED_AS[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    batch = preprocess_images([file], image_size=56)
    expected = preprocess_images([upright], image_size=56)
    assert torch.equal(batch.images, expected.images)
    assert batch.transforms == expected.transforms
    assert batch.transforms[0].original_size == (40, 80)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(200, 100), (100, 200), (150, 150), (333, 217)])
def test_network_pixels_show_the_original_position_that_the_transform_names(
    mode: str, size: tuple[int, int]
) -> None:
    width, height = size
    batch = preprocess_images([_gradient(width, height)], mode, image_size=112)
    transform = batch.transforms[0]
    mask = transform.content_mask()
    rows, columns = torch.where(mask)
    x = (columns + 0.5 - transform.offset[0]) / transform.scale[0]
    y = (rows + 0.5 - transform.offset[1]) / transform.scale[1]
    red, green = batch.images[0, 0][mask], batch.images[0, 1][mask]
    # half an 8-bit step twice, and the resize's own error at the border
    inside = (x > 4) & (x < width - 4) & (y > 4) & (y < height - 4)
    assert (red - x / width).abs()[inside].max() < 0.012
    assert (green - y / height).abs()[inside].max() < 0.012
    outside = batch.images[0][:, ~mask]
    assert bool((outside == 1).all())


@pytest.mark.parametrize("mode", MODES)
def test_a_map_comes_back_onto_the_original_grid(mode: str) -> None:
    width, height = 120, 260
    batch = preprocess_images([_gradient(width, height)], mode, image_size=112)
    transform = batch.transforms[0]
    x = (torch.arange(batch.images.shape[-1]) + 0.5 - transform.offset[0]) / transform.scale[0]
    restored = transform.map_to_original(x.expand(batch.images.shape[-2:]))
    assert restored.shape == (height, width)
    seen = restored.isfinite()
    expected = (torch.arange(width) + 0.5).expand(height, width)
    error = (restored - expected).abs()[seen & (expected > 3) & (expected < width - 3)]
    assert error.max() < 0.01
    if mode in ("crop", "public"):  # VGGT's public code crops
        assert not seen[:50].any()
        assert not seen[-50:].any()
        assert seen[height // 2].all()
    else:
        assert seen.all()


@pytest.mark.parametrize("mode", MODES)
def test_intrinsics_come_back_to_original_pixels(mode: str) -> None:
    batch = preprocess_images([_gradient(120, 260)], mode, image_size=112)
    transform = batch.transforms[0]
    rows, columns = transform.network_size
    network = torch.tensor([[90.0, 0, columns / 2], [0, 80.0, rows / 2], [0, 0, 1]])
    original = transform.intrinsics_to_original(network)
    # cropping and padding are symmetric
    assert original[0, 2].item() == pytest.approx(60, abs=1e-3)
    assert original[1, 2].item() == pytest.approx(130, abs=1e-3)
    point = torch.tensor([0.2, -0.1, 1.0])
    u, v = (network @ point)[:2]
    x, y = (original @ point)[:2]
    assert u.item() == pytest.approx(transform.scale[0] * x.item() + transform.offset[0], abs=1e-3)
    assert v.item() == pytest.approx(transform.scale[1] * y.item() + transform.offset[1], abs=1e-3)


def test_fit_keeps_the_whole_portrait() -> None:
    batch = preprocess_images([_gradient(540, 960)], "fit")
    assert batch.images.shape[-2:] == (518, 294)


def test_fit_equals_crop_for_a_landscape() -> None:
    picture = _gradient(960, 540)
    assert torch.equal(
        preprocess_images([picture], "fit").images, preprocess_images([picture], "crop").images
    )


def test_mixed_sizes_share_one_grid_and_keep_their_own_transforms() -> None:
    batch = preprocess_images([_gradient(100, 50), _gradient(50, 100)], image_size=112)
    assert batch.images.shape == (2, 3, 112, 112)
    assert [t.original_size for t in batch.transforms] == [(50, 100), (100, 50)]
    assert batch.transforms[0].offset == (0, 28)
    assert batch.transforms[1].offset == (28, 0)


def test_transparent_pixels_are_white() -> None:
    batch = preprocess_images([Image.new("RGBA", (60, 60), (0, 0, 0, 0))], image_size=56)
    assert bool((batch.images == 1).all())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1000, 10), (10, 1000)])
def test_a_ribbon_is_refused_with_its_position(mode: str, size: tuple[int, int]) -> None:
    with pytest.raises(
        ImageError, match=r"picture 1 is \d+x\d+ pixels: too long and thin"
    ) as caught:
        preprocess_images([_gradient(50, 50), Image.new("RGB", size)], mode)
    assert caught.value.index == 1


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ImageError, match="no pictures were given"):
        preprocess_images([])


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of fit, crop, pad"):
        preprocess_images([_gradient(10, 10)], mode="stretch")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        preprocess_images([tmp_path / "nothing.png"])


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n truncated"])
def test_bytes_that_are_no_picture_are_refused(content: bytes) -> None:
    with pytest.raises(ImageError, match="picture 0"):
        preprocess_images([io.BytesIO(content)])


def test_a_truncated_picture_is_refused() -> None:
    file = io.BytesIO()
    _gradient(200, 200).save(file, "JPEG")
    with pytest.raises(ImageError, match="cannot be decoded"):
        preprocess_images([io.BytesIO(file.getvalue()[:-1500])])


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = io.BytesIO()
    Image.new("RGB", (15, 10)).save(file, "PNG")
    with pytest.raises(ImageError, match="too many pixels"):
        preprocess_images([file])


def test_padding_is_never_blended_into_a_restored_map() -> None:
    transform = preprocess_images(
        [_gradient(100, 50), _gradient(50, 100)], image_size=112
    ).transforms[0]
    values = torch.where(transform.content_mask(), 1.0, 99.0)
    restored = transform.map_to_original(values)
    torch.testing.assert_close(restored, torch.ones(50, 100))


@pytest.mark.parametrize("mode", MODES)
def test_a_place_goes_to_the_network_and_back(mode: str) -> None:
    pictures = [Image.new("RGB", size) for size in ((120, 90), (90, 240), (48, 48))]
    for transform in preprocess_images(pictures, mode, 96, 12).transforms:
        height, width = transform.original_size
        places = torch.tensor(
            [[0.0, 0.0], [width / 2, height / 2], [width, height]], dtype=torch.float64
        )
        torch.testing.assert_close(transform.to_original(transform.to_network(places)), places)
        assert transform.sees(places[1])


def test_the_network_counts_the_centres_of_pixels_from_0() -> None:
    (transform,) = preprocess_images([Image.new("RGB", (96, 96))], "fit", 96, 12).transforms
    assert transform.to_network(torch.tensor([0.5, 95.5])).tolist() == [0, 95]


def test_the_network_sees_what_its_mode_keeps() -> None:
    tall = [Image.new("RGB", (90, 240))]
    top = torch.tensor([[45.0, 1.0], [45.0, 120.0]])
    assert preprocess_images(tall, "crop", 96, 12).transforms[0].sees(top).tolist() == [False, True]
    assert preprocess_images(tall, "pad", 96, 12).transforms[0].sees(top).tolist() == [True, True]
