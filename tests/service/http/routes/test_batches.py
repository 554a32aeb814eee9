"""Batches over HTTP, of a service that fetches from a server on this machine."""

from __future__ import annotations

import io
import json
import signal
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from service.jobs.batches import BatchStore
from service.keys import Quota, add_key
from tests.service.inputs.remote.origin import Origin, plain
from tests.service.inputs.test_archive import archive
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Gate, Running, Serve, problem, wait_until
from tests.service.stress.conftest import Start, start

__all__ = ["start"]  # a fixture

PICTURES = [encode(make_picture(seed=seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def origin(certificates: trustme.CA) -> Iterator[Origin]:
    origin = Origin(certificates)
    origin.answers |= {f"/{i}.png": plain(picture) for i, picture in enumerate(PICTURES)}
    entries = [(f"{i}.png", picture) for i, picture in enumerate(PICTURES[:2])]
    origin.answers["/hall.zip"] = plain(archive(*entries).file.read())
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def service(serve: Serve, origin: Origin) -> Running:
    return serve(fetch_urls=True, fetch_hosts=origin.url(""))


def created(service: Running, *scenes: dict[str, Any], **table: Any) -> dict[str, Any]:
    answer = service.client.post("/batches", json={"scenes": list(scenes), **table})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == answer.json()["links"]["self"]
    found: dict[str, Any] = answer.json()
    return found


def ended(service: Running, id: str, **options: Any) -> dict[str, Any]:
    """The batch once nothing more happens to it by itself."""
    found: dict[str, Any] = {}

    def is_ended() -> bool:
        nonlocal found
        found = service.client.get(f"/batches/{id}", **options).json()
        return bool(found["ended"])

    wait_until(is_ended, lambda: str(found))
    return found


def states(batch: dict[str, Any]) -> list[str]:
    return [scene["state"] for scene in batch["scenes"]]


def test_scenes_are_fetched_and_reconstructed_and_come_in_one_archive(
    service: Running, origin: Origin
) -> None:
    batch = created(
        service,
        {"name": "kitchen", "urls": [origin.url("/0.png"), origin.url("/1.png")]},
        {"name": "hall", "urls": [origin.url("/hall.zip")], "options": {"confidence": 30}},
        options={"confidence": 60, "mode": "pad"},
    )
    assert batch["progress"] < 1
    done = ended(service, batch["id"])
    assert states(done) == ["succeeded", "succeeded"]
    assert (done["progress"], done["counts"]) == (1.0, {"succeeded": 2})
    kitchen, hall = (service.client.get(scene["link"]).json() for scene in done["scenes"])
    assert [picture["filename"] for picture in kitchen["pictures"]] == ["0.png", "1.png"]
    assert [picture["filename"] for picture in hall["pictures"]] == ["0.png", "1.png"]
    assert (kitchen["options"]["confidence"], hall["options"]["confidence"]) == (60, 30)
    assert kitchen["mode"] == hall["mode"] == "pad"
    answer = service.client.get(done["links"]["archive"])
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as whole:
        assert whole.testzip() is None
        assert json.loads(whole.read("batch.json")) == done
        result = json.loads(whole.read("hall/result.json"))
        assert result["id"] == hall["id"]
        alone = service.client.get(f"{done['scenes'][0]['link']}/points.ply").content
        assert whole.read("kitchen/points.ply") == alone
    listed = service.client.get("/batches").json()["batches"]
    assert listed[0] == done


def test_what_fails_fails_alone_and_is_done_again_on_request(
    service: Running, origin: Origin
) -> None:
    batch = created(
        service,
        {"name": "fine", "urls": [origin.url("/0.png")]},
        {"name": "absent", "urls": [origin.url("/absent.png")]},
    )
    done = ended(service, batch["id"])
    assert states(done) == ["succeeded", "failed"]
    assert done["scenes"][1]["problem"]["type"] == "/problems/fetch-failed"
    with zipfile.ZipFile(io.BytesIO(service.client.get(done["links"]["archive"]).content)) as whole:
        assert {name.partition("/")[0] for name in whole.namelist()} == {"fine", "batch.json"}
    origin.answers["/absent.png"] = plain(PICTURES[2])
    again = service.client.post(done["links"]["retry"]).json()
    assert states(again) == ["succeeded", "waiting"]
    after = ended(service, batch["id"])
    assert states(after) == ["succeeded", "succeeded"]
    assert after["scenes"][0]["link"] == done["scenes"][0]["link"]
    del origin.answers["/absent.png"]


def test_pictures_of_a_scene_without_urls_are_sent_and_once_is_enough(service: Running) -> None:
    batch = created(service, {"name": "sent", "options": {"confidence": 70}}, {"name": "not yet"})
    assert states(batch) == ["expected", "expected"]
    problem(service.client.get(batch["links"]["archive"]), 409, "not-finished")
    address = f"/batches/{batch['id']}/scenes/0"
    problem(service.client.post(address, files=form(b"no picture")), 415, "unsupported-picture")
    first = service.client.post(address, files=form(PICTURES[0])).json()["scenes"][0]
    wait_until(lambda: states(service.client.get(batch["links"]["self"]).json())[0] == "succeeded")
    second = service.client.post(address, files=form(PICTURES[1])).json()["scenes"][0]
    assert first["link"] == second["link"]
    result = service.client.get(first["link"]).json()
    assert result["options"]["confidence"] == 70
    problem(
        service.client.post(f"/batches/{batch['id']}/scenes/2", files=form(PICTURES[0])),
        404,
        "not-found",
    )
    dry = service.client.post(
        f"/batches/{batch['id']}/scenes/1", files=form(PICTURES[0]), data={"dry_run": "true"}
    )
    problem(dry, 422, "invalid-option")


def two_scenes(service: Running, origin: Origin) -> dict[str, Any]:
    """A batch of two scenes, no file of which has been made yet."""
    batch = created(
        service,
        {"name": "kitchen", "urls": [origin.url("/0.png")]},
        {"name": "hall", "urls": [origin.url("/1.png")]},
    )
    done = ended(service, batch["id"])
    assert states(done) == ["succeeded", "succeeded"]
    return done


def test_a_damaged_result_does_not_cut_off_the_archive_of_the_others(
    serve: Serve, origin: Origin
) -> None:
    service = serve(fetch_urls=True, fetch_hosts=origin.url(""))
    batch = two_scenes(service, origin)
    id = batch["scenes"][0]["link"].rpartition("/")[2]
    (folder,) = (service.data_dir / "results").glob(f"{id}*")
    (folder / "result.json").write_text("{")
    problem(service.client.get(batch["scenes"][0]["link"]), 410, "result-damaged")
    content = service.client.get(batch["links"]["archive"]).content
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        assert {name.partition("/")[0] for name in whole.namelist()} == {"hall", "batch.json"}


def test_archives_that_wait_leave_the_web_servers_threads_to_others(
    serve: Serve, origin: Origin
) -> None:
    service = serve(fetch_urls=True, fetch_hosts=origin.url(""))
    batch = two_scenes(service, origin)
    archive, budget = batch["links"]["archive"], service.application.catalogue._budget
    with ExitStack() as stack:
        with budget.taken(2**50):  # as if a large file were being made
            waiting = [  # more than the server has threads
                stack.enter_context(service.client.stream("GET", archive, timeout=20))
                for _ in range(45)
            ]
            answer = service.client.get(batch["scenes"][0]["link"], timeout=20)
            assert answer.status_code == 200
        (content,) = {each.read() for each in waiting}
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None


def test_a_removed_batch_takes_its_results_along_and_a_removed_result_is_said(
    service: Running, origin: Origin
) -> None:
    batch = created(
        service,
        {"name": "one", "urls": [origin.url("/0.png")]},
        {"name": "two", "urls": [origin.url("/1.png")]},
    )
    done = ended(service, batch["id"])
    one, two = (scene["link"] for scene in done["scenes"])
    assert service.client.delete(one).status_code == 204
    found = service.client.get(batch["links"]["self"]).json()
    assert (states(found), found["scenes"][0]["link"]) == (["removed", "succeeded"], None)
    assert service.client.delete(batch["links"]["self"]).status_code == 204
    problem(service.client.get(batch["links"]["self"]), 404, "not-found")
    problem(service.client.get(two), 404, "not-found")


def test_a_scene_that_is_started_while_its_batch_is_removed_is_cancelled(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve(Gate)
    batch = created(service, {"name": "kitchen"})
    id = service.client.post(
        "/reconstruct", files=form(PICTURES[0]), headers={"Prefer": "respond-async"}
    ).json()["id"]
    forget = BatchStore.forget

    def late(store: BatchStore, batch: str) -> Any:
        store.started(store.scenes(batch)[0], id)
        return forget(store, batch)

    monkeypatch.setattr(BatchStore, "forget", late)
    assert service.client.delete(batch["links"]["self"]).status_code == 204
    service.wait_for_state(id, "cancelled")


@pytest.mark.parametrize(
    ("table", "status", "slug", "words"),
    [
        ({"scenes": []}, 422, "invalid-option", "scenes"),
        ({"scenes": [{"name": "a/b"}]}, 422, "invalid-option", "folder"),
        ({"scenes": [{"name": ".."}]}, 422, "invalid-option", "folder"),
        ({"scenes": [{"name": "a"}, {"name": "A"}]}, 422, "invalid-option", "twice"),
        ({"scenes": [{"name": "a", "pictures": 3}]}, 422, "invalid-option", "pictures"),
        (
            {"scenes": [{"name": "hall", "options": {"confidence": 200}}]},
            422,
            "invalid-option",
            "hall: confidence",
        ),
        ({"scenes": [{"name": "a"}], "options": {"dry_run": True}}, 422, "invalid-option", "dry"),
        (
            {"scenes": [{"name": "hall", "urls": ["https://127.0.0.1/a.png"]}]},
            422,
            "url-refused",
            "hall: https://127.0.0.1/a.png",
        ),
        ({"scenes": [{"name": "a", "urls": ["x"] * 3000}]}, 422, "invalid-option", "3000 entries"),
    ],
)
def test_a_table_that_cant_be_meant_is_refused_at_once(
    service: Running, table: dict[str, Any], status: int, slug: str, words: str
) -> None:
    assert words in problem(service.client.post("/batches", json=table), status, slug)["detail"]


def test_a_body_that_is_no_table_or_too_long_a_one_is_refused(service: Running) -> None:
    problem(service.client.post("/batches", content=b"{"), 422, "invalid-option")
    long = b"[" + b" " * 5_000_000
    problem(service.client.post("/batches", content=long), 413, "too-many-bytes")


def test_a_service_that_fetches_nothing_takes_scenes_whose_pictures_are_sent(serve: Serve) -> None:
    service = serve()
    table = {"scenes": [{"name": "a", "urls": ["https://images.example.org/a.png"]}]}
    problem(service.client.post("/batches", json=table), 422, "urls-off")
    assert states(created(service, {"name": "a"})) == ["expected"]


def test_a_batch_is_its_keys_own_and_spends_its_quota(
    serve: Serve, origin: Origin, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = add_key(keys, "alice", Quota(per_hour=1)), add_key(keys, "bob")
    service = serve(fetch_urls=True, fetch_hosts=origin.url(""), api_keys=keys)
    asking, other = ({"Authorization": f"Bearer {key}"} for key in (alice, bob))
    scenes = [{"name": f"{i}", "urls": [origin.url(f"/{i}.png")]} for i in range(2)]
    answer = service.client.post("/batches", json={"scenes": scenes}, headers=asking)
    address = answer.json()["links"]["self"]
    found: dict[str, Any] = {}

    def one_done_and_one_held_back() -> bool:
        nonlocal found
        found = service.client.get(address, headers=asking).json()
        waits = [scene for scene in found["scenes"] if scene["state"] == "waiting"]
        return found["counts"] == {"succeeded": 1, "waiting": 1} and bool(waits[0]["problem"])

    wait_until(one_done_and_one_held_back, lambda: str(found))
    (waiting,) = (scene for scene in found["scenes"] if scene["state"] == "waiting")
    assert waiting["problem"]["type"] == "/problems/quota-exceeded"
    for method, path in (
        ("GET", ""), ("GET", "/archive.zip"), ("POST", "/retry"), ("DELETE", ""),
    ):  # fmt: skip
        problem(service.client.request(method, address + path, headers=other), 404, "not-found")
        problem(service.client.request(method, address + path), 401, "key-required")
    assert service.client.get("/batches", headers=other).json()["batches"] == []
    mine = service.client.get("/batches", headers=asking).json()["batches"]
    assert [batch["id"] for batch in mine] == [found["id"]]


def test_without_keys_who_knows_a_batch_may_look_at_it_and_its_owner_alone_may_change_it(
    service: Running,
) -> None:
    own, other = ({"Owner-Token": letter * 32} for letter in "ab")
    answer = service.client.post("/batches", json={"scenes": [{"name": "a"}]}, headers=own)
    address = answer.json()["links"]["self"]
    assert service.client.get(address, headers=other).status_code == 200
    problem(service.client.delete(address, headers=other), 403, "not-yours")
    problem(service.client.post(f"{address}/retry", headers=other), 403, "not-yours")
    assert service.client.delete(address, headers=own).status_code == 204


def test_older_batches_are_listed_page_by_page(service: Running) -> None:
    own = {"Owner-Token": "c" * 32}
    ids = [
        service.client.post("/batches", json={"scenes": [{"name": "a"}]}, headers=own).json()["id"]
        for _ in range(3)
    ]
    first = service.client.get("/batches?limit=2", headers=own).json()
    assert [batch["id"] for batch in first["batches"]] == ids[:0:-1]
    second = service.client.get(first["next"], headers=own).json()
    assert ([batch["id"] for batch in second["batches"]], second["next"]) == (ids[:1], None)


def test_a_server_that_never_answers_keeps_no_other_clients_scenes_waiting(
    serve: Serve, origin: Origin
) -> None:
    over = threading.Event()

    def never(connection: socket.socket) -> None:
        over.wait()

    origin.answers["/never.png"] = never
    service = serve(fetch_urls=True, fetch_hosts=origin.url(""))
    slow, quick = ({"Owner-Token": letter * 32} for letter in "ab")
    scenes = [{"name": f"{i}", "urls": [origin.url("/never.png")]} for i in range(9)]
    asked = len(origin.requests)
    service.client.post("/batches", json={"scenes": scenes}, headers=slow)
    wait_until(lambda: len(origin.requests) == asked + 2)
    scenes = [{"name": "kitchen", "urls": [origin.url("/0.png")]}]
    batch = service.client.post("/batches", json={"scenes": scenes}, headers=quick).json()
    assert states(ended(service, batch["id"])) == ["succeeded"]
    service.stop()
    over.set()


def test_a_batch_leaves_half_of_the_queue_to_others(serve: Serve, origin: Origin) -> None:
    service = serve(Gate, fetch_urls=True, fetch_hosts=origin.url(""), queue_limit=3)
    scenes = [{"name": f"{i}", "urls": [origin.url("/0.png")]} for i in range(6)]
    batch = created(service, *scenes)
    wait_until(lambda: service.application.store.depth() == 2)
    answer = service.client.post(
        "/reconstruct", files=form(PICTURES[1]), headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert service.client.get(batch["links"]["self"]).json()["counts"]["waiting"] == 4
    service.engine.opened.set()
    assert states(ended(service, batch["id"])) == ["succeeded"] * 6


@pytest.mark.slow
def test_a_batch_goes_on_after_a_kill(
    start: Start, origin: Origin, certificates: trustme.CA, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    certificates.cert_pem.write_to_path(str(authority))
    flags = ("--data-dir", str(tmp_path / "data"), "--fetch-urls", "--fetch-hosts", origin.url(""))
    trusted = {"SSL_CERT_FILE": str(authority)}
    process, url = start(*flags, **trusted)
    scenes = [{"name": f"{i}", "urls": [origin.url(f"/{i % 3}.png")]} for i in range(12)]
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        id = client.post("/batches", json={"scenes": scenes}).json()["id"]
        wait_until(lambda: client.get(f"/batches/{id}").json()["progress"] > 0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, url = start(*flags, **trusted)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        wait_until(lambda: client.get(f"/batches/{id}").json()["ended"])
        batch = client.get(f"/batches/{id}").json()
        assert states(batch) == ["succeeded"] * 12
        listed = client.get("/reconstructions?limit=100").json()["reconstructions"]
        assert len(listed) == 12
