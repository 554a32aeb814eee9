from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenes.readers.depth_map import read_float16_png, read_millimetres, read_npy, read_pfm


def save_png(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def test_millimetres_become_metres_and_what_no_sensor_measures_becomes_zero(tmp_path: Path) -> None:
    path = save_png(
        tmp_path / "d.png",
        np.array([[0, 1, 2, 1500], [10_000, 10_001, 65_535, 40_000]], dtype=np.uint16),
    )
    np.testing.assert_allclose(
        read_millimetres(path), [[0, 0, 0.002, 1.5], [10, 0, 0, 0]], rtol=1e-6
    )


def test_sixteen_bits_are_read_as_half_precision_numbers_beyond_the_signed_range_too(
    tmp_path: Path,
) -> None:
    values = np.array([[0.5, 3.25, -2.0], [np.inf, np.nan, 1000.0]], dtype=np.float16)
    path = save_png(tmp_path / "d.png", values.view(np.uint16))
    np.testing.assert_array_equal(read_float16_png(path), [[0.5, 3.25, -2.0], [0, 0, 1000.0]])


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_portable_float_map_is_turned_the_right_way_up(tmp_path: Path, order: str) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "d.pfm"
    header = f"Pf\n3 2\n{'-' if order == '<' else ''}1.0\n".encode()
    path.write_bytes(header + values[::-1].astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(read_pfm(path), values)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"Pf\n3 2\n-1.0\n1234", "found b'Pf' and 4 bytes"),
        (b"PF\n1 1\n-1.0\n1234", "found b'PF'"),
        (b"\x89PNG\r\n\x1a\n", "not a portable float map"),
    ],
)
def test_a_damaged_float_map_is_refused_by_name(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "broken.pfm"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"broken\.pfm.*{sentence}"):
        read_pfm(path)


def test_an_eight_bit_picture_is_no_depth_map(tmp_path: Path) -> None:
    path = save_png(tmp_path / "grey.png", np.zeros((2, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"grey\.png.*mode 'L'; expected a 16-bit"):
        read_millimetres(path)


def test_an_array_of_another_shape_is_no_depth_map(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 2, 1)))
    with pytest.raises(
        ValueError, match=r"expected one depth map \[h, w\] of numbers, found \(2, 2, 1\)"
    ):
        read_npy(tmp_path / "d.npy")
    with pytest.raises(ValueError, match=r"none\.npy: no such depth map"):
        read_npy(tmp_path / "none.npy")
