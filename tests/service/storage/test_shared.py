from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from service.errors import NotFound, ServiceError, StorageFull, StoreUnavailable
from service.exports.catalogue import Catalogue
from service.exports.options import ExportOptions, PointOptions
from service.exports.records import BY_NAME
from service.result.file import MadeFile
from service.result.scene import Scene
from service.storage import shared
from service.storage.bucket import Bucket
from service.storage.folder import Known, found_file
from service.storage.shared import SharedStorage
from tests.service.servers import ObjectServer
from tests.service.storage.test_folder import save

ID, OTHER = "0" * 32, "1" * 32
FIRST, SECOND = f"{ID}-1", f"{ID}-2"

Open = Callable[..., SharedStorage]


@pytest.fixture
def replica(object_store: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the storage of one replica after another: replica(cache_bytes)."""
    opened: list[SharedStorage] = []

    def open(cache_bytes: int = 2**30) -> SharedStorage:
        opened.append(
            SharedStorage(tmp_path / f"cache-{len(opened)}", 0, Bucket(object_store), cache_bytes)
        )
        return opened[-1]

    yield open
    for storage in opened:
        storage.close()


def made(storage: SharedStorage, name: str, options: ExportOptions | None = None) -> MadeFile:
    return Catalogue(storage).files(FIRST).file(BY_NAME[name], options)


def write_input(folder: Path) -> None:
    (folder / "scene.json").write_text("{}")


def objects(storage: SharedStorage) -> set[str]:
    bucket = storage._bucket
    return {
        stored.folder for folder in ("incoming", "results") for stored in bucket.listing(folder)
    }


def test_an_input_is_read_by_whoever_runs_it_and_goes_with_its_job(replica: Open) -> None:
    a, b = replica(), replica()
    a.accept(ID, write_input)
    with b.incoming(ID) as folder:
        assert (folder / "scene.json").read_text() == "{}"
    b.drop_incoming(ID)
    assert objects(a) == set()
    with pytest.raises(ServiceError, match="no longer"), a.incoming(ID):
        pass
    for storage in (a, b):
        assert list((storage.root / "incoming").iterdir()) == []


def test_what_one_keeps_beside_an_input_is_there_for_the_other_and_goes_with_the_job(
    replica: Open, object_server: ObjectServer
) -> None:
    a, b = replica(), replica()
    a.accept(ID, write_input)
    with a.incoming(ID) as folder:
        for name in ("first", "second"):
            (folder / name).write_text(name)
        a.keep(ID, folder / "first")
        object_server.hide()
        try:
            a.keep(ID, folder / "second")  # the work goes on all the same
        finally:
            object_server.show()
    with b.incoming(ID) as folder:
        assert {path.name for path in folder.iterdir()} == {"scene.json", "first"}
        assert (folder / "first").read_text() == "first"
    b.drop_incoming(ID)
    assert objects(a) == set()


def test_points_of_a_finished_chunk_are_found_by_all_until_the_job_has_ended(
    replica: Open,
) -> None:
    a, b = replica(), replica()
    a.accept(ID, write_input)
    with a.incoming(ID) as folder:
        (folder / found_file(0)).write_bytes(b"ply")
        a.keep(ID, folder / found_file(0))
    for storage in (a, b):
        assert storage.found(ID, 0) == b"ply"
        assert storage.found(ID, 1) is None
    b.drop_incoming(ID)
    assert a.found(ID, 0) is None


def test_a_result_that_one_saves_is_the_same_for_the_other_file_by_file(
    replica: Open, scene: Scene
) -> None:
    a, b = replica(), replica()
    save(a, scene, FIRST)
    assert b.result(FIRST) == scene.document
    np.testing.assert_array_equal(b.scene(FIRST).depth, scene.depth)
    assert set(b.scene(FIRST).tracks) == set(scene.tracks)
    manifests = [made(storage, "manifest.json").path.read_bytes() for storage in (a, b)]
    assert manifests[0] == manifests[1]
    archives = [made(storage, "everything.zip") for storage in (a, b)]
    assert archives[0].sha256 == archives[1].sha256
    options = PointOptions(confidence=60, max_points=50)
    clouds = [made(storage, "scene.glb", options) for storage in (a, b)]
    assert clouds[0].sha256 == clouds[1].sha256


def test_attempts_lie_apart_and_one_is_removed_without_the_other(
    replica: Open, scene: Scene
) -> None:
    a, b = replica(), replica()
    save(a, scene, FIRST)
    save(b, scene, SECOND)
    assert objects(a) == {f"results/{ID}/1", f"results/{ID}/2"}
    a.remove(FIRST)
    with pytest.raises(NotFound):
        replica().result(FIRST)
    assert replica().result(SECOND) == scene.document


def test_a_result_without_its_document_is_none(replica: Open, scene: Scene) -> None:
    a = replica()
    save(a, scene, FIRST)
    a._bucket._obstore.delete(a._bucket._store, [f"results/{ID}/1/result.json"])
    with pytest.raises(NotFound):
        replica().scene(FIRST)
    assert replica().root.exists()


def test_what_is_used_least_is_dropped_from_the_disk_and_fetched_again(
    replica: Open, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_FRESH_SECONDS", 0.0)
    writer = replica()
    names = [f"{number}" * 32 + "-1" for number in range(4)]
    for name in names:
        save(writer, scene, name)
    one = writer.size(names[0])
    reader = replica(cache_bytes=int(2.5 * one))
    for name in (*names[:2], names[0], names[2]):
        reader.result(name)
    reader.check_room()
    assert {path.name for path in (reader.root / "results").iterdir()} == {names[0], names[2]}
    assert all(reader.result(name) == scene.document for name in names)


def test_readers_never_miss_what_is_dropped_beside_them(
    replica: Open, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_FRESH_SECONDS", 0.0)
    names = [f"{number}" * 32 + "-1" for number in range(3)]
    writer, reader = replica(), replica(cache_bytes=1)
    for name in names:
        save(writer, scene, name)

    def read(name: str) -> None:
        for _ in range(15):
            np.testing.assert_array_equal(reader.scene(name).depth, scene.depth)
            reader.check_room()

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, names * 2))


def test_what_was_just_used_stays_however_small_the_bound(replica: Open, scene: Scene) -> None:
    storage = replica(cache_bytes=1)
    save(storage, scene, FIRST)
    storage.check_room()
    assert storage.size(FIRST) > 1
    assert made(storage, "cameras.json").path.exists()


def test_a_store_that_is_away_is_a_problem_and_leaves_nothing_half_written(
    replica: Open, scene: Scene, object_server: ObjectServer
) -> None:
    a, b = replica(), replica()
    save(a, scene, FIRST)
    object_server.hide()
    try:
        for act in (
            lambda: a.accept(OTHER, write_input),
            lambda: save(a, scene, SECOND),
            lambda: b.result(FIRST),
        ):
            with pytest.raises(StoreUnavailable):
                act()
        assert a.result(FIRST) == scene.document  # there is a copy
        a.remove(FIRST)
    finally:
        object_server.show()
    assert list((b.root / "results").iterdir()) == list((a.root / "incoming").iterdir()) == []
    with pytest.raises(NotFound):
        b.result(SECOND)


def test_only_what_is_old_and_known_to_no_job_is_swept(
    replica: Open, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_FRESH_SECONDS", 0.0)
    a = replica()
    save(a, scene, FIRST)
    save(a, scene, SECOND)
    for id in (ID, OTHER):
        a.accept(id, write_input)
    everything = objects(a)
    known = Known({ID}, {SECOND})
    assert a.sweep(lambda: known) == set()
    assert objects(a) == everything, "what is new may belong to a job that is about to be recorded"
    assert {path.name for path in (a.root / "results").iterdir()} == {SECOND}, (
        "copies need no such care"
    )
    monkeypatch.setattr(shared, "_STRAY_AGE", timedelta(hours=-1))
    a.sweep(lambda: known)
    assert objects(a) == {f"incoming/{ID}", f"results/{ID}/2"}


def test_sizes_are_those_on_record(replica: Open, scene: Scene) -> None:
    a = replica()
    save(a, scene, FIRST)
    stored = sum(found.bytes for found in a._bucket.listing("results"))
    assert a.size(FIRST) == stored
    made(a, "scene.npz")
    assert a.size(FIRST) == stored, "files made from a result are not in the object store"
    assert replica().sizes({FIRST: stored}) == {FIRST: stored}


def test_copies_of_an_earlier_process_are_not_trusted(
    replica: Open, scene: Scene, object_store: str
) -> None:
    a = replica()
    save(a, scene, FIRST)
    a.close()
    again = SharedStorage(a.root, 0, Bucket(object_store), 2**30)
    assert list((a.root / "results").iterdir()) == []
    assert again.result(FIRST) == scene.document
    again.close()


def test_a_full_disk_is_a_problem_here_too(replica: Open, scene: Scene) -> None:
    a, b = replica(), replica()
    save(a, scene, FIRST)
    b.min_free_bytes = 2**60
    with pytest.raises(StorageFull):
        b.result(FIRST)
