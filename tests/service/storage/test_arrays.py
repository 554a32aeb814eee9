from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.storage.arrays import FILE, mapped, write


def test_arrays_come_back_as_they_were_and_are_mapped(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "mask": random.random((3, 5, 7)) < 0.5,
        "colors": random.integers(0, 256, (3, 5, 7, 3), np.uint8),
        "depth": random.random((3, 5, 7), np.float32),
        "start": random.integers(0, 2**40, 9),
    }
    write(tmp_path, arrays)
    found = mapped(tmp_path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert not found[name].flags.writeable
        assert isinstance(found[name], np.memmap)
        np.testing.assert_array_equal(found[name], array)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_slices_and_transposed_arrays_are_written_by_their_values(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write(tmp_path, {"turned": values.T, "part": values[:, ::2]})
    found = mapped(tmp_path)
    np.testing.assert_array_equal(found["turned"], values.T)
    np.testing.assert_array_equal(found["part"], values[:, ::2])


def test_other_types_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not int16"):
        write(tmp_path, {"depth": np.zeros(3, np.int16)})
    assert list(tmp_path.iterdir()) == []
