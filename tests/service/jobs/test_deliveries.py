"""Files of results that are sent to URLs of a request, by a running service."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.store import S3Store, from_url
from sqlalchemy import make_url, select

from quantvggt import Client
from quantvggt.command import main
from service.inputs.remote.fetcher import Fetcher
from service.jobs import deliveries as room
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.deliveries import Deliveries
from service.jobs.job import Job, new_id
from service.jobs.schema import deliveries
from service.jobs.store import JobStore
from service.settings import AccessSettings, Limits
from service.states import JobState
from service.storage import bucket
from service.storage.outputs import Outputs
from service.telemetry.metrics import Metrics
from tests.service.pictures import encode, form, make_picture
from tests.service.receiver import Receiver, receiving
from tests.service.running import Running, Serve, problem, wait_until
from tests.service.servers import ObjectServer
from tests.service.stress.conftest import Start, start

__all__ = ["start"]  # a fixture


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def service(serve: Serve, receiver: Receiver) -> Running:
    return serve(send_outputs=True, fetch_hosts=receiver.host)


def ask(client: httpx.Client, urls: Any, **headers: str) -> httpx.Response:
    return client.post(
        "/reconstruct",
        files=form(encode(make_picture())),
        data={"output_urls": urls if isinstance(urls, str) else json.dumps(urls)},
        headers=headers,
    )


def told(service: Running, id: str) -> list[dict]:
    return service.client.get(f"/reconstructions/{id}").json()["deliveries"]


def wait_for(service: Running, id: str, *states: str) -> list[dict]:
    wait_until(lambda: [each["state"] for each in told(service, id)] == [*states])
    return told(service, id)


def test_files_are_sent_to_their_urls_as_a_download_gives_them(
    service: Running, receiver: Receiver
) -> None:
    urls = {
        "scene.glb": f"{receiver.host}/a.glb?signature=secret",
        "cameras.json": f"{receiver.host}/b.json",
    }
    answer = ask(service.client, urls).json()
    assert [each["file"] for each in answer["deliveries"]] == ["scene.glb", "cameras.json"]
    id = answer["id"]
    assert wait_for(service, id, "delivered", "delivered")[0] == {
        "file": "scene.glb", "host": "127.0.0.1", "state": "delivered", "attempts": 1,
        "reason": None,
    }  # fmt: skip
    sent = {path: (headers, body) for path, headers, body in receiver.calls}
    for path, name in (("/a.glb?signature=secret", "scene.glb"), ("/b.json", "cameras.json")):
        headers, body = sent[path]
        download = service.client.get(f"/reconstructions/{id}/{name}")
        assert body == download.content
        assert headers["Content-Type"] == download.headers["content-type"]
        assert headers["Content-Length"] == str(len(body))
    assert service.metric('quantvggt_deliveries_total{outcome="delivered"}') == 2
    assert "output_urls" not in service.client.get(f"/reconstructions/{id}").json()["options"]


def test_a_url_is_forgotten_once_its_file_was_sent(service: Running, receiver: Receiver) -> None:
    id = ask(service.client, {"points.ply": f"{receiver.host}/a?signature=secret"}).json()["id"]
    wait_for(service, id, "delivered")
    with service.application.store.database.transaction() as connection:
        assert connection.scalars(select(deliveries.c.url)).all() == [None]


def test_a_large_file_is_sent_piece_by_piece(
    service: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_CHUNK", 1000)
    id = ask(service.client, {"everything.zip": f"{receiver.host}/all.zip"}).json()["id"]
    wait_for(service, id, "delivered")
    ((_, _, body),) = receiver.calls
    assert len(body) > 10_000
    assert body == service.client.get(f"/reconstructions/{id}/everything.zip").content


def test_a_presigned_url_of_an_object_store_takes_a_file(
    serve: Serve, object_server: ObjectServer
) -> None:
    environment = object_server.environment
    endpoint = environment["AWS_ENDPOINT_URL"]
    store = S3Store(
        "recon",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="key",
        secret_access_key="secret",
        client_options={"allow_http": True},
    )
    url = obstore.sign(store, "PUT", "kitchen/scene.glb", timedelta(hours=1))
    assert "X-Amz-Signature" in url
    service = serve(send_outputs=True, fetch_hosts=endpoint)
    id = ask(service.client, {"scene.glb": url}).json()["id"]
    wait_for(service, id, "delivered")
    stored = obstore.get(store, "kitchen/scene.glb")
    assert stored.attributes["Content-Type"] == "model/gltf-binary"
    download = service.client.get(f"/reconstructions/{id}/scene.glb")
    assert bytes(stored.bytes()) == download.content


def test_an_earlier_result_is_sent_too(service: Running, receiver: Receiver) -> None:
    first = ask(service.client, {"points.ply": f"{receiver.host}/first"}).json()["id"]
    wait_for(service, first, "delivered")
    assert ask(service.client, {"points.ply": f"{receiver.host}/second"}).json()["id"] == first
    wait_until(lambda: [call[0] for call in receiver.calls] == ["/first", "/second"])
    wait_for(service, first, "delivered")


def test_what_fails_is_sent_again_until_it_is_given_up(
    service: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WAITS", (0.01, 0.01))
    receiver.status = 403
    id = ask(service.client, {"points.ply": f"{receiver.host}/denied"}).json()["id"]
    (failed,) = wait_for(service, id, "failed")
    assert failed["reason"] == "Its server answered with status 403."
    assert failed["attempts"] == len(receiver.calls) == 3
    assert service.metric('quantvggt_deliveries_total{outcome="failed"}') == 2
    assert service.metric('quantvggt_deliveries_total{outcome="given-up"}') == 1


def test_a_server_that_nobody_runs_any_more_is_said_while_it_is_tried_again(
    service: Running, receiver: Receiver
) -> None:
    receiver.server.shutdown()
    receiver.server.server_close()
    id = ask(service.client, {"points.ply": f"{receiver.host}/gone"}).json()["id"]
    wait_until(lambda: told(service, id)[0]["reason"] is not None)
    (pending,) = told(service, id)
    assert pending["state"] == "pending"
    assert "not reached" in pending["reason"]


def test_a_file_that_the_result_does_not_have_fails_at_once_and_the_others_are_sent(
    service: Running, receiver: Receiver
) -> None:
    urls = {"tracks.json": f"{receiver.host}/t", "points.ply": f"{receiver.host}/p"}
    id = ask(service.client, urls).json()["id"]
    tracks, _ = wait_for(service, id, "failed", "delivered")
    assert "query_points" in tracks["reason"]
    assert [call[0] for call in receiver.calls] == ["/p"]


def test_removing_the_reconstruction_takes_back_what_is_still_to_be_sent(
    service: Running, receiver: Receiver
) -> None:
    receiver.status = 500
    id = ask(service.client, {"points.ply": f"{receiver.host}/p"}).json()["id"]
    wait_until(lambda: told(service, id)[0]["reason"] is not None)
    service.client.delete(f"/reconstructions/{id}")
    with service.application.store.database.transaction() as connection:
        assert connection.execute(select(deliveries)).all() == []


def test_a_file_that_is_still_to_be_sent_survives_a_restart(
    serve: Serve, receiver: Receiver
) -> None:
    settings: dict[str, Any] = {"send_outputs": True, "fetch_hosts": receiver.host}
    service = serve(**settings)
    receiver.status = 503
    id = ask(service.client, {"points.ply": f"{receiver.host}/late"}).json()["id"]
    wait_until(lambda: len(receiver.calls) == 1)
    service.stop()
    receiver.status = 200
    again = serve(**settings, data_dir=service.data_dir)
    assert wait_for(again, id, "delivered")[0]["attempts"] == 2


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_a_file_is_taken_by_one_replica_once_its_job_has_succeeded(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    location: Any = tmp_path / "jobs.sqlite3"
    if place == "postgresql":
        url = make_url(request.getfixturevalue("postgres").url())
        location = url.set(drivername="postgresql+psycopg")
    store = JobStore(Database(location), Bounds(4, 100.0))
    now = time.time()
    fetcher = Fetcher(AccessSettings(), Limits())
    catalogue: Any = None  # nothing is made here
    replicas = [
        Deliveries(store, catalogue, fetcher, Outputs(), Metrics(None, 1)) for _ in range(2)
    ]
    good = store.add(Job(new_id(), "", "good", 2, 1.0, now + 60, now))
    bad = store.add(Job(new_id(), "", "bad", 2, 1.0, now + 60, now))
    targets = [("points.ply", "https://example.org/a")]
    for job in (good, bad):
        for _ in range(2):  # the second order is the first again
            store.order(job.id, partial(replicas[0].order, targets=targets))
    assert replicas[0].take(8) == []
    store.cancel(bad.id)
    running = store.claim("worker")
    assert running is not None
    store.finish(running, JobState.SUCCEEDED)
    (taken,) = replicas[1].take(8)
    assert (taken.job.id, taken.file, taken.attempts) == (good.id, "points.ply", 0)
    assert replicas[0].take(8) == []
    assert replicas[0].of(bad.id) == []
    store.close()


def test_one_client_may_have_only_so_many_files_waiting(
    service: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_MOST_PENDING", 1)
    receiver.status = 500
    assert ask(service.client, {"points.ply": f"{receiver.host}/p"}).status_code == 200
    answer = ask(service.client, {"points.ply": f"{receiver.host}/q"})
    assert "at most 1 may be" in problem(answer, 429, "queue-full")["detail"]


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        ({"points.ply": "https://example.org/"}, "points.ply"),
        ({"points.ply": "http://127.0.0.1:9/"}, "points.ply"),
        ({"points.ply": "s3://bucket/key"}, "points.ply"),
        ({"points.ply": "x" * 3000}, "2048"),
        ({"points.ply": 7}, "string"),
        ({"everything": "https://example.org/"}, "everything.zip"),
        ({"depth/0.png": "https://example.org/"}, "everything.zip"),
        ({}, "at least 1"),
        ("points.ply", "JSON"),
        ("[]", "object"),
    ],
)
def test_what_is_never_sent_is_refused_and_the_answer_says_what_is_wrong(
    service: Running, urls: Any, complaint: str
) -> None:
    refused = problem(ask(service.client, urls), 422, "invalid-option")
    assert refused["option"] == "output_urls"
    assert complaint in refused["detail"]


def test_two_files_never_go_to_one_url(service: Running, receiver: Receiver) -> None:
    urls = dict.fromkeys(("points.ply", "scene.glb"), f"{receiver.host}/same")
    assert "URL of its own" in problem(ask(service.client, urls), 422, "invalid-option")["detail"]


def test_nothing_is_sent_unless_the_operator_says_so(serve: Serve) -> None:
    service = serve()
    answer = ask(service.client, {"points.ply": "https://example.org/"})
    assert "--send-outputs" in problem(answer, 422, "invalid-option")["detail"]
    assert service.client.get("/capabilities").json()["output_urls"] is False


def test_the_python_client_and_the_command_have_files_sent(
    service: Running, receiver: Receiver, tmp_path: Path
) -> None:
    picture, address = tmp_path / "a.png", f"http://127.0.0.1:{service.port}"
    picture.write_bytes(encode(make_picture()))
    Client(address).reconstruct([picture], output_urls={"points.ply": f"{receiver.host}/python"})
    text = json.dumps({"points.ply": f"{receiver.host}/command"})
    arguments = ["reconstruct", str(picture), "--server", address, "--out", str(tmp_path / "out")]
    assert main([*arguments, "--option", f"output_urls={text}"]) == 0
    wait_until(lambda: {call[0] for call in receiver.calls} == {"/python", "/command"})


def test_scenes_of_a_batch_are_sent_each_to_its_own_urls(
    service: Running, receiver: Receiver
) -> None:
    scenes = [
        {"name": name, "options": {"output_urls": {"points.ply": f"{receiver.host}/{name}"}}}
        for name in ("kitchen", "hall")
    ]
    batch = service.client.post("/batches", json={"scenes": scenes}).json()["id"]
    for number in range(2):
        service.client.post(
            f"/batches/{batch}/scenes/{number}", files=form(encode(make_picture(seed=number)))
        )
    wait_until(lambda: sorted(call[0] for call in receiver.calls) == ["/hall", "/kitchen"])
    bad = [{"name": "a", "options": {"output_urls": {"points.ply": "https://example.org/"}}}]
    refused = service.client.post("/batches", json={"scenes": bad})
    assert problem(refused, 422, "invalid-option")["detail"].startswith("a: output_urls")


def objects(object_store: str) -> dict[str, bytes]:
    """What lies in the object store, by path."""
    store = from_url(object_store, client_options={"allow_http": True})
    paths = [meta["path"] for metas in obstore.list(store) for meta in metas]
    return {path: bytes(obstore.get(store, path).bytes()) for path in paths}


def test_files_are_copied_below_a_prefix_of_an_object_store(
    serve: Serve, object_store: str
) -> None:
    service = serve(output_prefixes=object_store)
    data = {"output": f"{object_store}/my kitchen/", "outputs": "scene.glb,points.ply"}
    files = form(encode(make_picture()))
    answer = service.client.post("/reconstruct", files=files, data=data).json()
    assert "output" not in answer["options"]
    wait_for(service, answer["id"], "delivered", "delivered")
    stored = objects(object_store)
    assert set(stored) == {"my kitchen/scene.glb", "my kitchen/points.ply"}
    for path, content in stored.items():
        name = path.rpartition("/")[2]
        assert content == service.client.get(f"/reconstructions/{answer['id']}/{name}").content


def test_each_scene_of_a_batch_has_its_own_folder_below_the_prefix(
    serve: Serve, object_store: str
) -> None:
    service = serve(output_prefixes=object_store)
    scenes = [{"name": "kitchen"}, {"name": "hall", "options": {"outputs": "points.ply"}}]
    batch = service.client.post(
        "/batches", json={"options": {"output": f"{object_store}/today"}, "scenes": scenes}
    ).json()["id"]
    for number in range(2):
        service.client.post(
            f"/batches/{batch}/scenes/{number}", files=form(encode(make_picture(seed=number)))
        )
    expected = {"today/kitchen/everything.zip", "today/hall/points.ply"}
    wait_until(lambda: set(objects(object_store)) == expected)


def test_an_object_store_that_is_away_gets_the_files_later(
    serve: Serve, object_server: ObjectServer, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bucket._RETRIES, "max_retries", 0)
    monkeypatch.setattr(room, "WAITS", (0.1,) * 1000)
    service = serve(output_prefixes=object_store)
    object_server.hide()
    try:
        id = service.client.post(
            "/reconstruct",
            files=form(encode(make_picture())),
            data={"output": object_store, "outputs": "points.ply"},
        ).json()["id"]
        wait_until(lambda: told(service, id)[0]["reason"] is not None)
        assert told(service, id)[0]["reason"] == "The object store did not take it."
    finally:
        object_server.show()
    wait_for(service, id, "delivered")
    assert set(objects(object_store)) == {"points.ply"}


@pytest.mark.slow
def test_a_file_that_is_still_to_be_sent_survives_a_kill(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    flags = ("--data-dir", str(tmp_path / "data"), "--send-outputs", "--fetch-hosts", receiver.host)
    receiver.status = 500
    process, url = start(*flags)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        id = ask(client, {"points.ply": f"{receiver.host}/p"}).json()["id"]
        wait_until(lambda: len(receiver.calls) == 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    receiver.status = 200
    _, url = start(*flags)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        download = client.get(f"/reconstructions/{id}/points.ply").content
    wait_until(lambda: len(receiver.calls) == 2)
    assert receiver.calls[1][2] == download
