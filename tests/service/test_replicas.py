"""Two true processes of the service on one PostgreSQL and one object store answer for each other's
reconstructions."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.service.http.routes.test_reconstructions import read_events
from tests.service.pictures import form
from tests.service.pipeline.test_work import pictures
from tests.service.replicas import ASYNC, Cluster, Replica
from tests.service.rooms import room
from tests.service.running import PATIENCE, problem, wait_until
from tests.service.servers import ObjectServer, Postgres


@pytest.fixture(scope="module")
def cluster(
    artifact: Path,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    object_server: ObjectServer,
) -> Iterator[Cluster]:
    cluster = Cluster(
        artifact, tmp_path_factory.mktemp("replicas"), postgres, object_server, heartbeat=1
    )
    for _ in range(2):
        cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def pair(cluster: Cluster) -> tuple[Replica, Replica]:
    """Two that run; a test may have ended one."""
    cluster.let_go()
    alive = [replica for replica in cluster.replicas if replica.alive]
    while len(alive) < 2:
        alive.append(cluster.start())
    first, second = (replica.wait_until_ready() for replica in alive)
    return first, second


Told = tuple[int, str, dict[str, Any]]


def other(pair: tuple[Replica, Replica], one: Replica) -> Replica:
    return pair[1] if one is pair[0] else pair[0]


def test_what_one_accepts_the_other_answers_for_to_the_same_bytes(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    answer = a.post(seed=0, headers={})
    assert answer.status_code == 200, answer.text
    assert "heads;dur=" in answer.headers["server-timing"]
    document = answer.json()
    address = document["links"]["self"]
    assert b.client.get(address).json() == document
    names = [
        "points.ply?confidence=20",
        "scene.glb",
        "colmap.zip",
        "scene.npz",
        "depth/1.exr",
        "depth/0/preview.png",
    ]
    for name in [*names, "manifest.json", "everything.zip"]:
        ours, theirs = (replica.client.get(f"{address}/{name}") for replica in pair)
        assert ours.status_code == 200
        assert ours.content == theirs.content, name
        assert ours.headers["etag"] == theirs.headers["etag"], name
    archive = zipfile.ZipFile(io.BytesIO(b.client.get(f"{address}/everything.zip").content))
    for name, told in json.loads(archive.read("manifest.json"))["files"].items():
        assert hashlib.sha256(archive.read(name)).hexdigest() == told["sha256"], name


def test_a_scene_is_refined_by_whoever_runs_it_and_whole_on_both(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    answer = a.client.post(
        "/reconstruct", files=form(*room()), data={"refine": "cameras"}, timeout=PATIENCE
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["refinement"]["kept"] == 3
    address = document["links"]["self"]
    for name in ("points.ply", "colmap.zip", "scene.npz"):
        ours, theirs = (replica.client.get(f"{address}/{name}") for replica in (a, b))
        assert ours.status_code == 200
        assert ours.content == theirs.content, name


def test_the_same_request_is_known_to_both(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    headers = {"Idempotency-Key": "across"}
    first = a.post(seed=10, headers=headers).json()
    assert b.post(seed=10, headers=headers).json()["id"] == first["id"]
    assert b.post(seed=10, headers={}).json() == {**first, "reused": True}
    problem(b.post(seed=20, headers=headers), 422, "idempotency-key-reused")
    listed = [replica.client.get("/reconstructions").json() for replica in pair]
    assert listed[0] == listed[1]
    assert listed[0]["reconstructions"][0]["id"] == first["id"]


def test_events_go_on_from_one_to_the_other(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold()
    id = pair[0].post(seed=100).json()["id"]
    runner = cluster.runner(id)
    elsewhere = other(pair, runner)
    assert elsewhere.wait_for_stage(id, "aggregator")["queue_position"] is None
    seen = followed(elsewhere, id, lambda event: event[2].get("stage") == "aggregator")
    begun = followed(runner, id, lambda event: event[0] >= seen[-1][0])
    assert seen[-1] == begun[-1], (
        "what is told elsewhere is what was told here, under the same number"
    )
    threading.Timer(1.0, cluster.let_go).start()
    headers = {"Last-Event-ID": str(begun[-1][0])}
    rest = read_events(elsewhere.client.get(f"/reconstructions/{id}/events", headers=headers).text)
    numbers = [number for number, _, _ in (*begun, *rest)]
    assert numbers == sorted(set(numbers))
    last, kind, told = rest[-1]
    assert (kind, told["state"]) == ("end", "succeeded")
    for replica in pair:  # who has seen the end is sent home by both, and only who has
        path = f"/reconstructions/{id}/events"
        assert replica.client.get(path, headers={"Last-Event-ID": str(last)}).status_code == 204
        again = read_events(replica.client.get(path, headers={"Last-Event-ID": str(last - 1)}).text)
        assert [(number, kind) for number, kind, _ in again] == [(last, "end")]


def followed(replica: Replica, id: str, last: Callable[[Told], bool]) -> list[Told]:
    """Events up to the `last` one."""
    text = ""
    with replica.client.stream("GET", f"/reconstructions/{id}/events") as stream:
        for part in stream.iter_text():
            text += part
            events = read_events(text[: text.rfind("\n\n") + 2])
            for place, event in enumerate(events):
                if last(event):
                    return events[: place + 1]
    raise AssertionError(text)


def test_who_waits_gets_the_result_wherever_it_is_made(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold()
    first = pair[0].post(seed=150).json()["id"]
    busy = cluster.runner(first)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(busy.post, seed=160, headers={})  # only the other one can run it
        wait_until(lambda: newest(busy) != first)
        runner = cluster.runner(newest(busy))
        cluster.let_go()
        answer = waiting.result()
    assert runner is other(pair, busy)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == newest(busy)
    assert "heads;dur=" in answer.headers["server-timing"]


def newest(replica: Replica) -> str:
    listed: dict[str, Any] = replica.client.get("/reconstructions").json()["reconstructions"][0]
    return str(listed["id"])


def test_work_is_shared_and_cancelled_from_anywhere(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold()
    ids = [pair[0].post(seed=200 + 10 * i).json()["id"] for i in range(4)]
    runners = [cluster.runner(id) for id in ids[:2]]
    assert set(runners) == set(pair)
    assert pair[1].state(ids[3])["queue_position"] == 3
    assert other(pair, runners[0]).client.delete(f"/reconstructions/{ids[3]}").status_code == 204
    answer = other(pair, runners[0]).client.delete(f"/reconstructions/{ids[0]}")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    for replica in pair:
        replica.wait_for_state(ids[0], "cancelled")
        replica.wait_for_state(ids[3], "cancelled")
    cluster.let_go()
    for id in ids[1:3]:
        pair[1].wait_for_state(id, "succeeded")


def test_a_result_that_is_removed_through_one_is_gone_from_the_other(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    id = a.post(seed=30, headers={}).json()["id"]
    for replica in pair:
        assert replica.client.get(f"/reconstructions/{id}/points.ply").status_code == 200
    assert a.client.delete(f"/reconstructions/{id}").status_code == 204
    for path in ("", "/points.ply", "/events"):
        problem(b.client.get(f"/reconstructions/{id}{path}"), 404, "not-found")


def test_what_a_killed_replica_ran_is_finished_by_the_other(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold()
    id = pair[0].post(seed=300).json()["id"]
    runner = cluster.runner(id)
    runner.kill()
    cluster.let_go()
    left = other(pair, runner)
    assert left.wait_for_state(id, "succeeded")["id"] == id
    assert cluster.row(id)["token"] == 2
    assert left.client.get(f"/reconstructions/{id}/points.ply").status_code == 200


def test_chunks_that_one_finishes_are_seen_by_who_follows_at_the_other(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold(after=2)
    answer = pair[0].client.post(
        "/reconstruct", files=form(*pictures(9)), data={"passes": "4"}, headers=ASYNC
    )
    id = answer.json()["id"]
    runner = cluster.runner(id)
    elsewhere = other(pair, runner)
    seen, own = (
        [
            event
            for event in followed(replica, id, lambda event: event[2].get("chunk") == 1)
            if event[1] == "chunk"
        ]
        for replica in (elsewhere, runner)
    )
    assert seen == own
    assert [picture["index"] for _, _, data in seen for picture in data["pictures"]] == [*range(7)]
    for _, _, data in seen:
        clouds = [replica.client.get(data["links"]["points"]) for replica in pair]
        assert {cloud.status_code for cloud in clouds} == {200}
        assert clouds[0].content == clouds[1].content
        assert f"element vertex {data['points']}".encode() in clouds[0].content
    cluster.let_go()
    elsewhere.wait_for_state(id, "succeeded")
    problem(elsewhere.client.get(seen[0][2]["links"]["points"]), 404, "not-found")


def test_passes_that_a_killed_replica_had_finished_are_not_run_again_by_the_other(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold(after=2)
    others = reversed(pictures(9))  # in another order, so that no earlier result is the answer
    answer = pair[0].client.post(
        "/reconstruct", files=form(*others), data={"passes": "4"}, headers=ASYNC
    )
    id = answer.json()["id"]
    runner = cluster.runner(id)
    left = other(pair, runner)
    followed(runner, id, lambda event: event[2].get("chunk") == 1)
    runner.kill()
    cluster.let_go()
    run = left.wait_for_state(id, "succeeded")["run"]
    assert (run["passes"], run["resumed_passes"]) == (3, 2)


def test_a_replica_that_slept_through_its_lease_publishes_nothing(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold()
    id = pair[0].post(seed=400).json()["id"]
    runner = cluster.runner(id)
    left = other(pair, runner)
    runner.signal(signal.SIGSTOP)
    try:
        cluster.let_go()
        document = left.wait_for_state(id, "succeeded")
        recorded = cluster.row(id)
        depth = left.client.get(f"/reconstructions/{id}/depth/0.npy").content
    finally:
        runner.signal(signal.SIGCONT)  # its pass ends at once, as if nothing had happened
    wait_until(lambda: f"{id} was taken up by another replica" in runner.log.read_text())
    assert cluster.row(id) == recorded
    assert recorded["token"] == 2
    for replica in pair:
        assert replica.state(id) == document
        assert replica.client.get(f"/reconstructions/{id}/depth/0.npy").content == depth
    wait_until(lambda: cluster.attempts(id) == {"2"})
    assert runner.post(seed=450, headers={}).status_code == 200


def test_a_replica_that_is_told_to_end_leaves_its_work_to_the_other(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    cluster.hold()
    id = pair[0].post(seed=500).json()["id"]
    runner = cluster.runner(id)
    left = other(pair, runner)
    runner.signal(signal.SIGTERM)
    wait_until(lambda: cluster.row(id)["token"] == 2)
    cluster.let_go()
    assert left.wait_for_state(id, "succeeded")["id"] == id
    assert cluster.row(id)["attempts"] == 1, "a shutdown costs no attempt"
    assert runner.process.wait(60) == 0


def test_an_outage_of_the_database_is_told_and_survived(
    cluster: Cluster, pair: tuple[Replica, Replica], postgres: Postgres
) -> None:
    cluster.hold()
    id = pair[0].post(seed=600).json()["id"]
    b = other(pair, cluster.runner(id))
    postgres.stop()
    try:
        for path in (
            f"/reconstructions/{id}",
            f"/reconstructions/{id}/events",
            "/reconstructions",
            "/readyz",
        ):
            answer = b.client.get(path)
            problem(answer, 503, "store-unavailable")
            assert answer.headers["retry-after"]
        problem(b.post(seed=650), 503, "store-unavailable")
        assert b.client.get("/livez").status_code == 200
        assert "quantvggt_ready 0.0" in b.client.get("/metrics").text
        cluster.let_go()  # the end comes while it can't be recorded
    finally:
        postgres.start()
    wait_until(lambda: b.client.get("/readyz").status_code == 200)
    assert b.wait_for_state(id, "succeeded")["id"] == id


def test_an_outage_of_the_object_store_is_told_and_survived(
    cluster: Cluster, pair: tuple[Replica, Replica], object_server: ObjectServer
) -> None:
    cluster.hold()
    id = pair[0].post(seed=700).json()["id"]
    runner = cluster.runner(id)
    b = other(pair, runner)
    b.wait_for_stage(id, "aggregator")
    object_server.hide()
    try:
        answer = b.post(seed=760)
        problem(answer, 503, "store-unavailable")
        assert answer.headers["retry-after"]
        cluster.let_go()
        wait_until(lambda: f"{id} goes back into the queue" in runner.log.read_text())
        assert b.state(id)["state"] in ("queued", "running")
    finally:
        object_server.show()
    assert b.wait_for_state(id, "succeeded")["id"] == id


def test_no_log_tells_a_secret_or_a_surprise(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        text = replica.log.read_text()
        assert "secret" not in text
        assert "Traceback" not in text, text
