from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.errors import NotFound, ResultDamaged, StorageFull
from service.result.scene import Scene
from service.storage import arrays
from service.storage import folder as folder_module
from service.storage.folder import Known, Storage, StorageInUseError

ID = "0" * 32


def save(storage: Storage, scene: Scene, id: str = ID) -> None:
    maps = {
        name: getattr(scene, name) for name in ("depth", "confidence", "colors", "mask", "keep")
    }

    def write(folder: Path) -> bytes:
        arrays.write(folder, maps | dict(scene.tracks))
        return scene.document.model_dump_json().encode()

    storage.save(id, write)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path)
    yield storage
    storage.close()


def test_what_is_saved_is_read_back(storage: Storage, scene: Scene) -> None:
    save(storage, scene)
    assert storage.result(ID) == scene.document
    found = storage.scene(ID)
    np.testing.assert_array_equal(found.depth, scene.depth)
    assert set(found.tracks) == set(scene.tracks)


def test_results_of_older_versions_are_read(storage: Storage, scene: Scene) -> None:
    save(storage, scene)
    folder = storage.root / "results" / ID
    (folder / arrays.FILE).unlink()
    for name in ("depth", "confidence", "colors", "mask", "keep"):
        np.save(folder / f"{name}.npy", getattr(scene, name))
    for name, track in scene.tracks.items():
        np.save(folder / f"{name}.npy", track)
    found = storage.scene(ID)
    np.testing.assert_array_equal(found.colors, scene.colors)
    assert set(found.tracks) == set(scene.tracks)


@pytest.mark.parametrize(
    "id",
    ["", ".", "..", "../x", "/etc/passwd", f"{ID}\n", f"{ID}-0", f"{ID}-x", "Z" * 32, "1" * 32],
)
def test_an_id_that_is_none_never_becomes_a_path(storage: Storage, id: str) -> None:
    for look in (storage.result, storage.scene):
        with pytest.raises(NotFound):
            look(id)
    with pytest.raises(NotFound):
        storage.export(id, "points.ply", lambda path: None)


def test_a_file_is_made_once_however_many_ask_at_the_same_time(
    storage: Storage, scene: Scene
) -> None:
    save(storage, scene)
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_bytes(b"content")

    threads = [threading.Thread(target=lambda: storage.export(ID, "a.bin", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    export = storage.export(ID, "a.bin", make)
    assert (export.bytes, export.sha256[:8]) == (7, "ed7002b4")


def test_a_file_whose_making_fails_is_not_there(storage: Storage, scene: Scene) -> None:
    save(storage, scene)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyError

    with pytest.raises(KeyError):
        storage.export(ID, "a.bin", fail)
    assert list((storage.root / "results" / ID / "exports").iterdir()) == []


def test_a_result_that_goes_while_a_file_is_made_of_it_is_gone(
    storage: Storage, scene: Scene
) -> None:
    save(storage, scene)

    def interrupted(path: Path) -> None:
        path.write_bytes(b"content")
        storage.remove(ID)

    with pytest.raises(NotFound):
        storage.export(ID, "a.bin", interrupted)


def test_a_full_disk_is_a_problem_and_leaves_nothing(storage: Storage, scene: Scene) -> None:
    save(storage, scene)

    def full(path: Path) -> None:
        if path.is_dir():
            (path / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for act in (lambda: storage.accept("1" * 32, full), lambda: storage.export(ID, "a.bin", full)):
        with pytest.raises(StorageFull, match="nothing was kept"):
            act()
    assert list((storage.root / "incoming").iterdir()) == []
    assert storage.result(ID) == scene.document


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_truly_full_device_is_recognised(storage: Storage) -> None:
    def write(path: Path) -> None:
        with Path("/dev/full").open("wb") as device:
            np.save(device, np.zeros(100_000))

    with pytest.raises(StorageFull):
        storage.accept("1" * 32, write)


def test_the_reserve_is_kept_free(tmp_path: Path, scene: Scene) -> None:
    storage = Storage(tmp_path, min_free_bytes=2**60)
    for act in (
        storage.check_room,
        lambda: storage.accept(ID, lambda path: None),
        lambda: save(storage, scene),
    ):
        with pytest.raises(StorageFull) as caught:
            act()
        assert caught.value.retry_after
    storage.close()


def test_what_no_job_stands_for_is_swept_away(tmp_path: Path, scene: Scene) -> None:
    storage = Storage(tmp_path)
    (tmp_path / "notes").mkdir()
    kept, stray, lost = "a" * 32, "b" * 32, "c" * 32
    save(storage, scene, kept)
    save(storage, scene, stray)
    (tmp_path / "results" / "d.partial").mkdir()
    (tmp_path / "results" / kept / "exports").mkdir()
    (tmp_path / "results" / kept / "exports" / "x.ply.partial").write_bytes(b"half")
    storage.accept("e" * 32, lambda path: None)
    storage.accept("f" * 32, lambda path: None)
    assert storage.sweep(lambda: Known({"e" * 32}, {kept, lost})) == {lost}
    assert {path.name for path in (tmp_path / "results").iterdir()} == {kept}
    assert {path.name for path in (tmp_path / "incoming").iterdir()} == {"e" * 32}
    assert list((tmp_path / "results" / kept / "exports").iterdir()) == []
    assert (tmp_path / "notes").exists()
    storage.close()


def test_a_save_that_fails_leaves_nothing(storage: Storage) -> None:
    def write(folder: Path) -> bytes:
        (folder / "half").write_bytes(b"1")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        storage.save(ID, write)
    assert list((storage.root / "results").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files can't be named here")
def test_a_result_is_on_the_disk_before_it_appears_and_nothing_is_synced_twice(
    storage: Storage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda file: events.append(os.readlink(f"/proc/self/fd/{file}"))
    )
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (events.append("rename"), rename(path, to))[1]
    )
    save(storage, scene)
    at = events.index("rename")
    results, partial = storage.root / "results", storage.root / "results" / f"{ID}.partial"
    written = [partial / path.relative_to(results / ID) for path in (results / ID).rglob("*")]
    assert len(written) == 2  # the arrays and the document
    assert sorted(events[:at]) == sorted(map(str, (*written, partial)))
    assert events[at:] == ["rename", str(results)]


def test_one_folder_serves_one_process(storage: Storage) -> None:
    with pytest.raises(StorageInUseError, match="another service"):
        Storage(storage.root)


def test_a_temporary_folder_goes_with_the_service(scene: Scene) -> None:
    storage = Storage(None)
    save(storage, scene)
    storage.close()
    assert not storage.root.exists()


def test_a_result_that_goes_while_a_file_is_made_is_gone_whatever_the_writer_says(
    storage: Storage, scene: Scene
) -> None:
    save(storage, scene)

    def interrupted(path: Path) -> None:
        storage.remove(ID)
        raise RuntimeError(f"cannot open {path}")  # as OpenEXR tells it

    with pytest.raises(NotFound):
        storage.export(ID, "a.exr", interrupted)
    assert list((storage.root / "results").iterdir()) == []


def test_what_could_not_be_removed_at_once_is_out_of_sight_and_goes_later(
    storage: Storage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(storage, scene)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)  # files are in use
    storage.remove(ID)
    with pytest.raises(NotFound):
        storage.result(ID)
    with pytest.raises(NotFound):
        storage.export(ID, "a.ply", lambda path: None)
    monkeypatch.undo()
    assert len(list((storage.root / "results").iterdir())) == 1
    storage.sweep_removed()
    assert list((storage.root / "results").iterdir()) == []


def test_a_made_file_that_was_changed_on_disk_is_made_again(
    storage: Storage, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    save(storage, scene)
    first = storage.export(ID, "a.ply", lambda path: path.write_bytes(b"right"))
    first.path.write_bytes(b"wrong")
    again = storage.export(ID, "a.ply", lambda path: path.write_bytes(b"right"))
    assert again.path.read_bytes() == b"right"
    assert again.sha256 == first.sha256
    assert "was changed on disk" in caplog.text
    os.utime(first.path, (1, 1))  # only looked at anew: the content is the same
    assert storage.export(ID, "a.ply", lambda path: path.write_bytes(b"never")).bytes == 5


@pytest.mark.parametrize("file", ["result.json", "arrays.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_result_that_is_cut_off_is_said_to_be_damaged(
    storage: Storage, scene: Scene, file: str, share: float
) -> None:
    save(storage, scene)
    path = storage.root / "results" / ID / file
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(ResultDamaged):
        storage.scene(ID)


def test_a_result_without_its_document_is_damaged_too(storage: Storage, scene: Scene) -> None:
    save(storage, scene)
    (storage.root / "results" / ID / "result.json").unlink()
    with pytest.raises(ResultDamaged):
        storage.result(ID)


@pytest.mark.parametrize(
    "error",
    [
        OSError("90000 requested and 76768 written"),  # NumPy
        RuntimeError('Failed to write pixel data to image file "a". No space left on device.'),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_recognised_in_the_words_of_every_library(
    storage: Storage, scene: Scene, error: Exception
) -> None:
    save(storage, scene)

    def full(path: Path) -> None:
        raise error

    for act in (lambda: storage.accept("1" * 32, full), lambda: storage.export(ID, "a", full)):
        with pytest.raises(StorageFull, match="nothing was kept"):
            act()


def test_many_files_made_at_once_drop_the_oldest_undisturbed(
    storage: Storage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_EXPORTS_KEPT", 20)
    save(storage, scene)

    def make_some(thread: int) -> None:
        for number in range(60):
            storage.export(ID, f"{thread}-{number}", lambda path: path.write_bytes(b"x") and None)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make_some, range(4)))
    kept = list((storage.root / "results" / ID / "exports").glob("*.sha256"))
    assert len(kept) == 20
