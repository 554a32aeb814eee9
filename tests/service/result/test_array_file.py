from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from service.result.array_file import ArrayFile, map_arrays, write_arrays


def test_rows_that_are_written_one_by_one_are_read_as_one_array(tmp_path: Path) -> None:
    path, values = tmp_path / "a", np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    with ArrayFile(path, {"depth": (np.float32, (5, 2, 3)), "seen": (np.bool_, (5,))}) as file:
        file.write("depth", values[2:], first=2)
        file.write("depth", values[:2])
        file.write("seen", np.ones(3, bool), first=1)
    arrays, metadata = map_arrays(path)
    np.testing.assert_array_equal(arrays["depth"][:4], values)
    assert not arrays["depth"][4].any()
    assert arrays["seen"].tolist() == [False, True, True, True, False]
    assert metadata == {}


def test_the_library_of_the_format_reads_it(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.ones((2, 0)), "c": np.eye(3)}
    write_arrays(tmp_path / "a", arrays, {"note": "ü"})
    with safe_open(tmp_path / "a", "numpy") as file:
        assert file.metadata() == {"note": "ü"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    assert map_arrays(tmp_path / "a")[1] == {"note": "ü"}


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (np.zeros((2, 3)), 0),
        (np.zeros((2, 2), np.float32), 0),
        (np.zeros((2, 3), np.float32), 3),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, values: np.ndarray, first: int) -> None:
    with (
        ArrayFile(tmp_path / "a", {"depth": (np.float32, (4, 3))}) as file,
        pytest.raises(ValueError, match="depth has float32"),
    ):
        file.write("depth", values, first)
