from __future__ import annotations

import time
from pathlib import Path

import pytest

from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.retention import Retention, _surplus
from service.jobs.store import JobStore
from service.settings import StorageSettings
from service.storage.folder import Storage
from tests.service.jobs.test_store import job
from tests.service.pictures import encode, form, make_picture
from tests.service.running import PATIENCE, Gate, Serve, wait_until

EXIF_ORIENTATION = 0x0112


def test_only_the_newest_reconstructions_are_kept(serve: Serve) -> None:
    service = serve(keep=2)
    ids = [
        service.client.post("/reconstruct", files=form(encode(make_picture(seed=i)))).json()["id"]
        for i in range(3)
    ]
    # after the last one's end is told
    wait_until(lambda: len(list((service.data_dir / "results").iterdir())) == 2)
    assert [service.client.get(f"/reconstructions/{id}").status_code for id in ids] == [
        404,
        200,
        200,
    ]


@pytest.mark.parametrize(("bounds", "allowed"), [({"keep": 3}, 3), ({"keep_bytes": 250}, 2)])
def test_what_is_kept_is_looked_through_only_once_it_may_be_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int], allowed: int
) -> None:
    storage = Storage(tmp_path)
    store = JobStore(Database(storage.database), Bounds(10, 1e9))
    retention = Retention(store, storage, StorageSettings(**bounds))
    retention.recover()
    looks = []
    monkeypatch.setattr(store, "ended", lambda: looks.append(1) or [])
    for number in range(1, allowed + 2):
        retention.added(100)
        assert len(looks) == int(number > allowed)
    retention.added(100)
    assert len(looks) == 1, "it begins to count again after it has looked"
    store.close()
    storage.close()


@pytest.mark.parametrize("jump", [-365 * 24 * 3600.0, 365 * 24 * 3600.0])
def test_a_clock_that_jumps_removes_no_result_and_ends_no_job(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    service = serve(Gate, keep_hours=1, job_timeout=60)
    gate = service.engine

    def post(seed: int) -> str:
        files = form(encode(make_picture(seed=seed)))
        answer = service.client.post(
            "/reconstruct", files=files, headers={"Prefer": "respond-async"}
        )
        assert answer.status_code == 202
        return str(answer.json()["id"])

    gate.opened.set()
    before = post(1)
    service.wait_for_state(before, "succeeded")
    gate.opened.clear()
    gate.entered.clear()
    running, waiting = post(2), post(3)
    assert gate.entered.wait(PATIENCE)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + jump)
    after = post(4)
    gate.opened.set()
    for id in (running, waiting, after):
        service.wait_for_state(id, "succeeded")
    service.application._retention.tidy()
    for id in (before, running, waiting, after):
        assert service.client.get(f"/reconstructions/{id}/points.ply").status_code == 200


def test_who_has_most_gives_up_the_oldest_and_nobody_loses_a_result_to_another() -> None:
    owners = ["b", "a", "a", "a", "a", "a", "b"]  # from the oldest to the newest
    results = [job(client=client) for client in owners]
    sizes = {result.result: 10 for result in results}
    assert _surplus(results, sizes, keep=4, keep_bytes=1000) == results[1:4]
    sizes[results[6].result] = 500  # the newest, which stays however large
    assert _surplus(results, sizes, keep=100, keep_bytes=505) == [results[0], *results[1:6]]
    assert _surplus([], {}, 1, 1) == []
