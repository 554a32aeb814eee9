from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import ImageError
from model.preprocess import preprocess_images
from model.scene.pictures import open_image
from model.scene.preprocess import MODES

GREY, COLOUR, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 4, 6  # colour types of PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values: NDArray, color: int, **chunks: bytes) -> io.BytesIO:
    """A PNG of 16 bits a channel from values [h, w, channels]; every second row uses the filter
    that stores differences to the left."""
    rows = []
    for y, row in enumerate(values.astype(">u2")):
        line = row.view(np.uint8).reshape(values.shape[1], -1)
        if y % 2:
            line = np.diff(line, axis=0, prepend=np.zeros_like(line[:1]))
        rows.append(bytes([y % 2]) + line.tobytes())
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    body = chunk(b"IHDR", header)
    body += b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    body += chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


def values16(channels: int) -> NDArray[np.uint16]:
    values = np.random.default_rng(channels).integers(0, 65536, (300, 40, channels))
    values[0, :6] = np.array([0, 128, 129, 255, 33023, 65535])[:, None]
    return values.astype(np.uint16)


def rounded(values: NDArray) -> NDArray[np.uint8]:
    return np.round(values / 257).astype(np.uint8)


def read(file: io.BytesIO) -> NDArray[np.uint8]:
    picture = open_image(file)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def saved(picture: Image.Image, format: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file


def test_a_grey_picture_of_16_bits_is_its_values_divided_by_257() -> None:
    values = values16(1)
    np.testing.assert_array_equal(read(png16(values, GREY)), rounded(values).repeat(3, axis=2))
    in_memory = Image.fromarray(values[..., 0])
    np.testing.assert_array_equal(open_image(in_memory), rounded(values).repeat(3, axis=2))


def test_12_bits_in_16_that_are_scaled_as_png_demands_keep_their_brightness() -> None:
    twelve = np.random.default_rng(0).integers(0, 4096, (50, 40, 1))
    values = (twelve << 4) | (twelve >> 8)
    shown = read(png16(values, GREY, sBIT=b"\x0c"))
    np.testing.assert_array_equal(shown, rounded(values).repeat(3, axis=2))
    assert np.abs(shown[..., :1] - twelve / 4095 * 255).max() <= 0.6


def test_colours_of_16_bits_are_rounded_and_not_cut_off() -> None:
    values = values16(3)
    np.testing.assert_array_equal(read(png16(values, COLOUR)), rounded(values))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("color", [GREY_ALPHA, COLOUR_ALPHA])
def test_16_bits_with_alpha_equal_8_bits_with_alpha(color: int, mode: str) -> None:
    values = values16(2 if color == GREY_ALPHA else 4)
    eight = rounded(values)
    if color == GREY_ALPHA:
        eight = np.concatenate([eight[..., :1].repeat(3, axis=2), eight[..., 1:]], axis=2)
    batch = preprocess_images([png16(values, color)], mode, 56, 14)
    expected = preprocess_images([Image.fromarray(eight)], mode, 56, 14)
    assert (batch.images == expected.images).all()


@pytest.mark.parametrize(("color", "channels"), [(GREY, 1), (COLOUR, 3)])
def test_the_one_transparent_value_of_16_bits_is_white(color: int, channels: int) -> None:
    values = np.full((4, 4, channels), 1000, np.uint16)
    values[0], values[1] = 1001, 1256  # of the same 8 bits as the transparent value, but another
    shown = read(png16(values, color, tRNS=struct.pack(f">{channels}H", *[1000] * channels)))
    assert (shown[2:] == 255).all()
    assert (shown[:2] < 10).all()


def half_transparent() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    picture = Image.fromarray(noise).convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (30, 0, 60, 40))
    picture.putalpha(alpha)
    return picture


def test_grey_with_alpha_equals_rgba_over_white() -> None:
    grey = half_transparent().convert("LA")
    assert (read(saved(grey)) == read(saved(grey.convert("RGBA")))).all()
    assert (read(saved(grey))[:, 30:] == 255).all()
    assert (read(saved(grey))[:, :30] != 255).any()


@pytest.mark.parametrize("alphas", [b"\xff\x00", b"\x80\x40\xff"])
def test_a_palette_with_transparency_equals_rgba_over_white(alphas: bytes) -> None:
    """One transparent colour, and an alpha for each colour."""
    indices = np.random.default_rng(0).integers(0, 4, (20, 20), np.uint8)
    palette = Image.fromarray(indices)
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    colours = np.array(palette.convert("RGB"))
    alpha = np.array(list(alphas) + [255] * (4 - len(alphas)), np.uint8)[indices]
    expected = Image.fromarray(np.dstack([colours, alpha]))
    shown = read(saved(palette, transparency=alphas))
    assert (shown == read(saved(expected))).all()
    assert (shown != colours).any()


def test_a_palette_may_count_as_opaque_from_a_file_and_from_memory() -> None:
    palette = Image.fromarray(np.random.default_rng(0).integers(0, 2, (20, 20), np.uint8))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    file = saved(palette, transparency=b"\xff\x00")
    in_memory = Image.open(io.BytesIO(file.getvalue()))
    for source in (file, in_memory):
        opaque = open_image(source, opaque_palettes=True)
        assert (np.asarray(opaque) == np.asarray(palette.convert("RGB"))).all()
    assert "transparency" in in_memory.info


def test_one_transparent_colour_equals_rgba_over_white() -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 4, (20, 20), np.uint8))
    for picture, clear in ((grey, 2), (grey.convert("RGB"), (2, 2, 2))):
        shown = read(saved(picture, transparency=clear))
        assert (shown[np.asarray(grey) == 2] == 255).all()
        assert (shown[np.asarray(grey) != 2] < 4).all()


@pytest.mark.parametrize(("depth", "clear"), [(1, 0), (1, 1), (2, 1), (2, 3), (4, 9)])
def test_a_transparent_grey_of_few_bits_is_white(depth: int, clear: int) -> None:
    values = np.arange(16, dtype=np.uint8)[:, None].repeat(8, axis=1) % 2**depth
    bits = np.unpackbits(values[..., None], axis=-1)[..., -depth:].reshape(16, -1)
    packed = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    data = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 16, depth, GREY, 0, 0, 0))
    data += chunk(b"tRNS", struct.pack(">H", clear)) + chunk(b"IDAT", zlib.compress(packed))
    shown = read(io.BytesIO(b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")))[..., 0]
    expected = values * (255 // (2**depth - 1))
    expected[values == clear] = 255
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_pictures_of_16_bits_are_turned_upright_too(orientation: int) -> None:
    values = values16(3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = exif.tobytes().removeprefix(b"Exif\0\0")
    shown = read(png16(values, COLOUR, eXIf=raw))
    eight = saved(Image.fromarray(rounded(values)), exif=exif)
    np.testing.assert_array_equal(shown, read(eight))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_every_format_is_read(format: str, tmp_path: Path) -> None:
    ramp = np.linspace(20, 230, 64).astype(np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2)
    path = tmp_path / f"a.{format}"
    path.write_bytes(saved(Image.fromarray(ramp), format).getvalue())
    assert np.abs(np.asarray(open_image(path), float) - ramp).max() < 12


@pytest.mark.parametrize("brand", [b"avif", b"mif1", b"msf1"])
def test_avif_is_read_whichever_brand_it_states_first(brand: bytes) -> None:
    ramp = np.linspace(20, 230, 64).astype(np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2)
    content = saved(Image.fromarray(ramp), "AVIF").getvalue()
    shown = open_image(io.BytesIO(content[:8] + brand + content[12:]))
    assert np.abs(np.asarray(shown, float) - ramp).max() < 12


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright_in_every_format(format: str, orientation: int) -> None:
    picture = Image.new("RGB", (64, 48), "black")
    picture.paste("red", (0, 0, 32, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(picture, format, exif=exif.tobytes())
    shown = np.asarray(open_image(file), float)[..., 0]
    height, width = (64, 48) if orientation > 4 else (48, 64)
    assert shown.shape == (height, width)
    quarters = shown.reshape(2, height // 2, 2, width // 2).mean((1, 3))
    # EXIF 2.32, 4.6.4: which corner of what is shown the stored upper left corner is
    corner = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}[orientation]
    assert quarters.argmax() == corner
    assert quarters.max() > 200
    assert np.sort(quarters.ravel())[-2] < 50


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"", b"II", b"no TIFF header", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\xff\xff\xff\xff"]
)
def test_a_good_picture_with_damaged_exif_data_is_taken_as_it_lies(exif: bytes) -> None:
    picture = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    assert read(saved(picture, "JPEG", exif=b"Exif\0\0" + exif)).shape == (2, 3, 3)


def test_a_damaged_picture_is_refused_whatever_its_decoder_raises() -> None:
    content = saved(Image.new("RGB", (64, 48), "red"), "AVIF").getvalue()
    another = content[:8] + b"heic" + content[12:]
    with pytest.raises(ImageError, match="picture 0 cannot be decoded"):
        open_image(io.BytesIO(another))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_without_a_full_range_are_refused(dtype: type) -> None:
    with pytest.raises(ImageError, match="picture 0 cannot be decoded: its values have 32 bits"):
        open_image(Image.fromarray(np.zeros((4, 4), dtype)))
