from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from service.problems import NotFound
from service.storage import Storage, new_id


def save(storage: Storage, age: int = 0) -> str:
    id = new_id()
    storage.save(id, {"depth": np.arange(3)}, b"{}")
    if age:
        os.utime(storage.root / id / "result.json", (1000 - age, 1000 - age))
    return id


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    storage = Storage(tmp_path, keep=2)
    id = save(storage)
    assert storage.result(id) == b"{}"
    np.testing.assert_array_equal(storage.array(id, "depth"), np.arange(3))


@pytest.mark.parametrize("id", ["", ".", "..", "../x", "/etc/passwd", "0" * 32 + "\n", "Z" * 32])
def test_an_id_that_is_none_never_becomes_a_path(tmp_path: Path, id: str) -> None:
    with pytest.raises(NotFound):
        Storage(tmp_path, keep=2).result(id)


def test_the_oldest_are_removed_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    storage = Storage(tmp_path, keep=2)
    oldest, middle = save(storage, age=30), save(storage, age=20)
    newest = save(storage)
    assert {path.name for path in tmp_path.iterdir()} == {"notes", middle, newest}
    with pytest.raises(NotFound):
        storage.array(oldest, "depth")


def test_results_outlive_a_restart_and_halves_do_not(tmp_path: Path) -> None:
    id = save(Storage(tmp_path, keep=2))
    half = tmp_path / new_id()
    half.mkdir()
    (half / "depth.npy").write_bytes(b"x")
    assert Storage(tmp_path, keep=2).result(id) == b"{}"
    assert not half.exists()


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path, keep=2)
    with pytest.raises(ValueError, match="Object arrays"):
        storage.save(new_id(), {"depth": np.array([None])}, b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_goes_with_the_service() -> None:
    storage = Storage(None, keep=2)
    save(storage)
    storage.close()
    assert not storage.root.exists()


def test_saving_from_several_threads_keeps_the_bound(tmp_path: Path) -> None:
    storage = Storage(tmp_path, keep=3)
    threads = [threading.Thread(target=lambda: [save(storage) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 3
